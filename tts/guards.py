"""Speech that has run away, told from what is heard alone: the same sounds over and over, or none at all.

A text may say "no" twelve times and then sounds so, too: `repeats` knows such a text. Thresholds stand far
from what the default model does with the texts of `hard_texts.py`; the figures are beside them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..codec.config import SAMPLE_RATE
from .pieces import Finish

# 3.84 s. Of so many frames the hard texts have at least 14 codes that differ, and "no" twelve times over in
# 2.6 s at least 7.
LOOP_FRAMES, LOOP_CODES = 48, 4
# Codes that come back exactly, all that time: no two sayings of a word are so alike.
LOOP_PERIOD = 16
# A pause that is read from the text ends after 0.64 s (`aligned_speaking.LONGEST_PAUSE`), and is not as
# quiet: the hard texts have at most 0.4 s below -50 dBFS. Pauses asked for in seconds are not heard here.
SILENCE_SECONDS, SILENCE_DBFS = 2.5, -60.0
# Words in a row of which so few differ that they may sound as a loop does: "no, no, no, no, no, no".
REPEATED_WORDS, DIFFERENT_WORDS = 6, 2
_QUIET = 10 ** (SILENCE_DBFS / 20)


def repeats(words: Sequence[str]) -> bool:
    """Whether a text says the same over and over, so that its sounds may come back as well."""
    bare = [word.casefold().strip(".,;:!?-\u2013\u2014\"'") for word in words]
    ends = range(REPEATED_WORDS, len(bare) + 1)
    return any(len(set(bare[end - REPEATED_WORDS : end])) <= DIFFERENT_WORDS for end in ends)


class Guard:
    """Listens to one sentence, frame by frame."""

    def __init__(self) -> None:
        self._latest: deque[int] = deque(maxlen=LOOP_FRAMES)  # semantic codes
        self._quiet = 0  # samples of silence up to now

    def heard(self, code: int, samples: NDArray[np.float32]) -> Finish | None:
        """What is wrong after one more frame, of a semantic code and samples float32 [n], n perhaps 0."""
        self._latest.append(code)
        if len(samples):
            loud = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) > _QUIET
            self._quiet = 0 if loud else self._quiet + len(samples)
        if self._quiet > SILENCE_SECONDS * SAMPLE_RATE:
            return "silence"
        return "loop" if self._loops() else None

    def _loops(self) -> bool:
        codes = list(self._latest)
        if len(codes) < LOOP_FRAMES:
            return False
        few = len(set(codes)) <= LOOP_CODES
        return few or any(codes[period:] == codes[:-period] for period in range(1, LOOP_PERIOD + 1))
