"""The batch law: a session neither sees nor feels the others."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from laws.play import Axes, Inputs, Signals, Streaming, Tick, assert_close, first_axis, play, random_cuts


def assert_batch_law(
    module: Streaming,
    x: Inputs,
    *,
    time_axis: Axes = 1,
    out_axis: int | None = None,
    grain: int = 1,
    longest: int | None = None,
    slots: int = 4,
    tolerance: float = 1e-5,
    state_options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """A session gives the same alone and in any slot, whoever comes, goes and sat there before.

    Session 0 is cut once at random and played alone; then, with the same cuts, in each of the
    `slots` slots, after another session has left that slot in mid-stream, while neighbours join
    and leave. Arguments are those of `assert_streaming_law`; `forward` is not called, so this
    also judges what has no offline form.

    Raises:
        AssertionError: with the slot that differed and by how much.
    """
    signals = Signals.of(x, time_axis)
    axis = first_axis(time_axis) if out_axis is None else out_axis
    longest = longest or 8 * grain
    if signals.sessions < slots + 2:
        raise ValueError(f"{slots} slots need {slots + 2} sessions, got {signals.sessions}")
    rng = random.Random(seed)
    options = dict(state_options or {})
    cuts = random_cuts(rng, signals.time // grain * grain, longest, grain)
    solo = [Tick(length, {0: 0}) for length in cuts]
    alone = play(module, signals, solo, slots=1, state_options=options).joined(0, axis)
    for slot in range(slots):
        script = list(_among_others(rng, signals, cuts, slot, slots, grain))
        got = play(module, signals, script, slots=slots, state_options=options).joined(0, axis)
        assert_close(got, alone, tolerance, f"slot {slot} of {slots}: differs from the session alone")


def _among_others(
    rng: random.Random, signals: Signals, cuts: list[int], slot: int, slots: int, grain: int
) -> Iterator[Tick]:
    """Session 1 sits in `slot` and leaves, then session 0 comes; the rest change all the time."""
    heard = dict.fromkeys(range(1, signals.sessions), 0)
    yield Tick(grain, {slot: 1})
    heard[1] = grain
    neighbours: dict[int, int] = {}
    waiting = list(range(2, signals.sessions))
    for length in cuts:
        for other in range(slots):
            if other == slot:
                continue
            session = neighbours.get(other)
            if session is not None and (rng.random() < 0.1 or heard[session] + length > signals.time):
                del neighbours[other]
            elif session is None and waiting and rng.random() < 0.5:
                neighbours[other] = waiting.pop()
        present = {
            other: session
            for other, session in neighbours.items()
            if rng.random() < 0.8 and heard[session] + length <= signals.time
        }
        for session in present.values():
            heard[session] += length
        yield Tick(length, {slot: 0, **present}, move=rng.random() < 0.05)
