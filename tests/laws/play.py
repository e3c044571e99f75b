"""Drive a streaming module through a script of ticks: who is active, in which slot, how long a chunk."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from rillvox.kernels.state import StateTree, copy_into, flatten, reset, select, unflatten

Inputs = Tensor | tuple[Tensor, ...]
Axes = int | tuple[int | None, ...]


class Streaming(Protocol):
    """What the laws speak about. `forward` and `step` take one or several inputs."""

    def initial_state(self, *args: Any, **kwargs: Any) -> StateTree: ...
    def forward(self, *args: Any, **kwargs: Any) -> Tensor: ...
    def step(self, *args: Any, **kwargs: Any) -> Tensor: ...


@dataclass(frozen=True)
class Subject:
    """A `Streaming` made of three functions."""

    initial_state: Callable[..., StateTree]
    forward: Callable[..., Tensor]
    step: Callable[..., Tensor]


@dataclass(frozen=True)
class Signals:
    """Whole inputs of several sessions, cut along time.

    `tensors` have the session on their first axis; `axes` names the time axis of each, None for
    what stays the same over a session (a delay, a voice).
    """

    tensors: tuple[Tensor, ...]
    axes: tuple[int | None, ...]

    @classmethod
    def of(cls, x: Inputs, time_axis: Axes) -> Signals:
        tensors = (x,) if isinstance(x, Tensor) else x
        axes = (time_axis,) * len(tensors) if isinstance(time_axis, int) else time_axis
        if len(axes) != len(tensors):
            raise ValueError(f"{len(tensors)} inputs need as many time axes, got {len(axes)}")
        return cls(tensors, axes)

    @property
    def sessions(self) -> int:
        return self.tensors[0].shape[0]

    @property
    def time(self) -> int:
        return next(
            tensor.shape[axis]
            for tensor, axis in zip(self.tensors, self.axes, strict=True)
            if axis is not None
        )

    def whole(self, session: int) -> tuple[Tensor, ...]:
        return tuple(tensor[session : session + 1] for tensor in self.tensors)

    def chunk(
        self, seats: Mapping[int, int], begins: Mapping[int, int], length: int, slots: int
    ) -> tuple[Tensor, ...]:
        """Inputs of one step: the next `length` of every seated session, poison everywhere else."""
        return tuple(
            self._chunk(tensor, axis, seats, begins, length, slots)
            for tensor, axis in zip(self.tensors, self.axes, strict=True)
        )

    @staticmethod
    def _chunk(
        tensor: Tensor,
        axis: int | None,
        seats: Mapping[int, int],
        begins: Mapping[int, int],
        length: int,
        slots: int,
    ) -> Tensor:
        shape = list(tensor.shape)
        shape[0] = slots
        if axis is not None:
            shape[axis] = length
        # What an inactive slot holds must not matter: NaN spreads wherever it is read. Integers
        # have no poison that is also a legal index.
        blank = torch.full(shape, float("nan") if tensor.is_floating_point() else 0, dtype=tensor.dtype)
        for slot, session in seats.items():
            row = tensor[session]
            blank[slot] = row if axis is None else row.narrow(axis - 1, begins[session], length)
        return blank


@dataclass(frozen=True)
class Tick:
    """One step: `seats` maps the active slots to their sessions, who take `length` inputs each."""

    length: int
    seats: Mapping[int, int]
    move: bool = False  # before the step, save all state and load it into another tree


@dataclass
class Played:
    """What a script gave: the outputs of each session, side by side in time."""

    outputs: dict[int, list[Tensor]] = field(default_factory=dict[int, list[Tensor]])
    heard: dict[int, int] = field(default_factory=dict[int, int])

    def joined(self, session: int, axis: int) -> Tensor:
        return torch.cat(self.outputs[session], dim=axis)


def play(
    module: Streaming,
    signals: Signals,
    script: Sequence[Tick],
    *,
    slots: int,
    state_options: Mapping[str, Any],
) -> Played:
    """Run a script and check on the way that inactive slots keep their state bit for bit.

    A session that takes a seat for the first time finds it reset, and dirty before that. A slot
    left in the middle of a session is reset only when the next one comes.
    """
    state = module.initial_state(slots, **state_options)
    played = Played()
    for number, tick in enumerate(script):
        if tick.move:
            state = saved_and_loaded(module, state, slots, state_options)
        for slot, session in tick.seats.items():
            if session not in played.heard:
                played.heard[session] = 0
                played.outputs[session] = []
                reset(state, [slot])
        active = torch.zeros(slots, dtype=torch.bool)
        active[list(tick.seats)] = True
        idle = [slot for slot in range(slots) if slot not in tick.seats]
        before = select(state, idle)
        with torch.inference_mode():
            y = module.step(*signals.chunk(tick.seats, played.heard, tick.length, slots), state, active)
        assert_same_bits(before, select(state, idle), f"tick {number}: the step touched an inactive slot")
        for slot, session in tick.seats.items():
            played.outputs[session].append(y[slot : slot + 1].clone())
            played.heard[session] += tick.length
    return played


def saved_and_loaded(
    module: Streaming, state: StateTree, slots: int, options: Mapping[str, Any]
) -> StateTree:
    """The same sessions in another tree, through the flat form that a file would hold."""
    rows = list(range(slots))
    flat = {name: leaf.clone() for name, leaf in flatten(select(state, rows))}
    other = module.initial_state(slots, **options)
    copy_into(other, rows, unflatten(flat), rows)
    return other


def assert_same_bits(a: StateTree, b: StateTree, message: str) -> None:
    for (name, x), (_, y) in zip(flatten(a), flatten(b), strict=True):
        if not torch.equal(bits(x), bits(y)):
            raise AssertionError(f"{message} (state {name})")


def bits(x: Tensor) -> Tensor:
    """The bytes of a tensor, so that NaN equals itself and -0 differs from 0."""
    return x.contiguous().reshape(-1).view(torch.uint8)


def assert_close(got: Tensor, want: Tensor, tolerance: float, what: str) -> None:
    """Greatest difference over greatest value at most `tolerance`; whole numbers are identical."""
    if got.shape != want.shape:
        raise AssertionError(f"{what}: shape {tuple(got.shape)}, expected {tuple(want.shape)}")
    if not want.is_floating_point():
        if not torch.equal(got, want):
            raise AssertionError(f"{what}: {int((got != want).sum())} of {want.numel()} values differ")
        return
    scale = max(float(want.abs().max()), 1e-6) if want.numel() else 1.0
    error = float((got - want).abs().max()) / scale if want.numel() else 0.0
    if not error <= tolerance:  # also catches NaN
        raise AssertionError(f"{what}: relative error {error:.2e}, allowed {tolerance:.0e}")


def fixed_cuts(time: int, length: int, grain: int) -> list[int]:
    """Chunks of `length` and whatever whole grains are left."""
    cuts = [length] * (time // length)
    rest = time % length // grain * grain
    return [*cuts, rest] if rest else cuts


def random_cuts(rng: random.Random, time: int, longest: int, grain: int) -> list[int]:
    """Chunks of 1 to `longest` inputs, each a multiple of the grain, short ones as likely as long ones."""
    cuts: list[int] = []
    left = time // grain
    while left:
        take = min(left, rng.choice([1, rng.randint(1, longest // grain), longest // grain]))
        cuts.append(take * grain)
        left -= take
    return cuts


def crowd(
    rng: random.Random, signals: Signals, *, slots: int, longest: int, grain: int, leavers: float = 0.2
) -> Iterator[Tick]:
    """A script in which all sessions pass through few slots.

    Sessions join at random times, in random free slots; some leave in mid-stream; in every tick
    some of those who sit are idle; once in a while everything is saved and loaded.
    """
    total = signals.time // grain * grain
    waiting = list(range(signals.sessions))
    rng.shuffle(waiting)
    seats: dict[int, int] = {}
    left: dict[int, int] = {}
    while waiting or seats:
        free = [slot for slot in range(slots) if slot not in seats]
        rng.shuffle(free)
        for slot in free:
            if waiting and (rng.random() < 0.3 or not seats):
                session = waiting.pop()
                seats[slot] = session
                leaves_early = rng.random() < leavers
                left[session] = rng.randint(1, total // grain) * grain if leaves_early else total
        length = min(
            rng.choice([grain, longest // grain * grain, rng.randint(1, longest // grain) * grain]),
            min(left[session] for session in seats.values()),
        )
        chosen = {slot: session for slot, session in seats.items() if rng.random() < 0.8}
        if not chosen:
            continue
        yield Tick(length, chosen, move=rng.random() < 0.05)
        for session in chosen.values():
            left[session] -= length
        seats = {slot: session for slot, session in seats.items() if left[session] > 0}


def first_axis(time_axis: Axes) -> int:
    if isinstance(time_axis, int):
        return time_axis
    return next(axis for axis in time_axis if axis is not None)
