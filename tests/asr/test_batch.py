"""A batch of sessions: streamed equals offline, and nobody sees anybody else."""

from __future__ import annotations

from functools import cache

import pytest
from laws.listening import batch, golden, golden_vectors, listen, offline, small, waveform


@pytest.mark.parametrize("delay", [1, 6, 30])
@pytest.mark.parametrize("cut", [37, 1280, 10**9])
def test_streaming_gives_the_golden_tokens(delay: int, cut: int) -> None:
    vectors = golden_vectors()
    tiny = golden()
    room = batch(tiny, max_tokens=1 if cut == 37 else 16)
    tokens = listen(room.open(80 * delay), room, vectors["waveform"].numpy(), [cut])
    assert tokens == vectors[f"d{delay}.greedy_ids"].tolist()[33 + delay :]


@pytest.mark.parametrize("cuts", [[37], [160], [1280], [4000], [10**9], [5, 20000, 1, 1279, 3333]])
@pytest.mark.parametrize(("delay_ms", "delay", "block"), [(80, 1, 4), (240, 2, 8), (480, 3, 16)])
def test_any_cut_gives_the_offline_tokens(cuts: list[int], delay_ms: int, delay: int, block: int) -> None:
    room = batch(small())
    lane = room.open(delay_ms)
    assert (lane.delay_tokens, lane.block, lane.delay_ms) == (delay, block, delay_ms)
    tokens = listen(lane, room, waveform(2.9), cuts)
    assert tokens == expected(2.9, delay, block)


def test_single_samples_give_the_offline_tokens() -> None:
    room = batch(small())
    assert listen(room.open(480), room, waveform(0.3), [1]) == expected(0.3, 3, 16)


@cache
def expected(seconds: float, delay: int, block: int) -> list[int]:
    return offline(small(), waveform(seconds), delay, block)
