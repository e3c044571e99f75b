"""What a search for words goes by and remembers, as plain arrays; `numba_search.py` does the searching."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]

MOST_TOKENS = 4096  # more would not fit the tables of a frame
ROOM = 16  # words of a history that are kept free for the next encoder block


class Tree(NamedTuple):
    """Pronunciations as a tree; the children of a node stand one behind another.

    `phone`, `first`, `children`, `ahead` (the log-probability of the likeliest word below) of each node;
    words that end in node n are `ends[first_end[n] : first_end[n + 1]]`.
    """

    phone: Bytes
    first: Ints
    children: Bytes
    ahead: Floats
    first_end: Ints
    ends: Ints


class Language(NamedTuple):
    """Log-probabilities of a word: alone, and behind another.

    Pairs of context c (a word's number + 1, 0 for a start) are rows first_pair[c] to first_pair[c + 1], by
    rising `pair_word`. What is not listed falls back on `single`, with `pair_back[c]` added.
    """

    single: Floats
    first_pair: Ints
    pair_word: Ints
    pair: Floats
    pair_back: Floats


class Habits(NamedTuple):
    """Numbers of the search; scores are natural logarithms."""

    language: float  # weight of the language
    word: float  # added for every word
    phone: float  # added for every phone
    noise: float  # how far below the likeliest phone a frame may count as noise between words
    beam: float  # tokens further below the best are dropped
    sharpness: float  # of scores where they are summed as probabilities
    sure: float  # share of probability from which on a word is given out before it is due


class Tokens(NamedTuple):
    """Memory of one stream; all zeros is a stream that has heard nothing.

    `size` holds (tokens, frames heard). Of each token: `node` of the tree, 0 is its root, where no word is
    open; `score`, the best one's is 0; `last`, the word before as its number + 1, 0 for none; `begin`, the
    frame at which the open word began; `fit`, the sum over its frames of how far its phone lay below the
    likeliest one; how many `words` its history has, and of each `word`, `start` and `stop` frame and mean
    fit.
    """

    size: NDArray[np.int64]
    node: Ints
    score: Floats
    last: Ints
    begin: Ints
    fit: Floats
    words: Ints
    word: Ints
    start: Ints
    stop: Ints
    fits: Floats
