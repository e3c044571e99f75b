"""What a listening session says, in the order in which it became known.

The streaming layers put a stream's name on these and translate them; nothing here knows of sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .transcript import Transcript, Word


@dataclass(frozen=True)
class Partial:
    """New text, to be appended; never revised. The sum of all partial texts is the final text.

    words: those that became complete with this piece; stable_until: the audio, in seconds, that all text so
    far accounts for.
    """

    text: str
    words: tuple[Word, ...] = ()
    stable_until: float = 0.0


@dataclass(frozen=True)
class Draft:
    """What a faster reading of the same audio expects to follow the text so far; replaces the last draft."""

    text: str


@dataclass(frozen=True)
class DelayChanged:
    """From `at` seconds of the audio on, text follows `delay_ms` behind."""

    delay_ms: int
    at: float


@dataclass(frozen=True)
class Mark:
    """All text of the audio before `mark(id)` has been said."""

    id: str


@dataclass(frozen=True)
class Final:
    """The end of a finished session. The counts are the model's: forced positions, and those after them."""

    transcript: Transcript
    prompt_tokens: int
    completion_tokens: int


Event: TypeAlias = Partial | Draft | DelayChanged | Mark | Final
