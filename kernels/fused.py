"""One-call decoder steps for CPUs, by numba."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .int8 import round_weight
from .position import rope_angles, rope_frequencies
from .state import StateTree, active_rows, leaf, put, spread, subtree, take
from .transformer import Block, Transformer


def fits_one_call(stack: Transformer) -> bool:
    """Whether the compiled step can be this stack's: Voxtral's decoder at any size."""
    config = stack.config
    return (
        config.causal
        and config.block == 1
        and config.norm == "rms"
        and config.mlp == "swiglu"
        and config.position == "rope"
        and config.rope_layout == "interleaved"
        and not config.query_scale_beta
        and not config.biases
        and config.qk_norm_eps is None
        and config.layer_scale is None
        and config.final_norm
        and config.dim % 4 == 0
        and config.head_dim % 4 == 0  # `dense` gives outputs in fours, unchecked
        and config.hidden_dim % 2 == 0
    )


class FusedStack:
    """A stack's weights in int8 and its step in one call; same state, same arguments as the stack.

    Against the stack with the same rounded weights it is right to float32 rounding.
    """

    def __init__(self, stack: Transformer) -> None:
        """Copy the weights of a stack in float; it may be packed or dropped afterwards."""
        config = self.config = stack.config
        blocks = [cast("Block", block) for block in stack.layers]
        attentions = [block.attention for block in blocks]
        mlps = [block.feed_forward for block in blocks]
        self.qkv = rounded([torch.cat([a.wq.weight, a.wk.weight, a.wv.weight]) for a in attentions])
        self.wo = rounded([a.wo.weight for a in attentions])
        self.gate_up = rounded([torch.cat([m.w1.weight, m.w3.weight]) for m in mlps])  # pyright: ignore
        self.down = rounded([m.w2.weight for m in mlps])  # pyright: ignore
        norms = [norm.weight for block in blocks for norm in (block.attention_norm, block.ffn_norm)]
        assert stack.norm is not None
        self.norms = as_array(torch.stack([*norms, stack.norm.weight]))
        self.frequencies = rope_frequencies(config.head_dim, config.rope_theta, config.rope_scaling)

    def step(self, x: Tensor, state: StateTree, active: Tensor, ada: Sequence[Tensor]) -> Tensor:
        """See `Transformer.step`; one position a slot."""
        from .numba_decoder import decode

        config = self.config
        slots = len(x)
        if x.shape[1] != 1:
            raise ValueError(f"a fused step takes 1 position, got {x.shape[1]}")
        if not bool(active.any()):
            return torch.zeros_like(x)
        rows = active_rows(active)
        counter = leaf(state, "position")
        positions = take(counter, rows)
        cos, sin = rope_angles(positions, self.frequencies)
        scales = torch.stack([take(scale, rows)[:, 0] for scale in ada], dim=1)
        y = as_array(take(x[:, 0], rows).clone())
        rings = [subtree(state, f"layers_{i}") for i in range(config.n_layers)]
        span = config.span
        assert span is not None
        decode(
            y,
            np.arange(slots) if rows is None else rows.numpy(),
            positions.numpy(),
            cos.numpy(),
            sin.numpy(),
            scales.contiguous().numpy(),
            tuple(leaf(ring, "k").numpy() for ring in rings),
            tuple(leaf(ring, "v").numpy() for ring in rings),
            *self.qkv,
            *self.wo,
            *self.gate_up,
            *self.down,
            self.norms,
            config.norm_eps,
            span,
            config.n_heads,
        )
        put(counter, rows, positions + 1)
        return spread(torch.from_numpy(y).to(x.dtype).unsqueeze(1), rows, slots)  # pyright: ignore[reportUnknownMemberType]


def rounded(weights: Sequence[Tensor]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 [layers, out, in] and scales [layers, out]."""
    pairs = [round_weight(weight.detach()) for weight in weights]
    return (
        torch.stack([pair[0] for pair in pairs]).numpy(),
        torch.stack([pair[1] for pair in pairs]).numpy(),
    )


def as_array(x: Tensor) -> NDArray[np.float32]:
    return x.detach().float().contiguous().numpy()
