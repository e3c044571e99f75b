"""What speaking gives: pieces of audio, words with their times, and why it ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..audio import Audio

Finish = Literal["stop", "cancelled", "length", "silence", "loop"]
# From good to bad: asked for; asked for; cut off at the longest that so much text takes; nothing to hear; the
# same sounds over and over.
FINISHES: tuple[Finish, ...] = ("stop", "cancelled", "length", "silence", "loop")


@dataclass(frozen=True)
class SpokenWord:
    """A piece of the text as typed, and when it is said, in seconds from the begin of the audio."""

    text: str
    source: tuple[int, int]
    start: float
    end: float


@dataclass(frozen=True)
class Piece:
    """A part of what is spoken, as it is given out: float32 [n] at 24 kHz, and the words that are over."""

    samples: NDArray[np.float32]
    words: list[SpokenWord] = field(default_factory=list[SpokenWord])
    finish: Finish | None = None  # of the sentence that ends here


@dataclass(frozen=True)
class Synthesis:
    """What `TTS.synthesize` gives: 24 kHz audio, when each word is said, and why it ended.

    `words` is empty for models that read their text before they speak, as the released Voxtral TTS: they do
    not know when they say what. `finish_reason` is the worst of all sentences', in the order of `FINISHES`.
    """

    audio: Audio
    words: list[SpokenWord]
    finish_reason: Finish
    seed: int
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Pause:
    """Silence that the text asks for."""

    seconds: float


def worst(finishes: Iterable[Finish]) -> Finish:
    """The worst of them; of none, "stop"."""
    found: Finish = "stop"
    for finish in finishes:
        if FINISHES.index(finish) > FINISHES.index(found):
            found = finish
    return found
