"""A batch of sessions: streamed equals offline, and nobody sees anybody else."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws.listening import (
    batch,
    expected,
    golden,
    golden_vectors,
    listen,
    offline,
    small,
    tensors,
    watch,
    waveform,
)

from rillvox import CapacityError, ConfigError
from rillvox.asr import ears
from rillvox.asr.model import RealtimeASR


@pytest.mark.parametrize("delay", [1, 6, 30])
@pytest.mark.parametrize(("cut", "max_tokens"), [(1280, 1), (10**9, 16)])
def test_streaming_gives_the_golden_tokens(delay: int, cut: int, max_tokens: int) -> None:
    vectors = golden_vectors()
    room = batch(golden(), max_tokens=max_tokens)
    tokens = listen(room.open(80 * delay), room, vectors["waveform"].numpy(), [cut])
    assert tokens == vectors[f"d{delay}.greedy_ids"].tolist()[33 + delay :]


@pytest.mark.parametrize("cuts", [[37], [160], [1280], [4000], [10**9], [5, 20000, 1, 1279, 3333]])
@pytest.mark.parametrize(("delay_ms", "delay", "block"), [(80, 1, 4), (240, 2, 8), (480, 3, 16)])
def test_any_cut_gives_the_offline_tokens(cuts: list[int], delay_ms: int, delay: int, block: int) -> None:
    room = batch(small())
    lane = room.open(delay_ms)
    assert (lane.delay_tokens, lane.block, lane.delay_ms) == (delay, block, delay_ms)
    assert listen(lane, room, waveform(2.9), cuts) == expected(2.9, delay, block)


def test_single_samples_give_the_offline_tokens() -> None:
    room = batch(small())
    assert listen(room.open(480), room, waveform(0.3), [1]) == expected(0.3, 3, 16)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    cuts=st.lists(st.integers(1, 9000), min_size=1, max_size=12),
    max_tokens=st.sampled_from([4, 7, 8, 33]),
    plan=st.sampled_from([(80, 1, 4), (240, 2, 8), (480, 3, 16), (1600, 17, 16)]),
    live=st.booleans(),
)
def test_no_cut_is_seen(cuts: list[int], max_tokens: int, plan: tuple[int, int, int], live: bool) -> None:
    delay_ms, delay, block = plan
    room = batch(small(), max_tokens=max_tokens)
    lane = room.open(delay_ms)
    tokens = watch(lane)
    samples = waveform(1.7)
    begin = 0
    for cut in [*cuts, len(samples)]:
        lane.push(samples[begin : begin + cut])
        if live:
            room.step()
        begin += cut
    lane.finish()
    room.drain()
    assert tokens == expected(1.7, delay, block)


@pytest.mark.parametrize("n", [1, 1279, 1280, 1281])
def test_short_audio_gives_the_offline_tokens(n: int) -> None:
    room = batch(small())
    samples = waveform(0.2)[:n]
    assert listen(room.open(160), room, samples, [n]) == offline(small(), samples, 1, 8)


def test_the_law_catches_a_shifted_mel_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ears, "MEL_LOOKAHEAD", 0)
    room = batch(small())
    assert listen(room.open(480), room, waveform(2.9), [1280]) != expected(2.9, 3, 16)


def test_a_session_does_not_see_its_slot_its_neighbours_or_who_was_there_before() -> None:
    plans = [(80, 1, 4), (480, 3, 16), (960, 9, 16), (240, 2, 8), (2400, 27, 16), (480, 3, 16), (80, 1, 4)]
    room = batch(small(), slots=3, max_tokens=4)
    waiting = list(enumerate(plans))
    running: dict[int, tuple] = {}
    heard: dict[int, list[int]] = {}
    tick = 0
    while waiting or running:
        if waiting and room.free and tick % 3 == 0:
            index, (delay_ms, _, _) = waiting.pop(0)
            lane = room.open(delay_ms)
            heard[index] = watch(lane)
            running[index] = (lane, waveform(1.5 + 0.2 * index, index), 0)
        for index, (lane, samples, at) in list(running.items()):
            step = (700, 1280, 3100)[(index + tick) % 3]
            if at < len(samples):
                lane.push(samples[at : at + step])
                running[index] = (lane, samples, at + step)
            lane.finish() if at + step >= len(samples) else None
            if lane.done:
                room.close(lane)
                del running[index]
        room.step()
        tick += 1
    for index, (_, delay, block) in enumerate(plans):
        assert heard[index] == expected(1.5 + 0.2 * index, delay, block, index), index


def test_the_batch_law_catches_a_slot_that_was_not_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    room = batch(small())
    first = room.open(480)
    listen(first, room, waveform(1.7, 1), [1280])
    room.close(first)
    monkeypatch.setattr(type(room.bank), "copy_lane", lambda *_: None)
    assert listen(room.open(480), room, waveform(2.9), [1280]) != expected(2.9, 3, 16)


def test_a_full_batch_refuses_and_a_closed_session_makes_room() -> None:
    room = batch(small(), slots=2)
    first = room.open(480)
    room.open(80)
    with pytest.raises(CapacityError, match="all 2 slots"):
        room.open(480)
    room.close(first)
    room.close(first)
    assert room.free == 1
    room.open(480)


@pytest.mark.parametrize("delay_ms", [0, 79, 100, -80, 2480])
def test_a_delay_that_the_model_cannot_do_is_refused(delay_ms: int) -> None:
    room = batch(small())
    with pytest.raises(ConfigError):
        room.open(delay_ms)
    assert room.free == 1


def test_the_start_of_a_session_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    room = batch(small(), slots=2)
    room.open(480)
    calls = count_calls(monkeypatch)
    room.open(480)
    assert calls == []
    assert not room.step()


def test_two_delays_from_one_encoder_pass_equal_two_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    room = batch(small(), slots=2, drafts=1)
    lane = room.open(960, draft_ms=160)
    assert lane.draft is not None
    # The faster delay decides the block, so the slower lane has D = 960 / 80 less one.
    assert (lane.delay_tokens, lane.draft.delay_tokens, lane.ear.block) == (11, 1, 8)
    fast, slow = watch(lane.draft), watch(lane)
    calls = count_calls(monkeypatch)
    samples = waveform(2.9)
    for begin in range(0, len(samples), 1280):
        lane.push(samples[begin : begin + 1280])
        room.step()
    # One encoder call for each block of two steps behind the prefix, and one decoder call for both lanes.
    heard = lane.ear.tokens - 30
    assert (calls.count("encode"), calls.count("decode")) == (heard // 2, heard)
    lane.finish()
    room.drain()
    assert slow == expected(2.9, 11, 8)
    assert fast == expected(2.9, 1, 8)
    room.close(lane)
    assert room.free == 2
    room.open(960, draft_ms=160)


@pytest.mark.parametrize("draft_ms", [480, 960])
def test_a_draft_is_faster_than_the_text(draft_ms: int) -> None:
    room = batch(small(), drafts=1)
    with pytest.raises(ConfigError, match="draft_ms"):
        room.open(480, draft_ms=draft_ms)
    assert room.free == 1


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which calls of the model are made from now on."""
    calls: list[str] = []
    for name in ("encode", "decode"):
        step = getattr(RealtimeASR, f"{name}_step")

        def counted(*arguments, step=step, name=name, **named):
            calls.append(name)
            return step(*arguments, **named)

        monkeypatch.setattr(RealtimeASR, f"{name}_step", counted)
    return calls


