"""A flow head's stack in one call against the stack with the same rounded weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rillvox.kernels.fused_tokens import FusedTokens, fits_tokens
from rillvox.kernels.int8 import round_weight
from rillvox.kernels.transformer import Transformer, TransformerConfig

pytest.importorskip("numba")

CONFIG = TransformerConfig(
    32, 3, 4, 16, 48, n_kv_heads=2, norm_eps=1e-3, causal=False, position="none"
)  # fmt: skip


@torch.no_grad()
def pair(config: TransformerConfig = CONFIG) -> tuple[Transformer, FusedTokens]:
    """A stack whose weights are rounded, and its fused twin."""
    torch.manual_seed(0)
    made = Transformer(config).eval()
    for parameter in made.parameters():
        parameter.normal_(0, 0.3)
    fused = FusedTokens(made)
    for module in made.modules():
        if isinstance(module, nn.Linear):
            rounded, scale = round_weight(module.weight)
            module.weight.copy_(rounded * scale[:, None])
    return made, fused


def tokens(rows: int, count: int = 3) -> Tensor:
    return torch.randn(rows, count, CONFIG.dim, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("count", [1, 3, 5])
@torch.no_grad()
def test_it_gives_what_the_rounded_stack_gives(kv_heads: int, count: int) -> None:
    stack, fused = pair(replace(CONFIG, n_kv_heads=kv_heads))
    x = tokens(4, count)
    given = x.clone()
    torch.testing.assert_close(fused.first(x), stack(x)[:, 0], rtol=1e-5, atol=1e-5)
    assert torch.equal(x, given)


def test_rows_know_nothing_of_each_other() -> None:
    _, fused = pair()
    x = tokens(7)
    together = fused.first(x)
    for row in range(7):
        assert torch.equal(fused.first(x[row : row + 1])[0], together[row])
    assert fused.first(x[:0]).shape == (0, CONFIG.dim)


def test_only_a_flow_heads_stack_fits() -> None:
    assert fits_tokens(Transformer(CONFIG))
    for other in (
        {"position": "rope"},
        {"causal": True, "window": 8},
        {"dim": 40},
        {"qk_norm_eps": 1e-6},
        {"final_norm": False},
        {"mlp": "gelu"},
    ):
        assert not fits_tokens(Transformer(replace(CONFIG, **other)))
