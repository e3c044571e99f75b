"""Word pairs: probabilities that sum to one, by hand where it can be done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rillvox import ConfigError
from rillvox.kernels.numba_search import language_score
from rillvox.training.ngrams import DISCOUNT, count_ngrams

WORDS = ["a", "b", "c", "never"]
TEXT = [["a", "b", "a", "c"], ["a", "b"], ["b", "unknown", "c"]]


def test_every_context_sums_to_one() -> None:
    language = count_ngrams(TEXT, WORDS)
    for last in range(len(WORDS) + 1):
        total = sum(np.exp(language_score(language, last, word)) for word in range(len(WORDS)))
        assert total == pytest.approx(1, abs=1e-6)


def test_a_pair_is_its_count_less_the_discount_and_a_share_of_the_single() -> None:
    language = count_ngrams(TEXT, WORDS)
    # Behind "a": b twice, c once; so two kinds of three.
    left = 2 * DISCOUNT / 3
    single = np.exp(language.single)
    assert np.exp(language_score(language, 1, 1)) == pytest.approx((2 - DISCOUNT) / 3 + left * single[1])
    assert np.exp(language_score(language, 1, 3)) == pytest.approx(left * single[3])


def test_an_unknown_word_begins_a_new_sentence() -> None:
    language = count_ngrams(TEXT, WORDS)
    starts = slice(language.first_pair[0], language.first_pair[1])
    assert language.pair_word[starts].tolist() == [0, 1, 2]
    assert language_score(language, 2, 2) == pytest.approx(float(language.pair_back[2] + language.single[2]))


def test_a_text_without_a_known_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="no known word"):
        count_ngrams([["x", "y"]], WORDS)
    with pytest.raises(ConfigError, match="no known word"):
        count_ngrams([], WORDS)
