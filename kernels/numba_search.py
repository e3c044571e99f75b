"""One step of a search for words through a stream of phone scores, compiled by numba.

Token passing over a tree of pronunciations: a token stands in a node of the tree, remembers the words that
are not yet certain, and carries the score of the best way there. Unusual:
- all memory of a stream is in arrays of a fixed size (`search_tables.Tokens`), so it can be copied, moved and
  saved like any other state, and a stream of a year is no larger than one of a second;
- words are given out when they are certain enough, at the latest at a deadline: then the best token decides,
  and tokens that heard something else are dropped, so that no word is ever taken back.
"""

from __future__ import annotations

import math

import numpy as np

from .numba_decoder import compiled
from .search_tables import MOST_TOKENS, ROOM, Floats, Habits, Ints, Language, Tokens, Tree

LOWEST = np.float32(-1e30)
CANDIDATES = 2 * MOST_TOKENS  # of one frame
TABLE = 2 * CANDIDATES  # of their hash table; a power of two
BINS = 1000
# For each frame that a word stays in its first phone: where the word before ends with the same one, their
# border could be anywhere, and rounding would choose.
LINGER = np.float32(2e-3)


@compiled
def language_score(language: Language, last: int, word: int) -> float:
    """Log-probability of a word behind its context."""
    begin, end = language.first_pair[last], language.first_pair[last + 1]
    stop = end
    while begin < end:
        middle = (begin + end) >> 1
        if language.pair_word[middle] < word:
            begin = middle + 1
        else:
            end = middle
    if begin < stop and language.pair_word[begin] == word:
        return float(language.pair[begin])
    return float(language.pair_back[last] + language.single[word])


@compiled
def place_of(slot: Ints, node: Ints, last: Ints, n: int, context: int) -> int:
    """Where in the hash table the candidate of a node and a context is, or would go."""
    at = (n * 40503 + context * 9973) & (TABLE - 1)
    while slot[at] >= 0 and (node[slot[at]] != n or last[slot[at]] != context):
        at = (at + 1) & (TABLE - 1)
    return at


@compiled
def crowd_floor(score: Floats, filled: int, most: int, best: float, beam: float) -> float:
    """A score that at most `most` of the first `filled` reach, to a thousandth of the beam."""
    counts = np.zeros(BINS + 1, np.int32)
    for k in range(filled):
        place = int((best - score[k]) / beam * BINS)
        counts[min(max(place, 0), BINS)] += 1
    reached = 0
    for place in range(BINS):
        reached += counts[place]
        if reached > most:
            return float(best - beam * place / BINS)
    return float(best - beam)


