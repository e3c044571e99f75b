"""The streaming law: what comes out piece by piece is what comes out at once."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import torch

from laws.play import (
    Axes,
    Inputs,
    Signals,
    Streaming,
    Tick,
    assert_close,
    crowd,
    first_axis,
    fixed_cuts,
    play,
    random_cuts,
)


def assert_streaming_law(
    module: Streaming,
    x: Inputs,
    *,
    time_axis: Axes = 1,
    out_axis: int | None = None,
    grain: int = 1,
    longest: int | None = None,
    window: int = 0,
    slots: int = 3,
    tolerance: float = 1e-5,
    state_options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """Streamed output equals offline output, however the signal is cut and whoever sits beside.

    Runs every session alone in chunks of one grain, in the longest chunks and in random ones;
    then all of them through `slots` slots with joins, leaves, idle ticks, reused slots and
    states that are saved and loaded. Idle slots are fed NaN and must keep their state.

    Args:
        module: `forward(*x)` takes whole signals, `step(*chunks, state, active)` pieces.
        x: signals of at least `slots + 1` sessions, [sessions, ...]; or a tuple of such inputs.
        time_axis: where time is in x; for a tuple one entry each, None for what has no time.
        out_axis: where time is in the output; that of the first input when left out.
        grain: a step takes multiples of this.
        longest: most inputs in one step (default: eight grains).
        window: inputs that the module can remember; the signals must be three times longer.
        slots: how many sessions share a state in the crowded run.
        tolerance: greatest error over greatest value; whole numbers must be identical.
        state_options: keyword arguments of `initial_state`.
        seed: of the random cuts.

    Raises:
        AssertionError: with the way of streaming that differed and by how much.
        ValueError: the signals are too short or too few to show anything.
    """
    signals = Signals.of(x, time_axis)
    axis = first_axis(time_axis) if out_axis is None else out_axis
    longest = longest or 8 * grain
    if signals.time < max(3 * window, grain):
        raise ValueError(f"the law needs signals of {3 * window} inputs or more, got {signals.time}")
    if signals.sessions <= slots:
        raise ValueError(f"{slots} slots are reused only by more sessions than that, got {signals.sessions}")
    rng = random.Random(seed)
    options = dict(state_options or {})
    with torch.inference_mode():
        whole = [module.forward(*signals.whole(session)) for session in range(signals.sessions)]
    total = signals.time // grain * grain

    def check(name: str, script: list[Tick], slots: int) -> None:
        played = play(module, signals, script, slots=slots, state_options=options)
        for session in sorted(played.outputs):
            what = f"{name}, session {session}: streamed is not offline"
            got, want = played.joined(session, axis), whole[session]
            heard, given, due = played.heard[session], got.shape[axis], want.shape[axis]
            if given > due or (heard == signals.time and given != due):
                raise AssertionError(
                    f"{what}: {given} outputs after {heard} inputs, {due} for {signals.time}"
                )
            assert_close(got, want.narrow(axis, 0, given), tolerance, what)

    for name, cuts in {
        "chunks of one": fixed_cuts(total, grain, grain),
        "longest chunks": fixed_cuts(total, longest, grain),
        "random chunks": random_cuts(rng, total, longest, grain),
    }.items():
        check(name, [Tick(length, {0: 0}) for length in cuts], 1)
    check("a crowd", list(crowd(rng, signals, slots=slots, longest=longest, grain=grain)), slots)
