"""The packed head's step against the plain one with the same rounded weights, and its laws bit for bit."""

from __future__ import annotations

import importlib
from copy import deepcopy

import pytest
import torch
from tiny_codec import made
from torch import Tensor, nn

from rillvox.codec.source import SourceFilter
from rillvox.kernels.int8 import round_weight
from rillvox.kernels.pack import pack_weights
from rillvox.kernels.state import StateTree, flatten

pytest.importorskip("numba")


@torch.no_grad()
def pair(kind: str = "80 ms") -> tuple[SourceFilter, SourceFilter]:
    """A head whose projection is rounded, and its packed twin."""
    plain = deepcopy(made(kind).model.decoder.output)
    assert isinstance(plain, SourceFilter)
    plain.projection.bias.uniform_(-4, 4, generator=torch.Generator().manual_seed(3))
    packed = deepcopy(plain)
    pack_weights(nn.Sequential(packed))
    packed.pack()
    whole, scale = round_weight(plain.projection.weight)
    plain.projection.weight.copy_(whole * scale[:, None])
    return plain, packed


def given(head: SourceFilter, slots: int, frames: int, seed: int) -> tuple[Tensor, Tensor]:
    """Positions with loud and quiet ones among them, and latents."""
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(slots, head.projection.in_features, 8 * frames, generator=generator)
    return x, torch.randn(slots, frames, head.latent_dim, generator=generator)


def apart(one: StateTree, other: StateTree) -> dict[str, float]:
    pairs = zip(flatten(one), flatten(other), strict=True)
    return {key: float((a.double() - b.double()).abs().max()) for (key, a), (_, b) in pairs}


def loudest_difference(plain: SourceFilter, packed: SourceFilter) -> float:
    """Between their sounds, of the loudest sample; some slots idle, and given what is no number."""
    states = plain.initial_state(4), packed.initial_state(4)
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for step, frames in enumerate([1, 1, 3, 2, 1] * 6):  # the noise comes again meanwhile
        x, latents = given(plain, 4, frames, step)
        active = torch.rand(4, generator=generator) < 0.6
        active[step % 4] = True
        x[~active] = latents[~active] = float("nan")
        want = plain.step(x, latents, states[0], active)
        got = packed.step(x, latents, states[1], active)
        assert got.shape == want.shape
        worst = max(worst, float((got - want).abs().max() / want.abs().max().clamp(min=1e-3)))
    found = apart(*states)
    assert max(found[key] for key in ("latents", "last", "position")) == 0, found
    assert max(found[key] for key in ("pitch", "phase")) < 1e-9, found
    assert torch.allclose(plain.tail(states[0]), packed.tail(states[1]), atol=1e-4)
    return worst


@pytest.mark.parametrize("kind", ["source", "80 ms"])
@torch.no_grad()
def test_it_gives_what_the_plain_head_gives(kind: str) -> None:
    assert loudest_difference(*pair(kind)) < 1e-5


@pytest.mark.parametrize("broken", ["lowest", "loudest", "closing", "hiss", "weights"])
@torch.no_grad()
def test_a_wrong_head_is_seen(broken: str) -> None:
    plain, packed = pair("source")
    fused = packed.fused
    assert fused is not None
    right = getattr(fused, broken)
    wrong = tuple(1.001 * part for part in right) if isinstance(right, tuple) else 1.001 * right
    setattr(fused, broken, wrong)
    with pytest.raises(AssertionError):
        assert loudest_difference(plain, packed) < 1e-5


@torch.no_grad()
def test_a_slot_is_the_same_bits_alone_and_however_it_is_cut() -> None:
    _, packed = pair()
    x, latents = given(packed, 3, 12, 0)
    everyone = torch.ones(3, dtype=torch.bool)
    crowd = packed.initial_state(3)
    together = packed.step(x, latents, crowd, everyone)
    for slot, cut in enumerate((1, 5, 12)):
        state = packed.initial_state(1)
        one, other = x[slot : slot + 1], latents[slot : slot + 1]
        pieces = zip(one.split(8 * cut, 2), other.split(cut, 1), strict=True)
        alone = torch.cat([packed.step(a, b, state, everyone[:1]) for a, b in pieces], 2)
        assert torch.equal(alone, together[slot : slot + 1])
        for (key, a), (_, b) in zip(flatten(state), flatten(crowd), strict=True):
            assert torch.equal(a[0], b[slot]), key


@torch.no_grad()
def test_nobody_active_is_nothing_done() -> None:
    _, packed = pair("source")
    state = packed.initial_state(2)
    assert not packed.step(*given(packed, 2, 1, 0), state, torch.zeros(2, dtype=torch.bool)).any()
    assert all(not leaf.any() for _, leaf in flatten(state))


def test_the_sine_is_right() -> None:
    sine = importlib.import_module("rillvox.kernels.numba_source").sine
    x = torch.linspace(-700, 700, 20001, dtype=torch.float64)
    found = torch.tensor([sine(float(value)) for value in x], dtype=torch.float64)
    turns = x - 2 * (x / 2).round()
    torch.testing.assert_close(found, (torch.pi * turns).sin(), atol=2e-15, rtol=0)
    assert sine(3.0) == 0
