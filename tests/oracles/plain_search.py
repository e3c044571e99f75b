"""The search for words written down plainly: every hypothesis a tuple, nothing pruned but by the beam."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rillvox.asr.search import SearchConfig
from rillvox.asr.vocabulary import Vocabulary
from rillvox.kernels.numba_search import LINGER


@dataclass(frozen=True)
class Hypothesis:
    score: float
    node: int = 0
    last: int = 0
    words: tuple[tuple[int, int, int], ...] = ()  # number, first frame, the one behind the last
    begin: int = 0


def say(vocabulary: Vocabulary, last: int, word: int) -> float:
    """Log-probability of a word behind another, read off the tables."""
    language = vocabulary.language
    for row in range(language.first_pair[last], language.first_pair[last + 1]):
        if language.pair_word[row] == word:
            return float(language.pair[row])
    return float(language.pair_back[last] + language.single[word])


def search(
    vocabulary: Vocabulary, config: SearchConfig, phones: np.ndarray, delay: int, block_steps: int = 1
) -> list[tuple[str, int, int, int]]:
    """(word, first frame, end, step in which it was written) of phone scores [frames, 40]."""
    tree = vocabulary.tree
    live = [Hypothesis(0.0)]
    out: list[tuple[str, int, int, int]] = []
    for frame, row in enumerate(phones):
        emission = row
        between = max(emission[0], emission.max() - config.noise)
        best: dict[tuple[int, int], Hypothesis] = {}

        def offer(hypothesis: Hypothesis, best: dict[tuple[int, int], Hypothesis] = best) -> None:
            key = hypothesis.node, hypothesis.last
            if key not in best or best[key].score < hypothesis.score:
                best[key] = hypothesis

        for h in live:
            stay = between if h.node == 0 else emission[tree.phone[h.node]]
            if 0 < h.node < tree.first[0] + tree.children[0]:
                stay = stay - LINGER  # of two equal phones that meet, the later word has as little as can be
            offer(replace(h, score=h.score + stay))
            for child in range(tree.first[h.node], tree.first[h.node] + tree.children[h.node]):
                step = config.language * (tree.ahead[child] - tree.ahead[h.node]) + config.phone
                step += emission[tree.phone[child]]
                begin = frame if h.node == 0 else h.begin
                offer(replace(h, node=child, score=h.score + step, begin=begin))
        top = max(h.score for h in best.values())
        for h in [h for h in best.values() if h.score >= top - config.beam]:
            for place in range(tree.first_end[h.node], tree.first_end[h.node + 1]):
                word = int(tree.ends[place])
                gain = say(vocabulary, h.last, word) - tree.ahead[h.node]
                words = (*h.words, (word, h.begin, frame + 1))
                score = h.score + config.language * gain + config.word
                offer(Hypothesis(score, 0, word + 1, words, h.begin))
        live = [replace(h, score=h.score - top) for h in best.values() if h.score >= top - config.beam]
        step = frame // 4
        if frame % 4 == 3 and (step + 1) % block_steps == 0:
            live = _settle(vocabulary, config, live, out, step, 4 * (step + 1 - delay))
    return out


def _settle(
    vocabulary: Vocabulary,
    config: SearchConfig,
    live: list[Hypothesis],
    out: list[tuple[str, int, int, int]],
    step: int,
    deadline: int,
) -> list[Hypothesis]:
    while True:
        best = max(live, key=lambda h: h.score)
        if not best.words:
            return live
        word, begin, end = best.words[0]
        agree = [h for h in live if h.words and h.words[0][0] == word]
        shares = [np.exp(config.sharpness * (h.score - best.score)) for h in live]
        some = sum(np.exp(config.sharpness * (h.score - best.score)) for h in agree)
        if end > deadline and some < config.sure * sum(shares):
            return live
        out.append((vocabulary.words[word], begin, end, step))
        live = [replace(h, words=h.words[1:]) for h in agree]