def test_a_fork_hears_the_end_and_leaves_the_stream_untouched() -> None:
    samples = waveform(2.9)
    room = batch(small(), scratch=2)
    lane = room.open(480)
    tokens = watch(lane)
    lane.push(samples[:20000])
    room.drain()
    before, host, waiting = tensors(room, lane), lane.state(), lane.ear.waiting
    fork = room.fork(lane)
    ending = watch(fork)
    fork.finish()
    room.drain()
    assert fork.done
    assert not lane.done
    assert tokens + ending == offline(small(), samples[:20000], 3, 16)
    room.close(fork)
    after = tensors(room, lane)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert lane.state() == host
    assert lane.ear.waiting == waiting
    lane.push(samples[20000:])
    lane.finish()
    room.drain()
    assert tokens == expected(2.9, 3, 16)


def test_forks_are_refused_when_the_scratch_slots_are_taken() -> None:
    room = batch(small(), slots=2, scratch=1)
    lane = room.open(480)
    fork = room.fork(lane)
    with pytest.raises(CapacityError, match="scratch"):
        room.fork(lane)
    room.close(fork)
    room.close(room.fork(lane))


def test_a_guarded_batch_never_writes_a_mark_without_text() -> None:
    samples = waveform(6.0)
    followers: dict[bool, set[int]] = {}
    for guarded in (False, True):
        room = batch(small(), guarded=guarded, max_tokens=16)
        tokens = listen(room.open(240), room, samples, [len(samples)])
        followers[guarded] = {after for before, after in pairwise(tokens) if before == 33}
        assert (tokens == expected(6.0, 2, 8)) != guarded
    assert followers[False] & {32, 33}
    assert followers[True]
    assert not followers[True] & {1, 32, 33}
