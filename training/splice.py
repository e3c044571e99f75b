"""Sentences nobody said: encoder features of real speech, cut at phones and joined to new text.

Transcribed speech is short and text is not. A decoder that has only heard a few hours knows few
words; so for any text we look up its phones, find the longest stretches of them in the recordings,
and lay the encoder frames of those stretches end to end. The frames are real, with the encoder's
own errors and many speakers; the words and their order are new. No sound is made, and the
encoder, the costly part, does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

LONGEST_KEY = 5  # phones looked up at once; a match then grows as far as it agrees
LONGEST_MATCH = 14
PAUSE_CHANCE = 0.06  # of a pause before a word
FOREIGN_GAP = 40  # frames; a longer silence inside a match is cut out


@dataclass(frozen=True)
class Spoken:
    """Phones of one recording and where they lie in its features, in frames.

    `symbols` are 2 * phone, plus 1 where a word begins: a match has to agree on word starts.
    """

    symbols: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    offset: int  # first frame of the recording in the feature array


def word_symbols(phones_of_words: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Symbols of a sentence, and the index of each word's last one."""
    symbols: list[int] = []
    last: list[int] = []
    for phones in phones_of_words:
        symbols += [2 * phone + (i == 0) for i, phone in enumerate(phones)]
        last.append(len(symbols) - 1)
    return symbols, last


class PhoneBank:
    """Every stretch of one to five phones in a set of recordings."""

    def __init__(self, recordings: Sequence[Spoken], features: NDArray[np.float16]) -> None:
        if not recordings:
            raise ConfigError("a phone bank needs at least one aligned recording")
        self.recordings = list(recordings)
        self.features = features
        self._index: list[dict[tuple[int, ...], list[tuple[int, int]]]] = [{} for _ in range(LONGEST_KEY + 1)]
        for number, spoken in enumerate(self.recordings):
            for length in range(1, LONGEST_KEY + 1):
                table = self._index[length]
                for i in range(len(spoken.symbols) - length + 1):
                    table.setdefault(spoken.symbols[i : i + length], []).append((number, i))

    def say(
        self,
        phones_of_words: Sequence[Sequence[int]],
        rng: np.random.Generator,
        silence: Callable[[int], NDArray[np.float16]],
    ) -> tuple[NDArray[np.float16], list[int]]:
        """Features [frames, dim] of a sentence, and the frame after each word's last one."""
        symbols, last = word_symbols(phones_of_words)
        parts: list[NDArray[np.float16]] = []
        ends = [0] * len(symbols)
        total = i = 0
        while i < len(symbols):
            if i and symbols[i] & 1 and rng.random() < PAUSE_CHANCE:
                parts.append(silence(int(rng.integers(5, 40))))
                total += len(parts[-1])
            found = self._find(symbols, i, rng)
            if found is None:  # a phone that nobody said: skip it, as a listener would
                ends[i] = total
                i += 1
                continue
            length, spoken, begin = found
            for k in range(length):
                at = begin + k
                stop = spoken.ends[at]
                if k + 1 < length and spoken.starts[at + 1] - stop < FOREIGN_GAP:
                    stop = spoken.starts[at + 1]
                part = self.features[spoken.offset + spoken.starts[at] : spoken.offset + stop]
                parts.append(part)
                ends[i + k] = total + spoken.ends[at] - spoken.starts[at]
                total += len(part)
            i += length
        return np.concatenate(parts), [ends[k] for k in last]

    def _find(
        self, symbols: Sequence[int], i: int, rng: np.random.Generator
    ) -> tuple[int, Spoken, int] | None:
        # Long keys give natural speech, short ones more variety: draw the length to begin with.
        for length in range(min(int(rng.integers(2, LONGEST_KEY + 1)), len(symbols) - i), 0, -1):
            places = self._index[length].get(tuple(symbols[i : i + length]))
            if places:
                number, begin = places[int(rng.integers(len(places)))]
                spoken = self.recordings[number]
                while (
                    length < LONGEST_MATCH
                    and i + length < len(symbols)
                    and begin + length < len(spoken.symbols)
                    and spoken.symbols[begin + length] == symbols[i + length]
                ):
                    length += 1
                return length, spoken, begin
        places = self._index[1].get((symbols[i] ^ 1,))
        if not places:
            return None
        number, begin = places[int(rng.integers(len(places)))]
        return 1, self.recordings[number], begin


def pronounce(words: Sequence[str], lexicon: Mapping[str, Sequence[int]]) -> list[Sequence[int]] | None:
    """Phones of each word, or None if a word is not in the lexicon."""
    if any(word not in lexicon for word in words):
        return None
    return [lexicon[word] for word in words]
