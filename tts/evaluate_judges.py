"""What listens to a sentence: phones, words, likeness, and quality where a judge of it is installed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import isnan
from typing import Any, Protocol

import numpy as np

from ..audio import Audio
from ..codec.config import SAMPLE_RATE
from ..training.normalize import normalize
from ..training.score import char_edits, edits, word_edits
from .evaluate_people import Likeness, Person, Wave
from .scoreboard import Said

QUIET_DB = 40.0  # below the loudest 10 ms: what is quieter at the ends is not part of the sentence
SILENCE = 0.2  # seconds that are put at both ends before quality is judged
WINDOW = SAMPLE_RATE // 100

Transcriber = Callable[[Wave], str]  # of 16 kHz mono
Quality = Callable[[Wave], float]  # NaN for what it can't tell


class PhoneJudge(Protocol):
    """Hears phones."""

    def said(self, text: str, /) -> list[str]: ...
    def heard(self, wave: Wave, /) -> list[str]: ...


class Judges:
    """All that listen.

    Args:
        identity: of the judges, their weights and versions: what was found by others is not to be reused.
        transcribers: recognisers by name; each is a column of word errors.
        quality: judges that need no reference, by name. They hear every sentence with the same silence at
            both ends, because some of them count it.
    """

    def __init__(
        self,
        identity: str,
        phones: PhoneJudge,
        transcribers: Mapping[str, Transcriber],
        similarity: Likeness,
        quality: Mapping[str, Quality],
    ) -> None:
        self.identity = identity
        self.phones, self.transcribers, self.similarity = phones, transcribers, similarity
        self.quality = quality
        self.said = cache(phones.said)

    @property
    def names(self) -> list[str]:
        """For a report."""
        return ["phones", *self.transcribers, "likeness", *self.quality]

    def key(self, text: str, people: Sequence[Person], person: Person | None) -> str:
        """Of all that decides on what is found in a wave, as hexadecimal digits."""
        digest = hashlib.sha256(self.identity.encode())
        digest.update(repr((normalize(text), self.said(text), sorted(self.names))).encode())
        if person is not None:
            digest.update(person.name.encode())
            for other in people:
                digest.update(other.name.encode() + other.likeness.tobytes())
        return digest.hexdigest()

    def judge(
        self,
        text: str,
        wave: Wave,
        people: Sequence[Person] = (),
        person: Person | None = None,
        **more: Any,
    ) -> Said:
        """Of one sentence, float32 [n] at 24 kHz.

        Args:
            people: those among whom its speaker is looked for.
            person: whose voice it is to be, one of them; None: nobody's.
            more: fields of `Said` that are known already.
        """
        heard = edits(self.said(text), self.phones.heard(wave))
        plain, wide = normalize(text), Audio(wave, SAMPLE_RATE).resample(16000).samples
        said = {name: normalize(transcribe(wide)) for name, transcribe in self.transcribers.items()}
        nearest = likeness = None
        if person is not None:
            own = self.similarity.embed(wave)
            scores = {other.name: float(own @ other.likeness) for other in people}
            likeness = scores[person.name]
            nearest = likeness == max(scores.values())
        even = framed(wave)
        scored = {name: quality(even) for name, quality in self.quality.items()}
        return Said(
            heard,
            {name: word_edits(plain, hypothesis) for name, hypothesis in said.items()},
            {name: char_edits(plain, hypothesis) for name, hypothesis in said.items()},
            len(wave) / SAMPLE_RATE,
            nearest,
            likeness,
            {name: score for name, score in scored.items() if not isnan(score)},
            **more,
        )


def framed(wave: Wave) -> Wave:
    """The wave with 0.2 s of silence at both ends in place of whatever quiet was there."""
    count = len(wave) // WINDOW
    power = np.square(wave[: count * WINDOW]).reshape(count, WINDOW).mean(1, dtype=np.float64)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-QUIET_DB / 10))
    if len(loud):
        wave = wave[loud[0] * WINDOW : (loud[-1] + 1) * WINDOW]
    return np.pad(wave, round(SILENCE * SAMPLE_RATE))
