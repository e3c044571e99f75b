from __future__ import annotations

import torch

from rillvox.kernels.mlp import GELUMLP, SwiGLU


def names(module: torch.nn.Module) -> list[str]:
    return sorted(name for name, _ in module.named_parameters())


def test_swiglu_gates_w1_and_not_w3() -> None:
    mlp = SwiGLU(6, 10, ("w2",))
    assert names(mlp) == ["w1.weight", "w2.bias", "w2.weight", "w3.weight"]
    x = torch.randn(2, 3, 6)
    gate = x @ mlp.w1.weight.T
    want = (gate * torch.sigmoid(gate) * (x @ mlp.w3.weight.T)) @ mlp.w2.weight.T + mlp.w2.bias
    assert torch.allclose(mlp(x), want, atol=1e-6)
    swapped = (
        x @ mlp.w3.weight.T * torch.sigmoid(x @ mlp.w3.weight.T) * gate
    ) @ mlp.w2.weight.T + mlp.w2.bias
    assert not torch.allclose(mlp(x), swapped, atol=1e-3)


def test_gelu_is_the_exact_one() -> None:
    mlp = GELUMLP(6, 10, ("w1", "w2"))
    assert names(mlp) == ["w1.bias", "w1.weight", "w2.bias", "w2.weight"]
    x = torch.randn(2, 3, 6) * 4
    inner = x @ mlp.w1.weight.T + mlp.w1.bias
    want = (inner * 0.5 * (1 + torch.erf(inner / 2**0.5))) @ mlp.w2.weight.T + mlp.w2.bias
    assert torch.allclose(mlp(x), want, atol=1e-6)
    tanh = torch.nn.functional.gelu(inner, approximate="tanh") @ mlp.w2.weight.T + mlp.w2.bias
    assert not torch.allclose(mlp(x), tanh, atol=1e-5)
