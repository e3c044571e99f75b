"""Forced alignment against every path there is, and its rule for gaps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rillvox.errors import TextError
from rillvox.training.align import align, fill_gaps, penalised, phone_spans, viterbi


def random_log_probs(seed: int, frames: int, classes: int = 4) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(frames, classes)) * 2
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def collapse(labels: Sequence[int]) -> list[int]:
    """What a CTC path says: repeats merged, then blanks dropped."""
    merged = [label for index, label in enumerate(labels) if index == 0 or label != labels[index - 1]]
    return [label for label in merged if label]


def best_of_all(log_probs: np.ndarray, sequence: Sequence[int]) -> float:
    """The best score by trying every labelling of the frames."""
    frames, classes = log_probs.shape
    return max(
        (
            float(sum(log_probs[frame, label] for frame, label in enumerate(labels)))
            for labels in product(range(classes), repeat=frames)
            if collapse(labels) == list(sequence)
        ),
        default=-np.inf,
    )


def labels_of(path: np.ndarray, sequence: Sequence[int]) -> list[int]:
    return [0 if state % 2 == 0 else sequence[state // 2] for state in path.tolist()]


sequences = st.lists(st.integers(1, 3), min_size=1, max_size=4)
texts = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=4)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), sequences)
def test_the_path_is_the_best_of_all_paths(seed: int, frames: int, sequence: list[int]):
    log_probs = random_log_probs(seed, frames)
    oracle = best_of_all(log_probs, sequence)
    if oracle == -np.inf:
        with pytest.raises(TextError, match="do not fit"):
            viterbi(log_probs, sequence)
        return
    path, score = viterbi(log_probs, sequence)
    assert score == pytest.approx(oracle)
    assert collapse(labels_of(path, sequence)) == sequence
    assert score == pytest.approx(
        sum(log_probs[frame, label] for frame, label in enumerate(labels_of(path, sequence)))
    )


def test_the_oracle_catches_a_path_that_merges_equal_neighbours():
    log_probs = np.log(np.array([[0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]))
    assert best_of_all(log_probs, [1, 1]) == pytest.approx(np.log(0.9 * 0.1 * 0.9))
    assert best_of_all(log_probs, [1, 1]) < 3 * np.log(0.9)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(12, 60), texts)
def test_spans_are_in_order_inside_the_recording_and_never_empty(
    seed: int, frames: int, words: list[list[int]]
):
    if 2 * sum(map(len, words)) > frames:
        return
    found = align(random_log_probs(seed, frames), words)
    for spans in (found.phones, found.words):
        assert all(0 <= start < end <= frames for start, end in spans)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert len(found.words) == len(words)
    assert found.words[-1][1] == found.phones[-1][1]


def test_words_are_found_where_they_were_put():
    frames = np.full((60, 4), 0.02)
    frames[:, 0] = 0.94
    for phone, start, end in ((1, 10, 14), (2, 16, 20), (3, 40, 44)):
        frames[start:end] = 0.02
        frames[start:end, phone] = 0.94
    found = align(np.log(frames), [[1, 2], [3]])
    assert found.phones == [(7, 15), (15, 23), (37, 47)]
    assert found.words == [(7, 23), (37, 47)]
    assert found.word_times(0.02)[1] == pytest.approx((0.74, 0.94))
    assert found.score > align(np.log(frames), [[2, 1], [3]]).score


def test_the_penalty_of_the_blank_lengthens_the_spans():
    frames = np.full((30, 2), 0.5)
    frames[:, 0], frames[:, 1] = 0.7, 0.3
    frames[15] = (0.1, 0.9)
    (spike,) = phone_spans(viterbi(penalised(np.log(frames), 0.0), [1])[0], 1)
    (span,) = phone_spans(viterbi(penalised(np.log(frames), 2.0), [1])[0], 1)
    assert spike == (15, 16)
    assert span == (0, 30)
    assert np.exp(penalised(np.log(frames), 2.0)).sum(1) == pytest.approx(np.ones(30))


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (15, [(5, 12), (12, 21)]),  # a gap of 5, an odd one: the later word gets the frame more
        (18, [(5, 14), (14, 24)]),  # of 8: still split
        (19, [(5, 13), (16, 25)]),  # of 9: silence but for 3 frames on each side
    ],
)
def test_gaps_between_words_are_split_up_to_eight_frames(second: int, expected: list[tuple[int, int]]):
    assert fill_gaps([(8, 10), (second, second + 3)], [1, 1], 100) == expected


def test_gaps_inside_a_word_are_always_split():
    assert fill_gaps([(2, 4), (24, 26)], [2], 27) == [(0, 14), (14, 27)]


@pytest.mark.parametrize("words", [[], [[]], [[1], []]])
def test_nothing_to_align_is_refused(words: list[list[int]]):
    with pytest.raises(TextError, match="nothing to align"):
        align(random_log_probs(0, 10), words)


def test_more_phones_than_frames_are_refused():
    with pytest.raises(TextError, match="3 phones do not fit into 3 frames"):
        align(random_log_probs(0, 3), [[1, 1], [2]])


def test_the_frames_given_are_left_as_they_are():
    log_probs = random_log_probs(1, 10)
    before = log_probs.copy()
    align(log_probs, [[1], [2]])
    assert np.array_equal(log_probs, before)
