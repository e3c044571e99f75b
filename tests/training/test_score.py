"""Error rates are sums over a list; intervals are repeatable and honest."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rillvox.errors import TextError
from rillvox.training import score
from rillvox.training.score import (
    Edits,
    align,
    bootstrap,
    char_edits,
    edits,
    levenshtein,
    paired_bootstrap,
    total,
    word_edits,
)

units = st.lists(st.sampled_from("abc"), max_size=9)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the cat sat", "the cat sat", Edits(0, 0, 0, 3)),
        ("the cat sat", "the bat sat", Edits(1, 0, 0, 3)),
        ("the cat sat", "the sat", Edits(0, 1, 0, 3)),
        ("the cat sat", "the fat cat sat", Edits(0, 0, 1, 3)),
        ("the cat sat", "", Edits(0, 3, 0, 3)),
    ],
)
@pytest.mark.parametrize("with_library", [True, False])
def test_word_errors_are_told_apart(
    reference: str, hypothesis: str, expected: Edits, with_library: bool, monkeypatch: pytest.MonkeyPatch
):
    if not with_library:
        monkeypatch.setitem(sys.modules, "rapidfuzz.distance", None)
    assert word_edits(reference, hypothesis) == expected


def test_characters_are_counted_with_their_spaces():
    assert char_edits("a cat", "acat") == Edits(0, 1, 0, 5)


def test_an_empty_reference_is_a_mistake_of_the_list():
    with pytest.raises(TextError, match="empty reference"):
        word_edits("", "anything")


def test_the_rate_of_a_list_is_a_ratio_of_sums():
    parts = [word_edits("one", "two"), word_edits("a b c d e f g h i", "a b c d e f g h i")]
    assert total(parts).rate == pytest.approx(0.1)  # the mean of the rates would be 0.5


@settings(deadline=None)
@given(units.filter(bool), units)
def test_our_table_and_the_library_agree_on_the_distance(reference: list[str], hypothesis: list[str]):
    jiwer = pytest.importorskip("jiwer", reason="jiwer is not installed")
    theirs = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    quick = edits(reference, hypothesis)
    assert (quick.substitutions, quick.deletions, quick.insertions) == (
        theirs.substitutions,
        theirs.deletions,
        theirs.insertions,
    )
    assert levenshtein(reference, hypothesis).errors == quick.errors


def test_the_comparison_catches_a_table_that_charges_two_for_a_substitution():
    def wrong(reference: str, hypothesis: str) -> int:
        return len(reference) + len(hypothesis) - 2 * len(set(reference) & set(hypothesis))

    assert wrong("ab", "cb") != levenshtein("ab", "cb").errors


@settings(deadline=None)
@given(units, units)
def test_an_alignment_uses_every_unit_once_and_in_order(reference: list[str], hypothesis: list[str]):
    pairs = align(reference, hypothesis)
    assert [i for i, _ in pairs if i is not None] == list(range(len(reference)))
    assert [j for _, j in pairs if j is not None] == list(range(len(hypothesis)))
    assert (None, None) not in pairs


def random_parts(seed: int, clips: int = 60, rate: float = 0.2) -> list[Edits]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 20, clips)
    return [Edits(int(generator.binomial(n, rate)), 0, 0, int(n)) for n in lengths]


def test_the_interval_of_a_list_is_repeatable_and_holds_its_rate():
    parts = random_parts(0)
    interval = bootstrap(parts)
    assert interval == bootstrap(parts)
    assert interval != bootstrap(parts, seed=1)
    assert interval.low < total(parts).rate < interval.high


def test_the_interval_is_that_of_a_plain_loop():
    parts = random_parts(3, clips=7)
    generator = np.random.default_rng(score.SEED)
    rates = []
    for _ in range(20):
        for row in generator.integers(0, 7, (score.DRAWS_AT_ONCE, 7)):
            rates.append(total(parts[index] for index in row).rate)
    low, high = np.percentile(rates, [2.5, 97.5])
    assert bootstrap(parts).low == pytest.approx(low)
    assert bootstrap(parts).high == pytest.approx(high)


def test_the_interval_covers_the_true_rate_about_19_times_in_20():
    hits = sum(
        interval.low <= 0.2 <= interval.high
        for interval in (bootstrap(random_parts(seed), draws=300) for seed in range(100))
    )
    assert 86 <= hits <= 100


def test_speakers_are_drawn_instead_of_clips_from_eight_on():
    good, bad = [Edits(0, 0, 0, 10)] * 10, [Edits(5, 0, 0, 10)] * 10
    parts = (good + bad) * 4
    eight = [f"s{index // 10}" for index in range(80)]
    seven = [f"s{min(index // 10, 6)}" for index in range(80)]
    by_clip, by_speaker = bootstrap(parts), bootstrap(parts, eight)
    assert by_speaker.high - by_speaker.low > 2 * (by_clip.high - by_clip.low)
    assert bootstrap(parts, seven) == by_clip


def test_a_pair_is_compared_on_the_same_draws():
    a = random_parts(5, clips=300)
    b = [Edits(max(0, part.substitutions - 1), 0, 0, part.length) for part in a]
    difference = paired_bootstrap(a, b)
    assert difference.excludes_zero
    assert difference.low > 0
    unpaired = bootstrap(a)
    assert difference.high - difference.low < unpaired.high - unpaired.low
    assert not paired_bootstrap(a, a).excludes_zero


def test_a_pair_scored_on_different_lists_is_refused():
    with pytest.raises(TextError, match="same references"):
        paired_bootstrap([Edits(0, 0, 0, 3)], [Edits(0, 0, 0, 4)])


def test_lists_that_do_not_match_their_speakers_are_refused():
    with pytest.raises(TextError, match="8 clips but 9 speakers"):
        bootstrap([Edits(0, 0, 0, 3)] * 8, [str(index) for index in range(9)])
    with pytest.raises(TextError, match="no clips"):
        bootstrap([])
