"""How likely words follow each other: counts of a text, smoothed by interpolated Kneser-Ney.

R. Kneser and H. Ney, "Improved backing-off for m-gram language modeling", 1995, in its interpolated form
(S. F. Chen and J. Goodman, 1998): a longer context is trusted less a discount, and what the discount leaves
goes to the shorter one, which counts in how many contexts a word was seen, not how often.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..kernels.search_tables import Ints, Language

DISCOUNT = 0.75
UNSEEN = 0.2  # added to every count of a single word: words that the text lacks are possible too


def count_ngrams(sentences: Iterable[Sequence[str]], words: Sequence[str]) -> Language:
    """Tables for `words`; others break a sentence in two.

    Raises:
        ConfigError: no sentence has a known word.
    """
    numbers = {word: number for number, word in enumerate(words)}
    # Contexts are a word's number + 1; a sentence begins behind context 0.
    stream: list[int] = []
    for sentence in sentences:
        stream.append(-1)
        stream += [numbers.get(word, -1) for word in sentence]
    ids = np.asarray(stream, np.int64)
    if not (ids >= 0).any():
        raise ConfigError("no known word in the text: nothing to count")
    size = len(words)
    known = ids[1:] >= 0
    context = np.where(ids[:-1] >= 0, ids[:-1] + 1, 0)
    pairs, pair_counts = np.unique(context[known] * size + ids[1:][known], return_counts=True)
    pair_context, pair_word = pairs // size, pairs % size
    single = np.bincount(pair_word, minlength=size) + UNSEEN  # in how many contexts
    single = single / single.sum()
    totals = np.bincount(pair_context, pair_counts, size + 1)
    # What the discount takes goes to the shorter context; one that was never seen leaves it all.
    back = np.where(totals > 0, DISCOUNT * np.bincount(pair_context, minlength=size + 1), 1.0)
    back = back / np.maximum(totals, 1)
    pair = (pair_counts - DISCOUNT) / totals[pair_context] + back[pair_context] * single[pair_word]
    return Language(
        np.log(single).astype(np.float32),
        _offsets(pair_context, size + 1),
        pair_word.astype(np.int32),
        np.log(pair).astype(np.float32),
        np.log(back).astype(np.float32),
    )


def _offsets(context: NDArray[np.int64], contexts: int) -> Ints:
    return np.searchsorted(context, np.arange(contexts + 1)).astype(np.int32)
