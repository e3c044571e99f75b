"""Small stacks with the habits of every user of `Transformer`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from rillvox.kernels.position import YarnScaling
from rillvox.kernels.transformer import Transformer, TransformerConfig

_SMALL = TransformerConfig(dim=24, n_layers=2, n_heads=4, head_dim=8, hidden_dim=40)

CONFIGS: dict[str, TransformerConfig] = {
    "realtime encoder": replace(_SMALL, window=12, biases=("wq", "wv", "wo", "w2")),
    "realtime decoder": replace(_SMALL, n_kv_heads=2, window=10, ada_dim=6),
    "ministral 3": replace(
        _SMALL,
        n_kv_heads=1,
        window=12,
        rope_layout="half",
        rope_scaling=YarnScaling(original_length=64),
        query_scale_beta=0.1,
        query_scale_length=8,
    ),
    "codec stage": replace(
        _SMALL,
        n_heads=6,
        window=4,
        window_includes_self=False,
        position="alibi",
        norm_eps=1e-2,
        qk_norm_eps=1e-6,
        layer_scale=0.5,
        final_norm=False,
    ),
    "whisper, block-causal": replace(
        _SMALL,
        window=12,
        block=4,
        norm="layer",
        mlp="gelu",
        position="none",
        biases=("wq", "wv", "wo", "w1", "w2"),
    ),
}

FLOW_HEAD = replace(_SMALL, n_kv_heads=2, causal=False, position="none")


def stack(config: TransformerConfig, seed: int = 0) -> Transformer:
    """Random weights, none of them at a value where a missing term would not show."""
    torch.manual_seed(seed)
    made = Transformer(config).eval()
    for name, parameter in made.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0, 1.5 * parameter.shape[1] ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.3)
        else:
            nn.init.uniform_(parameter, 0.4, 1.2)
    return made.requires_grad_(False)


def signals(config: TransformerConfig, sessions: int, time: int, seed: int = 1) -> Tensor:
    """[sessions, time, dim]."""
    return torch.randn(sessions, time, config.dim, generator=torch.Generator().manual_seed(seed))
