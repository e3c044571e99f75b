"""The laws pass a module that keeps them and catch each way of breaking them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from laws import assert_batch_law, assert_memory_law, assert_seed_law, assert_streaming_law
from rillvox.kernels.state import StateTree, leaf


class Echo:
    """y[t] = x[t] + x[t - 1] / 2, with every mistake that one can ask for."""

    def __init__(self, mistake: str = "") -> None:
        self.mistake = mistake
        self.hoard: list[Tensor] = []

    def initial_state(self, slots: int, **options: Any) -> StateTree:
        extra = 1 if self.mistake == "shared bytes" else 0
        return {"last": torch.zeros(slots, 1), "extra": torch.zeros(slots + extra)}

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1) / 2

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        last = leaf(state, "last")
        y = x + torch.cat([last, x[:, :-1]], dim=1) / 2
        if self.mistake == "neighbour":
            y = y + 0.01 * active.sum() - 0.01
        if self.mistake == "first chunk only":
            y = x
        if self.mistake == "cuts":
            y = y + 0.001 * (x.shape[1] - 1)
        if self.mistake == "one output too many":
            y = torch.cat([y, y[:, -1:]], dim=1)
        if self.mistake == "fifth hour":
            leaf(state, "extra").add_(active.float())
            y = y + (leaf(state, "extra") > 30).float()[:, None]
        if self.mistake == "hoard":
            self.hoard.append(x.clone())
        if self.mistake == "rebind":
            state["last"] = torch.where(active[:, None], x[:, -1:], last)
        elif self.mistake == "touch":
            last.copy_(x[:, -1:].nan_to_num(7.0))
        else:
            last.copy_(torch.where(active[:, None], x[:, -1:], last))
        return y


def signals(sessions: int = 6, time: int = 40) -> Tensor:
    return torch.randn(sessions, time, generator=torch.Generator().manual_seed(1))


def test_a_sound_module_keeps_every_law() -> None:
    assert_streaming_law(Echo(), signals(), window=2)
    assert_batch_law(Echo(), signals())
    assert assert_memory_law(Echo(), signals()) == 8


@pytest.mark.parametrize(
    "mistake", ["touch", "neighbour", "first chunk only", "cuts", "one output too many", "fifth hour"]
)
def test_the_streaming_law_catches(mistake: str) -> None:
    with pytest.raises((AssertionError, RuntimeError)):
        assert_streaming_law(Echo(mistake), signals())


@pytest.mark.parametrize("mistake", ["touch", "neighbour"])
def test_the_batch_law_catches(mistake: str) -> None:
    with pytest.raises(AssertionError):
        assert_batch_law(Echo(mistake), signals())


@pytest.mark.parametrize("mistake", ["hoard", "rebind", "shared bytes"])
def test_the_memory_law_catches(mistake: str) -> None:
    with pytest.raises(AssertionError):
        assert_memory_law(Echo(mistake), signals())


def test_the_streaming_law_refuses_a_signal_that_shows_nothing() -> None:
    with pytest.raises(ValueError, match="signals of 60"):
        assert_streaming_law(Echo(), signals(time=40), window=20)
    with pytest.raises(ValueError, match="reused"):
        assert_streaming_law(Echo(), signals(sessions=3))


def mixed(seed: Tensor, step: Tensor) -> Tensor:
    """A sound toy draw: one number out of seed and step."""
    return (seed * 6364136223846793005 + step * 1442695040888963407) >> 33


def advancing() -> Callable[[Tensor, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda seed, step: torch.rand(len(seed), generator=generator)


def test_the_seed_law_passes_a_draw_from_seed_and_step() -> None:
    assert_seed_law(mixed)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (advancing(), "differs"),
        (lambda seed, step: mixed(seed, step) + torch.arange(len(seed)), "row 1 of 2"),
        (lambda seed, step: mixed(torch.zeros_like(seed), step), "another seed"),
        (lambda seed, step: mixed(seed, torch.zeros_like(step)), "every step"),
    ],
)
def test_the_seed_law_catches(draw: Callable[[Tensor, Tensor], Tensor], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_seed_law(draw)
