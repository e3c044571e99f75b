"""16 kHz waveform to text, words and times: a listener, whole or live.

Names are resolved on first use: transcripts and delays are read by code that must not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .batch import Batch
    from .events import DelayChanged, Draft, Event, Final, Mark, Partial
    from .rut import RutRules
    from .stream import ASR, Session
    from .transcript import Transcript, Word

_HOME = {
    "ASR": ".stream",
    "Batch": ".batch",
    "DelayChanged": ".events",
    "Draft": ".events",
    "Event": ".events",
    "Final": ".events",
    "Mark": ".events",
    "Partial": ".events",
    "RutRules": ".rut",
    "Session": ".stream",
    "Transcript": ".transcript",
    "Word": ".transcript",
}

__all__ = [
    "ASR",
    "Batch",
    "DelayChanged",
    "Draft",
    "Event",
    "Final",
    "Mark",
    "Partial",
    "RutRules",
    "Session",
    "Transcript",
    "Word",
]


def __getattr__(name: str) -> object:
    """Import a public name from the module it lives in (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'rillvox.asr' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value