@compiled
def search_step(
    phones: Floats,
    deadline: int,
    settles: bool,
    tree: Tree,
    language: Language,
    habits: Habits,
    tokens: Tokens,
    out: Ints,
    out_scores: Floats,
) -> int:
    """Hear frames, and write the words that have become certain.

    Args:
        phones: log-probabilities [frames, phones] of the next frames; phone 0 is no phone.
        deadline: words that end at this frame or before are due.
        settles: words may be given out now.
        out: [words, 3] receives number, first frame and the one behind the last of each word.
        out_scores: [words, 2] receives its mean fit and the share of probability that agreed.

    Returns:
        How many words.
    """
    most, depth = tokens.word.shape
    if tokens.size[0] == 0:
        tokens.size[0] = 1
        tokens.node[0] = 0
        tokens.score[0] = 0
        tokens.last[0] = 0
        tokens.words[0] = 0
    slot = np.full(TABLE, -1, np.int32)
    used = np.empty(CANDIDATES, np.int32)
    node = np.empty(CANDIDATES, np.int32)
    score = np.empty(CANDIDATES, np.float32)
    last = np.empty(CANDIDATES, np.int32)
    source = np.empty(CANDIDATES, np.int32)
    begin = np.empty(CANDIDATES, np.int32)
    fit = np.empty(CANDIDATES, np.float32)
    said = np.empty(CANDIDATES, np.int32)
    weight = np.float32(habits.language)
    beam = np.float32(habits.beam)
    opened = tree.first[0] + int(tree.children[0])  # nodes below that, but the root, are first phones
    for row in range(phones.shape[0]):
        frame = int(tokens.size[1])
        emission = phones[row]
        likeliest = emission.max()
        between = max(emission[0], likeliest - np.float32(habits.noise))
        filled = 0
        best = LOWEST
        for i in range(tokens.size[0]):
            here = tokens.node[i]
            # Stay (child -1), or go on to a child.
            first, children = tree.first[here], int(tree.children[here])
            for child in range(-1, children):
                if child < 0:
                    n = here
                    s = tokens.score[i] + (between if n == 0 else emission[tree.phone[n]])
                    if 0 < n < opened:
                        s -= LINGER
                else:
                    n = first + child
                    s = tokens.score[i] + weight * (tree.ahead[n] - tree.ahead[here])
                    s += emission[tree.phone[n]] + np.float32(habits.phone)
                if s < best - beam:
                    continue
                best = max(best, s)
                at = place_of(slot, node, last, int(n), int(tokens.last[i]))
                k = slot[at]
                if k < 0:
                    if filled == CANDIDATES - most:
                        continue
                    k = filled
                    slot[at] = k
                    used[k] = at
                    filled += 1
                elif score[k] >= s:
                    continue
                node[k] = n
                score[k] = s
                last[k] = tokens.last[i]
                source[k] = i
                said[k] = -1
                begin[k] = frame if here == 0 else tokens.begin[i]
                if n == 0:
                    fit[k] = 0
                else:
                    fit[k] = (0 if here == 0 else tokens.fit[i]) + emission[tree.phone[n]] - likeliest
        floor = best - beam
        alive = filled
        # Words that end here go on from the root, with the language's say.
        for k in range(alive):
            if score[k] < floor or tokens.words[source[k]] >= depth:
                continue
            n = node[k]
            for w in range(tree.first_end[n], tree.first_end[n + 1]):
                word = tree.ends[w]
                chance = language_score(language, last[k], word)
                s = score[k] + weight * (np.float32(chance) - tree.ahead[n]) + np.float32(habits.word)
                if s < floor:
                    continue
                at = place_of(slot, node, last, 0, word + 1)
                j = slot[at]
                if j < 0:
                    if filled == CANDIDATES:
                        continue
                    j = filled
                    slot[at] = j
                    used[j] = at
                    filled += 1
                elif score[j] >= s:
                    continue
                node[j] = 0
                score[j] = s
                last[j] = word + 1
                source[j] = source[k]
                said[j] = word
                begin[j] = begin[k]
                fit[j] = fit[k]
        for k in range(filled):
            slot[used[k]] = -1
        # The most likely ones become the tokens of the next frame.
        if filled > most:
            floor = max(floor, crowd_floor(score, filled, most, float(best), float(beam)))
        kept, live = 0, int(tokens.size[0])
        history_word = tokens.word[:live].copy()
        history_start = tokens.start[:live].copy()
        history_stop = tokens.stop[:live].copy()
        history_fits = tokens.fits[:live].copy()
        history_count = tokens.words[:live].copy()
        for k in range(filled):
            if score[k] < floor or kept == most:
                continue
            i = source[k]
            count = history_count[i]
            for h in range(count):
                tokens.word[kept, h] = history_word[i, h]
                tokens.start[kept, h] = history_start[i, h]
                tokens.stop[kept, h] = history_stop[i, h]
                tokens.fits[kept, h] = history_fits[i, h]
            if said[k] >= 0:
                tokens.word[kept, count] = said[k]
                tokens.start[kept, count] = begin[k]
                tokens.stop[kept, count] = frame + 1
                tokens.fits[kept, count] = fit[k] / (frame + 1 - begin[k])
                count += 1
            tokens.words[kept] = count
            tokens.node[kept] = node[k]
            tokens.score[kept] = score[k] - best
            tokens.last[kept] = last[k]
            tokens.begin[kept] = begin[k]
            tokens.fit[kept] = fit[k]
            kept += 1
        tokens.size[0] = kept
        tokens.size[1] = frame + 1
    if not settles:
        return 0
    return settle(deadline, habits.sharpness, habits.sure, tokens, out, out_scores)


@compiled
def settle(
    deadline: int, sharpness: float, sure: float, tokens: Tokens, out: Ints, out_scores: Floats
) -> int:
    """Take the words out of the histories that are due, or certain enough not to wait for that."""
    depth = tokens.word.shape[1]
    written = 0
    while written < out.shape[0]:
        best = 0
        for i in range(tokens.size[0]):
            if tokens.score[i] > tokens.score[best]:
                best = i
        if tokens.words[best] == 0:
            return written
        word = tokens.word[best, 0]
        some, total = 0.0, 0.0
        for i in range(tokens.size[0]):
            share = math.exp(sharpness * (tokens.score[i] - tokens.score[best]))
            total += share
            if tokens.words[i] > 0 and tokens.word[i, 0] == word:
                some += share
        # A history that is nearly full can wait no longer either.
        due = tokens.stop[best, 0] <= deadline or tokens.words[best] > depth - ROOM
        if not due and some < sure * total:
            return written
        out[written, 0] = word
        out[written, 1] = tokens.start[best, 0]
        out[written, 2] = tokens.stop[best, 0]
        out_scores[written, 0] = tokens.fits[best, 0]
        out_scores[written, 1] = some / total
        written += 1
        kept = 0
        for i in range(tokens.size[0]):
            count = tokens.words[i]
            if count == 0 or tokens.word[i, 0] != word:
                continue
            tokens.node[kept] = tokens.node[i]
            tokens.score[kept] = tokens.score[i]
            tokens.last[kept] = tokens.last[i]
            tokens.begin[kept] = tokens.begin[i]
            tokens.fit[kept] = tokens.fit[i]
            tokens.words[kept] = count - 1
            for h in range(1, count):
                tokens.word[kept, h - 1] = tokens.word[i, h]
                tokens.start[kept, h - 1] = tokens.start[i, h]
                tokens.stop[kept, h - 1] = tokens.stop[i, h]
                tokens.fits[kept, h - 1] = tokens.fits[i, h]
            kept += 1
        tokens.size[0] = kept
    return written
