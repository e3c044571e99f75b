"""The flow head's stack on a CPU: one call for the first of a few tokens that all see each other."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from .columns import COLUMNS, layers_in_columns
from .fused import as_array
from .transformer import Block, Transformer


def fits_tokens(stack: Transformer) -> bool:
    """Whether the compiled call can be this stack's: a flow head's at any size."""
    config = stack.config
    return (
        not config.causal
        and config.window is None
        and config.norm == "rms"
        and config.mlp == "swiglu"
        and config.position == "none"
        and not config.query_scale_beta
        and not config.biases
        and not config.ada_dim
        and config.qk_norm_eps is None
        and config.layer_scale is None
        and config.final_norm
        # Outputs of these layers lie side by side in whole columns.
        and config.dim % COLUMNS == 0
        and (config.n_heads + 2 * config.kv_heads) * config.head_dim % COLUMNS == 0
        and 2 * config.hidden_dim % COLUMNS == 0
    )


class FusedTokens(nn.Module):
    """A stack's weights in int8 and its output for the first token in one call.

    Against the stack with the same rounded weights it is right to float32 rounding; a row's bits don't depend
    on how many there are.
    """

    def __init__(self, stack: Transformer) -> None:
        """Copy the weights of a stack in float; it may be dropped afterwards."""
        super().__init__()
        self.config = stack.config
        blocks = [cast("Block", block) for block in stack.layers]
        attentions = [block.attention for block in blocks]
        mlps = [block.feed_forward for block in blocks]
        self.qkv = layers_in_columns([torch.cat([a.wq.weight, a.wk.weight, a.wv.weight]) for a in attentions])
        self.wo = layers_in_columns([a.wo.weight for a in attentions])
        self.gate_up = layers_in_columns([torch.cat([m.w1.weight, m.w3.weight]) for m in mlps])  # pyright: ignore
        self.down = layers_in_columns([m.w2.weight for m in mlps])  # pyright: ignore
        norms: list[Tensor] = [
            norm.weight for block in blocks for norm in (block.attention_norm, block.ffn_norm)
        ]
        assert stack.norm is not None
        self.norms = as_array(torch.stack([*norms, stack.norm.weight]))

    def first(self, x: Tensor) -> Tensor:
        """Tokens [rows, tokens, dim] -> the first one's output [rows, dim], float32."""
        from .numba_tokens import first_token

        config = self.config
        y = np.empty((len(x), config.dim), np.float32)
        first_token(
            as_array(x.clone(memory_format=torch.contiguous_format)),
            *self.qkv,
            *self.wo,
            *self.gate_up,
            *self.down,
            self.norms,
            config.norm_eps,
            config.n_heads,
            config.head_dim,
            y,
        )
        return torch.from_numpy(y)  # pyright: ignore[reportUnknownMemberType]
