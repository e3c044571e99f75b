"""Packed convolutions in one call against plain ones with the same rounded weights: numbers and laws."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from rillvox.kernels.conv import CausalConv1d, CausalConvTranspose1d
from rillvox.kernels.fused_conv import FusedConv
from rillvox.kernels.int8 import round_weight
from rillvox.kernels.pack import pack_weights
from rillvox.kernels.state import flatten

pytest.importorskip("numba")

Layer = CausalConv1d | CausalConvTranspose1d
LAYERS: dict[str, Layer] = {
    "halving": CausalConv1d(12, 40, 4, 2, bias=False, past_mode="replicate"),
    "no past": CausalConv1d(12, 7, 2, 2),
    "a long past": CausalConv1d(12, 33, 7, 1, past_mode="replicate"),
    "zeros before": CausalConv1d(12, 8, 3, 1),
    "mirrored": CausalConv1d(12, 8, 3, 1, past_mode="reflect"),
    "doubling": CausalConvTranspose1d(12, 40, 4, 2, bias=False),
    "ragged": CausalConvTranspose1d(12, 8, 5, 2),
    "no overlap": CausalConvTranspose1d(12, 8, 8, 8),
}


@torch.no_grad()
def pair(name: str) -> tuple[Layer, Layer]:
    """A layer whose weights are rounded, and its packed twin."""
    plain = deepcopy(LAYERS[name])
    torch.manual_seed(0)
    for parameter in plain.parameters():
        parameter.normal_(0, 0.5)
    packed = deepcopy(plain)
    pack_weights(nn.Sequential(packed))
    # One scale for each output of the matrix product that stands behind the layer.
    by_output = (lambda w: w.flatten(1)) if isinstance(plain, CausalConv1d) else (lambda w: w.flatten(1).T)
    whole, scale = round_weight(by_output(plain.weight))
    by_output(plain.weight).copy_(whole * scale[:, None])
    return plain, packed


def chunks(lengths: list[int], slots: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Inputs and who is active; what idle slots are given is NaN."""
    generator = torch.Generator().manual_seed(1)
    made: list[tuple[Tensor, Tensor]] = []
    for length in lengths:
        active = torch.rand(slots, generator=generator) < 0.6
        x = torch.randn(slots, 12, length, generator=generator)
        x[~active] = float("nan")
        made.append((x, active))
    return made


@pytest.mark.parametrize("name", list(LAYERS))
@torch.no_grad()
def test_it_gives_what_the_rounded_layer_gives(name: str) -> None:
    plain, packed = pair(name)
    assert (packed.fused is None) == (name == "mirrored")
    states = plain.initial_state(4), packed.initial_state(4)
    for x, active in chunks([8, 8, 2, 4, 2, 16, 2, 2, 6] if name != "mirrored" else [8] * 6):
        want = plain.step(x, states[0], active)
        got = packed.step(x, states[1], active)
        assert got.shape == want.shape
        torch.testing.assert_close(got, want, atol=2e-5, rtol=1e-4)
        for (key, a), (_, b) in zip(flatten(states[0]), flatten(states[1]), strict=True):
            assert torch.equal(a, b), key
    nobody = torch.zeros(4, dtype=torch.bool)
    assert not packed.step(torch.ones(4, 12, 4), states[1], nobody).any()


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "mirrored"])
@torch.no_grad()
def test_a_slot_is_the_same_bits_alone_and_however_it_is_cut(name: str) -> None:
    _, packed = pair(name)
    whole = torch.randn(3, 12, 48, generator=torch.Generator().manual_seed(2))
    everyone = torch.ones(3, dtype=torch.bool)
    together = packed.step(whole, packed.initial_state(3), everyone)
    for slot, cut in enumerate((2, 6, 8)):
        state = packed.initial_state(1)
        one = whole[slot : slot + 1]
        alone = torch.cat([packed.step(part, state, everyone[:1]) for part in one.split(cut, 2)], 2)
        assert torch.equal(alone, together[slot : slot + 1])


def test_a_mirrored_past_is_refused() -> None:
    layer = LAYERS["mirrored"]
    assert isinstance(layer, CausalConv1d)
    with pytest.raises(ValueError, match="more than one call"):
        FusedConv(layer)


@torch.no_grad()
def test_what_a_step_refuses_is_refused_packed_too() -> None:
    _, packed = pair("halving")
    everyone = torch.ones(1, dtype=torch.bool)
    with pytest.raises(ValueError, match="a multiple of 2 inputs, got 3"):
        packed.step(torch.ones(1, 12, 3), packed.initial_state(1), everyone)
    _, packed = pair("doubling")
    with pytest.raises(ValueError, match="at least one input"):
        packed.step(torch.ones(1, 12, 0), packed.initial_state(1), everyone)
