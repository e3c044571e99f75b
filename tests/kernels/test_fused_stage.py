"""A codec stage in one call against the stack with the same rounded weights, and its laws bit for bit."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rillvox.kernels.conv import convolve_transposed, transposed_as_matrix
from rillvox.kernels.fused_stage import FusedStage, WeightInt8Linear, fits_one_stage
from rillvox.kernels.int8 import round_weight
from rillvox.kernels.state import flatten
from rillvox.kernels.transformer import Transformer, TransformerConfig

pytest.importorskip("numba")

CONFIG = TransformerConfig(
    32, 3, 4, 8, 40, window=6, window_includes_self=False, norm_eps=1e-2, final_norm=False, position="alibi",
    qk_norm_eps=1e-6, layer_scale=0.4,
)  # fmt: skip
MOST = 8


@torch.no_grad()
def pair(config: TransformerConfig = CONFIG) -> tuple[Transformer, FusedStage]:
    """A stack whose weights are rounded, and its fused twin."""
    torch.manual_seed(0)
    made = Transformer(config).eval()
    for parameter in made.parameters():
        parameter.normal_(0, 0.3)
    fused = FusedStage(made)
    for block in made.layers:
        for module in block.modules():
            if isinstance(module, nn.Linear):
                rounded, scale = round_weight(module.weight)
                module.weight.copy_(rounded * scale[:, None])
    return made, fused


def chunks(slots: int, lengths: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Inputs and who is active; what idle slots are given is NaN."""
    generator = torch.Generator().manual_seed(1)
    made: list[tuple[Tensor, Tensor]] = []
    for length in lengths:
        active = torch.rand(slots, generator=generator) < 0.6
        x = torch.randn(slots, length, CONFIG.dim, generator=generator)
        x[~active] = float("nan")
        made.append((x, active))
    return made


@torch.no_grad()
def test_it_gives_what_the_rounded_stack_gives() -> None:
    reference, fused = pair()
    states = reference.initial_state(4, max_chunk=MOST), fused.initial_state(4, max_chunk=MOST)
    for x, active in chunks(4, [1, 8, 4, 2, 8, 8, 3, 1] * 4):  # several times round the ring
        want = reference.step(x, states[0], active)
        got = fused.step(x, states[1], active)
        assert torch.allclose(got, want, atol=2e-5 * float(want.abs().max().clamp(min=1)))
    for (key, a), (_, b) in zip(flatten(states[0]), flatten(states[1]), strict=True):
        assert torch.allclose(a, b, atol=1e-4), key


@torch.no_grad()
def test_a_slot_is_the_same_bits_alone_and_however_it_is_cut() -> None:
    _, fused = pair()
    whole = torch.randn(3, 24, CONFIG.dim, generator=torch.Generator().manual_seed(2))
    crowd = fused.initial_state(3, max_chunk=MOST)
    everyone = torch.ones(3, dtype=torch.bool)
    together = torch.cat([fused.step(part, crowd, everyone) for part in whole.split(8, 1)], 1)
    for slot, cut in enumerate((1, 3, 4)):
        state = fused.initial_state(1, max_chunk=MOST)
        one = whole[slot : slot + 1]
        alone = torch.cat([fused.step(part, state, everyone[:1]) for part in one.split(cut, 1)], 1)
        assert torch.equal(alone, together[slot : slot + 1])


@torch.no_grad()
def test_its_state_is_the_stacks_and_the_stack_is_let_go() -> None:
    made, fused = pair()
    for (a, one), (b, other) in zip(
        flatten(made.initial_state(2, max_chunk=3)), flatten(fused.initial_state(2, max_chunk=3)), strict=True
    ):
        assert a == b
        assert torch.equal(one, other)
        assert one.dtype == other.dtype
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


@torch.no_grad()
def test_nobody_active_is_nothing_done_and_too_many_positions_are_refused() -> None:
    _, fused = pair()
    state = fused.initial_state(2, max_chunk=2)
    x = torch.ones(2, 2, CONFIG.dim)
    assert not fused.step(x, state, torch.zeros(2, dtype=torch.bool)).any()
    assert all(not leaf.any() for _, leaf in flatten(state))
    with pytest.raises(ValueError, match="at most 2 positions, got 3"):
        fused.step(torch.ones(2, 3, CONFIG.dim), state, torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize(
    "other",
    [
        {"position": "rope"},
        {"qk_norm_eps": None},
        {"layer_scale": None},
        {"final_norm": True},
        {"n_kv_heads": 2},
        {"mlp": "gelu"},
        {"biases": ("wo",)},
    ],
)
def test_other_stacks_do_not_fit(other: dict[str, object]) -> None:
    assert fits_one_stage(Transformer(CONFIG))
    assert not fits_one_stage(Transformer(replace(CONFIG, **other)))  # type: ignore[arg-type]


@torch.no_grad()
def test_a_linear_layer_with_an_odd_number_of_outputs() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(7, 30), torch.randn(7), torch.randn(2, 5, 30)
    whole, scale = round_weight(weight)
    layer = WeightInt8Linear(weight, bias)
    torch.testing.assert_close(layer(x), x @ (whole * scale[:, None]).T + bias)
    assert torch.equal(layer(x)[1:, 2:3], layer(x[1:, 2:3]))
    torch.testing.assert_close(layer(x), x @ weight.T + bias, atol=0.3, rtol=0.1)


@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (8, 8), (5, 3), (3, 1)])
@torch.no_grad()
def test_a_transposed_convolution_as_a_product(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 6, 5), torch.randn(6, 4, kernel), torch.randn(4)
    for given in (bias, None):
        want = convolve_transposed(x, weight, given, stride)
        torch.testing.assert_close(transposed_as_matrix(x, weight, given, stride), want)
