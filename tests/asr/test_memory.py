"""A session without an end: flat memory, flat steps, exact positions."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from laws.listening import batch, expected, golden, small, tensors, watch, waveform

from rillvox.asr.events import Partial

MINUTE = 60 * 16000
MAX_TOKENS = 16
STATM = Path("/proc/self/statm")


def resident_kib() -> int:
    """Resident set of this process."""
    return int(STATM.read_text().split()[1]) * 4


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="reads the resident set from /proc")
def test_half_an_hour_costs_what_a_minute_costs() -> None:
    room = batch(golden(), max_tokens=MAX_TOKENS)
    lane = room.open(480, keep=False)
    bytes_before = room.nbytes
    minute = np.concatenate([waveform(20.0, seed) for seed in range(3)])
    chunk = MAX_TOKENS * 1280
    cost: list[list[float]] = []
    resident: list[int] = []
    for _ in range(30):
        ticks: list[float] = []
        for begin in range(0, MINUTE, chunk):
            lane.push(minute[begin : begin + chunk])
            start = time.process_time()
            room.drain()
            ticks.append(time.process_time() - start)
            lane.poll()
        cost.append(ticks)
        resident.append(resident_kib())
    assert lane.position > 30 * 750
    # The first minute warms caches up; a tick of the last may cost a fifth more than one of the first.
    early, late = (
        statistics.median(tick for ticks in part for tick in ticks) for part in (cost[1:4], cost[-3:])
    )
    assert late <= 1.2 * early, (early, late)
    slope = np.polyfit(np.arange(25), resident[5:], 1)[0]
    assert abs(slope) < 30, f"{slope:.1f} KiB a minute: {resident}"
    assert room.nbytes == bytes_before
    state = lane.state()
    assert len(repr(state)) < 10_000


def test_a_session_that_keeps_nothing_holds_nothing() -> None:
    room = batch(golden(), max_tokens=MAX_TOKENS)
    for keep in (True, False):
        lane = room.open(480, keep=keep)
        lane.push(waveform(8.0))
        room.drain()
        said = "".join(event.text for event in lane.poll() if isinstance(event, Partial))
        assert len(said) > 20
        assert lane.text == (said if keep else "")
        assert bool(lane.words.all) == keep
        room.close(lane)


def test_a_batch_says_what_a_session_costs() -> None:
    one, three = batch(small(), slots=1, scratch=0), batch(small(), slots=3, scratch=0)
    assert three.nbytes == 3 * one.nbytes
    lane = one.open(480)
    lane.push(waveform(1.0))
    one.drain()
    assert one.nbytes == batch(small(), slots=1, scratch=0).nbytes
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors(one, lane).values())
    assert 0 < held < one.nbytes


def test_the_offline_tokens_hold_far_past_every_window() -> None:
    room = batch(small(), max_tokens=16)
    lane = room.open(480)
    tokens = watch(lane)
    for part in np.array_split(waveform(9.0), 20):
        lane.push(part)
        room.step()
    lane.finish()
    room.drain()
    assert tokens == expected(9.0, 3, 16)
