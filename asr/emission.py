"""How long after its sound a word stands on the screen.

A word is emitted when its last character is shown and never changed again. Its delay is that moment minus the
end of the word in the audio, and only words recognised correctly count. Word ends come with the list, from a
forced alignment of the reference; where they are missing there is nothing to measure against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import ConfigError
from ..training.manifests import Clip
from ..training.normalize import normalize
from ..training.score import align
from .hearing import Hearing


@dataclass
class Emissions:
    """Delays of the words of a list, in seconds: of the model alone, and with the machine's time added."""

    algorithmic: list[float] = field(default_factory=list[float])
    total: list[float] = field(default_factory=list[float])
    words: int = 0  # reference words with known ends
    never: int = 0  # of these, not recognised

    def add(self, hearing: Hearing, reference: str, ends: Sequence[float]) -> None:
        """Take one clip: its normalised reference, and the end of each word of it in seconds."""
        wanted = reference.split()
        self.words += len(wanted)
        heard = _words_with_ends(hearing.text)
        pairs = align(wanted, [word for word, _ in heard])
        found = 0
        for i, j in pairs:
            if i is None or j is None or wanted[i] != heard[j][0]:
                continue
            shown = hearing.shown_at(heard[j][1])
            if shown is not None:
                found += 1
                self.algorithmic.append(shown[0] - ends[i])
                self.total.append(shown[0] + shown[1] - ends[i])
        self.never += len(wanted) - found

    def report(self) -> dict[str, float] | None:
        """Median and 90th percentile in ms, and the share never emitted; None without word ends."""
        if not self.words:
            return None
        report = {"words": float(len(self.algorithmic)), "never": self.never / self.words}
        for name, delays in (("algorithmic", self.algorithmic), ("total", self.total)):
            if delays:
                median, high = np.percentile(delays, [50, 90]).tolist()
                report |= {f"{name}_median_ms": 1000 * median, f"{name}_p90_ms": 1000 * high}
        return report


def word_times(clip: Clip, reference: str) -> list[tuple[float, float]] | None:
    """(start, end) in seconds of the words of `reference`, from `words` of the manifest: [text, start, end].

    Raises:
        ConfigError: `words` is there, but not like this, or not one for each word of the reference.
    """
    rows = clip.extra.get("words")
    if rows is None:
        return None
    try:
        times = [(str(text), float(start), float(end)) for text, start, end in rows]
    except (TypeError, ValueError):
        raise ConfigError(f"clip {clip.id}: words: expected a list of [text, start, end]") from None
    if " ".join(text for text, _, _ in times) != reference:
        raise ConfigError(
            f"clip {clip.id}: words: not the words of the text, in the form of the normalisation"
        )
    return [(start, end) for _, start, end in times]


def _words_with_ends(text: str) -> list[tuple[str, int]]:
    """Normalised words of a text, with the index behind the last character of the written word.

    What is spelled out as several words ends for all of them where the written form ends.
    """
    words: list[tuple[str, int]] = []
    at = 0
    for written in text.split():
        at = text.index(written, at) + len(written)
        words += [(word, at) for word in normalize(written).split()]
    return words
