"""Int8 linear layers: close to float, equal to their reference, and rows that know nothing of each other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rillvox.kernels import int8
from rillvox.kernels.conv import CausalConv1d
from rillvox.kernels.dispatch import references_only
from rillvox.kernels.int8 import INPUT_LEVELS, WEIGHT_LEVELS, Int8Linear, has_fast_int8, round_weight
from rillvox.kernels.mlp import SwiGLU
from rillvox.kernels.norm import AdaScale
from rillvox.kernels.pack import pack_int8
from rillvox.kernels.transformer import Transformer, TransformerConfig


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got - want).norm() / want.norm())


def test_it_is_a_linear_layer_up_to_rounding() -> None:
    linear = nn.Linear(320, 96)
    x = torch.randn(5, 7, 320)
    with torch.no_grad():
        assert relative(Int8Linear.beside([linear])(x), linear(x)) < 0.02
        # The offset of a row costs nothing: an input far from zero is as good.
        shifted = relative(Int8Linear.beside([linear])(x + 40), linear(x + 40))
    assert shifted < 0.02


def test_several_layers_beside_each_other_are_each_of_them() -> None:
    linears = [nn.Linear(64, 8), nn.Linear(64, 24, bias=False), nn.Linear(64, 16)]
    x = torch.randn(3, 64)
    together = Int8Linear.beside(linears)(x).split([8, 24, 16], dim=-1)
    for got, linear in zip(together, linears, strict=True):
        assert torch.equal(got, Int8Linear.beside([linear])(x))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_is_the_same_bits_in_any_company(threads: int) -> None:
    layer = Int8Linear.beside([nn.Linear(200, 72)])
    x = torch.randn(130, 200) * torch.logspace(-3, 3, 130)[:, None]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = torch.cat([layer(row) for row in x.split(1)])
        assert torch.equal(layer(x), alone)
        assert torch.equal(layer(x[7:90].clone()), alone[7:90])
    finally:
        torch.set_num_threads(before)


def test_one_scale_for_all_rows_would_not_do() -> None:
    # What the law above is for: quantised as one tensor, a loud row decides what a quiet one gives.
    layer = Int8Linear.beside([nn.Linear(200, 72)])
    quiet, loud = torch.randn(1, 200), 100 * torch.randn(1, 200)
    together = torch.cat([quiet, loud])
    low, high = together.min(), together.max()
    step = (high - low) / INPUT_LEVELS
    y = int8.product((together - low) / step, layer) * step + low * layer.row_sum + layer.bias
    assert relative(y[:1], layer(quiet)) > 0.1


@pytest.mark.skipif(not has_fast_int8(), reason="this build has no int8 product for its CPU")
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 320, 1728), (16, 2048, 512), (33, 37, 5)])
def test_the_fast_product_is_the_reference_bit_for_bit(rows: int, inputs: int, outputs: int) -> None:
    layer = Int8Linear(torch.randn(outputs, inputs), torch.randn(outputs))
    x = torch.randn(rows, inputs) * 3
    with references_only():
        want = layer(x)
    assert torch.equal(layer(x), want)


@pytest.mark.skipif(not has_fast_int8(), reason="this build has no int8 product for its CPU")
def test_the_largest_sums_do_not_saturate() -> None:
    # 2 * 255 * 127 would not fit the 16 bits in which AVX2 adds two products.
    layer = Int8Linear(torch.ones(8, 64))
    x = torch.full((2, 64), 1.0)
    x[:, 0] = 0.0
    assert int(layer.weight.max()) == WEIGHT_LEVELS
    assert torch.allclose(layer(x), torch.full((2, 8), 63.0), rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 3.25, -1e-20, 1e20])
def test_a_row_of_one_value_is_no_division_by_zero(value: float) -> None:
    linear = nn.Linear(16, 4)
    x = torch.full((2, 16), value)
    with torch.no_grad():
        want = linear(x)
    assert torch.allclose(Int8Linear.beside([linear])(x), want, rtol=0.03, atol=0.02)


def test_a_weight_row_has_its_own_scale_and_the_best_of_many() -> None:
    weight = torch.randn(6, 20_000)
    weight[2] *= 1e-4
    weight[3] = 0
    weight[4, 0] = 6.0  # one value far out: clipping it is cheaper than coarse steps for the rest
    rounded, scale = round_weight(weight)
    assert rounded.dtype == torch.int8
    error = (rounded * scale[:, None] - weight).square().sum(1)
    plain = weight.abs().amax(1) / WEIGHT_LEVELS
    steps = (weight / plain.clamp(min=1e-30)[:, None]).round()
    assert bool((error <= (steps * plain[:, None] - weight).square().sum(1) + 1e-9).all())
    assert float(scale[4]) * WEIGHT_LEVELS < 6.0
    assert float(error[3]) == 0


def test_packing_replaces_what_costs_and_leaves_the_rest() -> None:
    config = TransformerConfig(24, 2, 3, 8, 40, window=9, ada_dim=4)
    model = nn.ModuleDict(
        {"stack": Transformer(config), "conv": CausalConv1d(5, 7, 3, stride=2), "out": nn.Linear(24, 3)}
    )
    pack_int8(model)
    kinds = {name: type(module) for name, module in model.named_modules()}
    assert kinds["out"] is Int8Linear
    assert kinds["stack.layers.1.attention.joined"] is Int8Linear
    assert "stack.layers.1.attention.wq" not in kinds
    assert kinds["stack.layers.0.feed_forward.joined"] is Int8Linear
    assert kinds["conv.matrix"] is Int8Linear
    assert kinds["stack.layers.0.ada_rms_norm_t_cond"] is AdaScale
    assert kinds["stack.layers.0.ada_rms_norm_t_cond.0"] is nn.Linear


def test_packed_layers_are_near_the_float_ones() -> None:
    mlp = SwiGLU(48, 96)
    conv = CausalConv1d(12, 20, 3, stride=2)
    x, signal = torch.randn(4, 5, 48), torch.randn(2, 12, 16)
    with torch.no_grad():
        want = mlp(x), conv(signal)
        pack_int8(mlp)
        pack_int8(conv)
        assert relative(mlp(x), want[0]) < 0.03
        assert relative(conv(signal), want[1]) < 0.02
        state = conv.initial_state(2)
        active = torch.tensor([True, True])
        steps = torch.cat([conv.step(part, state, active) for part in signal.split(4, dim=-1)], dim=-1)
    assert torch.equal(steps, conv(signal))
