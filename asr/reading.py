"""What one decoder step of one session gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """The token, and how sure the model was (natural logarithms)."""

    token: int
    log_probability: float
    pad_margin: float  # logit[P] less the best other logit
    word_margin: float  # logit[W] less logit[P]
