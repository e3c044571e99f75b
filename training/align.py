"""Forced alignment: when, in a recording, each phone and each word of its text is said.

Viterbi over the log-probabilities of a CTC model (Graves et al. 2006): the best path through
`blank p1 blank p2 ... blank` in which a phone may repeat, and a blank between two phones may be left out
unless the phones are equal. Unusual: the blank is made `blank_penalty` less likely first. A CTC model says
each phone in one short peak and blank elsewhere; without it the spans are spikes and words end early.

Spans are in frames, half-open. The path leaves gaps of blank between phones; `fill_gaps` gives them to the
neighbours, or to silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import TextError

BLANK = 0
BLANK_PENALTY = 2.0
SHORT_GAP = 8  # frames: 160 ms at 50 Hz
PAD = 3  # frames that a phone keeps on each side of a longer gap

Span = tuple[int, int]


@dataclass(frozen=True)
class Alignment:
    """Spans of phones and words in frames, and the mean log-probability of the path per phone.

    `score` is low where text and sound disagree: drop clips far below their neighbours.
    """

    phones: list[Span]
    words: list[Span]
    score: float

    def word_times(self, frame_seconds: float) -> list[tuple[float, float]]:
        """Start and end of each word in seconds."""
        return [(start * frame_seconds, end * frame_seconds) for start, end in self.words]


def align(
    log_probs: NDArray[np.floating],
    words: Sequence[Sequence[int]],
    *,
    blank_penalty: float = BLANK_PENALTY,
    short_gap: int = SHORT_GAP,
    pad: int = PAD,
) -> Alignment:
    """Find the words of a text in a recording.

    Args:
        log_probs: [frames, classes], class 0 is the blank.
        words: the phone numbers of each word, none empty.

    Raises:
        TextError: no words, a word without phones, or more phones than fit into the frames.
    """
    if not words or not all(words):
        raise TextError("nothing to align: every word needs at least one phone")
    sequence = [phone for word in words for phone in word]
    path, score = viterbi(penalised(log_probs, blank_penalty), sequence)
    raw = phone_spans(path, len(sequence))
    phones = fill_gaps(raw, [len(word) for word in words], len(path), short_gap, pad)
    ends = np.cumsum([len(word) for word in words])
    spans = [
        (phones[end - len(word)][0], phones[end - 1][1])
        for word, end in zip(words, ends.tolist(), strict=True)
    ]
    return Alignment(phones, spans, score / len(sequence))


def penalised(log_probs: NDArray[np.floating], blank_penalty: float) -> NDArray[np.float64]:
    """The same distribution with a less likely blank, normalised again, in float64."""
    scores = log_probs.astype(np.float64)
    scores[:, BLANK] -= blank_penalty
    peak = scores.max(axis=1, keepdims=True)
    return scores - peak - np.log(np.exp(scores - peak).sum(axis=1, keepdims=True))


def viterbi(log_probs: NDArray[np.floating], sequence: Sequence[int]) -> tuple[NDArray[np.int64], float]:
    """The best CTC path that says `sequence`.

    Args:
        log_probs: [frames, classes].
        sequence: class numbers, no blank among them.

    Returns:
        The state of each frame ([frames], state 2k+1 is phone k, even states are blanks), and the sum of the
        log-probabilities along the path.

    Raises:
        TextError: the sequence does not fit into the frames.
    """
    frames, states = len(log_probs), 2 * len(sequence) + 1
    labels = np.full(states, BLANK)
    labels[1::2] = sequence
    repeats = int(np.sum(labels[3::2] == labels[1:-2:2]))
    if not sequence or frames < len(sequence) + repeats:
        raise TextError(f"{len(sequence)} phones do not fit into {frames} frames")
    emitted = np.asarray(log_probs, np.float64)[:, labels]  # [frames, states]
    may_skip = np.zeros(states, bool)
    may_skip[3::2] = labels[3::2] != labels[1:-2:2]

    best = np.full(states, -np.inf)
    best[:2] = emitted[0, :2]
    came = np.zeros((frames, states), np.int8)  # how many states back the best predecessor is
    choices = np.full((3, states), -np.inf)
    for frame in range(1, frames):
        choices[0] = best
        choices[1, 1:] = best[:-1]
        choices[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        came[frame] = choices.argmax(axis=0)
        best = choices.max(axis=0) + emitted[frame]

    state = states - 1 if best[-1] >= best[-2] else states - 2
    score = float(best[state])
    path = np.zeros(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(came[frame, state])
    return path, score


def phone_spans(path: NDArray[np.int64], phones: int) -> list[Span]:
    """First frame and the frame behind the last of each phone of a path; there are `phones` of them."""
    odd = 2 * np.arange(phones) + 1  # a path never goes back, so it is sorted
    starts, ends = np.searchsorted(path, odd, "left"), np.searchsorted(path, odd, "right")
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def fill_gaps(
    spans: Sequence[Span],
    word_lengths: Sequence[int],
    frames: int,
    short_gap: int = SHORT_GAP,
    pad: int = PAD,
) -> list[Span]:
    """Give the frames between phones to their neighbours.

    Inside a word every gap is split in the middle. Between words a gap of at most `short_gap` frames is split
    too; a longer one is silence but for `pad` frames on each side, as are the ends of the recording.

    Args:
        spans: one per phone, in order, not overlapping.
        word_lengths: phones in each word; their sum is the number of spans.
        frames: length of the recording.
    """
    last_of_word = set((np.cumsum(word_lengths) - 1).tolist())
    starts, ends = [span[0] for span in spans], [span[1] for span in spans]
    filled_starts, filled_ends = starts.copy(), ends.copy()
    filled_starts[0] = max(0, starts[0] - pad)
    filled_ends[-1] = min(frames, ends[-1] + pad)
    for left in range(len(spans) - 1):
        gap = starts[left + 1] - ends[left]
        if left in last_of_word and gap > short_gap:
            filled_ends[left] += pad
            filled_starts[left + 1] -= pad
        else:
            middle = ends[left] + gap // 2
            filled_ends[left] = filled_starts[left + 1] = middle
    return list(zip(filled_starts, filled_ends, strict=True))
