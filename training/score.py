"""Word and character error rate of a list, and how sure one can be of them.

A rate is the sum of substitutions, deletions and insertions over the whole list, divided by the sum of the
reference lengths: never a mean of rates per clip. Intervals come from resampling clips, or speakers where
there are at least eight, because the clips of one speaker fail together. Strings are taken as they are:
normalise them first (`training.normalize`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import TextError

DRAWS = 2000
SEED = 12345
SPEAKERS_TO_RESAMPLE = 8
DRAWS_AT_ONCE = 100  # bounds the memory of a draw over a large list


@dataclass(frozen=True)
class Edits:
    """What turns a hypothesis into its reference of `length` words, characters or phones."""

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors per unit of the reference; 0.1 is 10 %."""
        return self.errors / self.length

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )


@dataclass(frozen=True)
class Interval:
    """The 2.5 and 97.5 percentiles of a bootstrap, as rates."""

    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference counts."""
        return self.low > 0 or self.high < 0


def word_edits(reference: str, hypothesis: str) -> Edits:
    """Edits in words. An empty hypothesis is all deletions.

    Raises:
        TextError: the reference is empty, which is a mistake of the list.
    """
    return edits(reference.split(), hypothesis.split())


def char_edits(reference: str, hypothesis: str) -> Edits:
    """Edits in characters, spaces included; see `word_edits`."""
    return edits(list(reference), list(hypothesis))


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Edits:
    """Edits between two sequences of units.

    jiwer's aligner (rapidfuzz) does it if installed, else `levenshtein`. Their sums always agree;
    where several best alignments exist, the share of substitutions may differ.
    """
    if not reference:
        raise TextError("an empty reference cannot be scored; remove the clip from the list")
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError:
        return levenshtein(reference, hypothesis)
    kinds = [op.tag for op in Levenshtein.editops(reference, hypothesis)]
    return Edits(kinds.count("replace"), kinds.count("delete"), kinds.count("insert"), len(reference))


def levenshtein(reference: Sequence[str], hypothesis: Sequence[str]) -> Edits:
    """Edits by the textbook table, substitutions preferred; time and memory in the product of the lengths."""
    pairs = align(reference, hypothesis)
    return Edits(
        sum(1 for i, j in pairs if i is not None and j is not None and reference[i] != hypothesis[j]),
        sum(1 for _, j in pairs if j is None),
        sum(1 for i, _ in pairs if i is None),
        len(reference),
    )


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Pairs (reference index, hypothesis index) in order; None stands for a deletion or an insertion."""
    rows, columns = len(reference), len(hypothesis)
    cost = np.zeros((rows + 1, columns + 1), np.int64)
    cost[:, 0] = np.arange(rows + 1)
    cost[0] = np.arange(columns + 1)
    target = np.array(hypothesis, dtype=object)
    steps = np.arange(columns + 1)
    for i in range(1, rows + 1):
        other = np.asarray(target != reference[i - 1], np.int64)
        best = np.minimum(cost[i - 1, 1:] + 1, cost[i - 1, :-1] + other)
        # An insertion adds one per column, so the running minimum is taken with the columns subtracted.
        row = np.concatenate(([i], best)) - steps
        cost[i] = np.minimum.accumulate(row) + steps
    pairs: list[tuple[int | None, int | None]] = []
    i, j = rows, columns
    while i or j:
        if i and j and cost[i, j] == cost[i - 1, j - 1] + (reference[i - 1] != hypothesis[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and cost[i, j] == cost[i - 1, j] + 1:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


def total(parts: Iterable[Edits]) -> Edits:
    """The sum over a list."""
    return sum(parts, start=Edits(0, 0, 0, 0))


def bootstrap(
    parts: Sequence[Edits], speakers: Sequence[str] | None = None, draws: int = DRAWS, seed: int = SEED
) -> Interval:
    """The 95 % interval of the rate of a list, one `Edits` per clip.

    Args:
        speakers: one per clip; with eight different ones or more, speakers are drawn instead of clips.
    """
    errors, lengths = _units(parts, speakers)
    return _percentiles(
        _sums(errors, rows) / _sums(lengths, rows) for rows in _draws(len(errors), draws, seed)
    )


def paired_bootstrap(
    a: Sequence[Edits],
    b: Sequence[Edits],
    speakers: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Interval:
    """The 95 % interval of rate(a) - rate(b), the same clips drawn for both."""
    if [part.length for part in a] != [part.length for part in b]:
        raise TextError("paired systems must be scored on the same references in the same order")
    errors_a, lengths = _units(a, speakers)
    errors_b, _ = _units(b, speakers)
    difference = errors_a - errors_b
    return _percentiles(
        _sums(difference, rows) / _sums(lengths, rows) for rows in _draws(len(lengths), draws, seed)
    )


def _units(
    parts: Sequence[Edits], speakers: Sequence[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Errors and lengths of what is drawn: clips, or speakers."""
    if not parts:
        raise TextError("no clips to score")
    errors = np.array([part.errors for part in parts], np.int64)
    lengths = np.array([part.length for part in parts], np.int64)
    if speakers is None or len(set(speakers)) < SPEAKERS_TO_RESAMPLE:
        return errors, lengths
    if len(speakers) != len(parts):
        raise TextError(f"{len(parts)} clips but {len(speakers)} speakers")
    order = {speaker: index for index, speaker in enumerate(dict.fromkeys(speakers))}
    rows = np.array([order[speaker] for speaker in speakers])
    summed = np.zeros((2, len(order)), np.int64)
    np.add.at(summed[0], rows, errors)
    np.add.at(summed[1], rows, lengths)
    return summed[0], summed[1]


def _draws(units: int, draws: int, seed: int) -> Iterable[NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    for done in range(0, draws, DRAWS_AT_ONCE):
        yield generator.integers(0, units, (min(DRAWS_AT_ONCE, draws - done), units))


def _sums(values: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return values[rows].sum(axis=1).astype(np.float64)


def _percentiles(rates: Iterable[NDArray[np.float64]]) -> Interval:
    low, high = np.percentile(np.concatenate(list(rates)), [2.5, 97.5])
    return Interval(float(low), float(high))
