"""How true the times and the confidences of words are.

Both need to know which heard word is which of the reference: the alignment of least edits tells, and only
equal words count as right. Times come with the list, from a forced alignment of the reference, with a grid of
20 ms and a bias of its own of a frame or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..training.normalize import normalize
from ..training.score import align
from .hearing import Hearing

BINS = 10


@dataclass
class WordScores:
    """Start errors in seconds of words heard right, and for every word heard its confidence and its truth."""

    starts: list[float] = field(default_factory=list[float])
    confidences: list[float] = field(default_factory=list[float])
    right: list[bool] = field(default_factory=list[bool])

    def add(
        self, hearing: Hearing, reference: str, times: Sequence[tuple[float, float]] | None = None
    ) -> None:
        """Take one clip: its normalised reference, and (start, end) of each word of it where known."""
        wanted = reference.split()
        heard = [(part, word) for word in hearing.words for part in normalize(word.text).split()]
        matched: dict[int, int] = {}
        for i, j in align(wanted, [part for part, _ in heard]):
            if i is not None and j is not None and wanted[i] == heard[j][0]:
                matched[j] = i
        counted: set[int] = set()
        for j, (_, word) in enumerate(heard):
            if id(word) in counted:
                continue  # a written word that is spelled out as several counts once
            counted.add(id(word))
            self.confidences.append(word.confidence)
            self.right.append(j in matched)
            if times is not None and j in matched:
                self.starts.append(word.start - times[matched[j]][0])

    def report(self) -> dict[str, Any]:
        """What there is to tell; None where there is nothing to count.

        `start`: median and 90th percentile of the absolute error, and the median error, in ms. `confidence`:
        the expected calibration error and its bins (from, words, mean confidence, share right).
        """
        return {"start": self._starts(), "confidence": self._confidences()}

    def _starts(self) -> dict[str, float] | None:
        if not self.starts:
            return None
        errors = 1000 * np.asarray(self.starts)
        median, high = np.percentile(np.abs(errors), [50, 90]).tolist()
        return {
            "words": float(len(errors)),
            "median_ms": median,
            "p90_ms": high,
            "bias_ms": float(np.median(errors)),
        }

    def _confidences(self) -> dict[str, Any] | None:
        if not self.confidences:
            return None
        confidence, right = np.asarray(self.confidences), np.asarray(self.right, np.float64)
        bins: list[dict[str, float]] = []
        error = 0.0
        place = np.minimum((confidence * BINS).astype(int), BINS - 1)
        for index in range(BINS):
            chosen = place == index
            if not chosen.any():
                continue
            mean, share = float(confidence[chosen].mean()), float(right[chosen].mean())
            error += chosen.mean() * abs(mean - share)
            bins.append(
                {"from": index / BINS, "words": float(chosen.sum()), "confidence": mean, "right": share}
            )
        return {"words": len(confidence), "error": float(error), "bins": bins}
