"""What one decoder step of one session gives."""

from __future__ import annotations

from dataclasses import dataclass

from .search import Found


@dataclass(frozen=True)
class Reading:
    """The token, and how sure the model was (natural logarithms)."""

    token: int
    log_probability: float
    pad_margin: float  # logit[P] less the best other logit
    word_margin: float  # logit[W] less logit[P]
    words: tuple[Found, ...] = ()  # whole words at once, of a listener that searches for them
    settled: bool = True  # all that is due has been written; a search waits for the end of an encoder block
