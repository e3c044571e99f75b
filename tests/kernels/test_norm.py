from __future__ import annotations

import torch
import torch.nn.functional as F

from rillvox.kernels.norm import AdaScale, LayerNorm, RMSNorm


def test_rms_norm_divides_by_the_root_mean_square() -> None:
    x = torch.randn(2, 3, 8) * 5
    norm = RMSNorm(8, 1e-2)
    torch.nn.init.normal_(norm.weight)
    want = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-2).sqrt() * norm.weight.double()
    assert torch.allclose(norm(x).double(), want, atol=1e-6)
    assert torch.allclose(norm(x), F.rms_norm(x, (8,), norm.weight, 1e-2), atol=1e-6)


def test_the_epsilon_of_the_codec_matters() -> None:
    x = torch.randn(2, 8) * 0.1
    assert (RMSNorm(8, 1e-2)(x) - RMSNorm(8, 1e-5)(x)).abs().max() > 0.1


def test_rms_statistics_are_float32() -> None:
    """The mean square of 300 overflows float16 when computed there."""
    x = torch.full((1, 8), 300.0, dtype=torch.float16)
    assert torch.allclose(RMSNorm(8)(x).float(), torch.ones(1, 8), atol=1e-3)


def test_layer_norm_has_mean_weight_and_bias() -> None:
    x = torch.randn(2, 3, 8) + 3
    norm = LayerNorm(8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    centred = x - x.mean(-1, keepdim=True)
    want = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias
    assert torch.allclose(norm(x), want, atol=1e-5)
    assert sorted(name for name, _ in norm.named_parameters()) == ["bias", "weight"]


def test_ada_scale_has_the_released_names_and_formula() -> None:
    scale = AdaScale(8, 3)
    assert {name: tuple(p.shape) for name, p in scale.named_parameters()} == {
        "0.weight": (3, 8),
        "2.weight": (8, 3),
    }
    t = torch.randn(5, 8)
    inner = t @ scale.get_parameter("0.weight").T
    gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
    assert torch.allclose(scale(t), gelu @ scale.get_parameter("2.weight").T, atol=1e-6)
