"""A codec on a CPU: stages in one call each, and layers whose weights are int8 and whose inputs are float.

A frame of 80 ms passes some sixty small layers; as torch operations they cost three times their sums. Inputs
stay float32, since a waveform hears a rounding that words don't.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from .columns import in_columns, layers_in_columns
from .fused import as_array
from .position import alibi_slopes
from .state import StateTree, active_rows, leaf, spread, subtree, take
from .transformer import Block, Transformer


def fits_one_stage(stack: Transformer) -> bool:
    """Whether the compiled step can be this stack's: a stage of Voxtral Codec at any size."""
    config = stack.config
    return (
        config.causal
        and config.block == 1
        and config.norm == "rms"
        and config.mlp == "swiglu"
        and config.position == "alibi"
        and config.kv_heads == config.n_heads
        and not config.biases
        and not config.ada_dim
        and config.qk_norm_eps is not None
        and config.layer_scale is not None
        and not config.final_norm
    )


class FusedStage(nn.Module):
    """A stage's weights in int8 and its step in one call; same state, same arguments as the stack.

    Against the stack with the same rounded weights it is right to float32 rounding, and its bits depend
    neither on the other slots nor on how many positions a step brings.
    """

    def __init__(self, stack: Transformer) -> None:
        """Copy the weights of a stack in float; it may be dropped afterwards."""
        super().__init__()
        self.stack_config = config = stack.config
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
        self.norms = as_array(torch.stack(norms))
        heads: list[Tensor] = [
            norm.weight for a in attentions for norm in (a.q_norm, a.k_norm) if norm is not None
        ]
        self.head_norms = as_array(torch.stack(heads))
        scales: list[Tensor] = [
            s for block in blocks for s in (block.attention_scale, block.ffn_scale) if s is not None
        ]
        self.scales = as_array(torch.stack(scales))
        self.slopes = as_array(alibi_slopes(config.n_heads))

    def initial_state(
        self,
        slots: int,
        *,
        max_chunk: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StateTree:
        """What the stack's own `initial_state` gives; the stack itself, with its float weights, is gone."""
        config = self.stack_config
        with torch.device("meta"):
            empty = Transformer(config)
        return empty.initial_state(slots, max_chunk=max_chunk, dtype=dtype, device=device)

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """See `Transformer.step`."""
        from .numba_stage import stage

        config = self.stack_config
        slots, time = x.shape[:2]
        span = config.span
        assert span is not None
        assert config.qk_norm_eps is not None
        rings = [subtree(state, f"layers_{i}") for i in range(config.n_layers)]
        capacity = leaf(rings[0], "k").shape[2]
        if span + time - 1 > capacity:
            raise ValueError(f"a step takes at most {capacity - span + 1} positions, got {time}")
        rows = active_rows(active)
        if rows is not None and not len(rows):
            return torch.zeros_like(x)
        y = as_array(take(x, rows).clone(memory_format=torch.contiguous_format))
        stage(
            y,
            np.arange(slots) if rows is None else rows.numpy(),
            leaf(state, "position").numpy(),
            self.slopes,
            tuple(leaf(ring, "k").numpy() for ring in rings),
            tuple(leaf(ring, "v").numpy() for ring in rings),
            *self.qkv,
            *self.wo,
            *self.gate_up,
            *self.down,
            self.norms,
            self.head_norms,
            self.scales,
            config.norm_eps,
            config.qk_norm_eps,
            span,
            config.n_heads,
        )
        return spread(torch.from_numpy(y).to(x.dtype), rows, slots)  # pyright: ignore[reportUnknownMemberType]


class WeightInt8Linear(nn.Module):
    """Stands in for a linear layer: int8 weights with a scale for each output, float32 inputs.

    Every row runs through the same loops by itself, so neither neighbours nor cuts change its bits.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Round float weights [out, in]; `bias` [out] stays float32."""
        super().__init__()
        self.in_features, self.out_features = weight.shape[1], weight.shape[0]
        self.whole, self.scale = in_columns(weight)
        self.bias = None if bias is None else bias.detach().float().clone()

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out], float32."""
        from .numba_dense import dense_many

        rows = as_array(x.reshape(-1, self.in_features))
        y = np.empty((len(rows), len(self.scale)), np.float32)
        dense_many(rows, self.whole, self.scale, y)
        found = torch.from_numpy(y)[:, : self.out_features]  # pyright: ignore[reportUnknownMemberType]
        if self.bias is not None:
            found = found + self.bias
        return found.reshape(*x.shape[:-1], self.out_features)
