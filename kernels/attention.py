"""Windowed self-attention, whole or step by step over a ring cache.

Unusual:
- `block` > 1 lets the positions of one block see each other (block-causal); a step then has
  to bring whole blocks;
- a ring holds `window + max_chunk - 1` keys, written at position mod capacity, and the mask
  is made from positions, never from fill counts: after a wrap the two disagree;
- the heads that share a key head are turned into query rows, so keys are never expanded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .norm import RMSNorm
from .position import rotate
from .state import StateTree, leaf, take


@dataclass(frozen=True)
class Geometry:
    """What all layers of one stack share in one call: who sees whom, and the angles."""

    bias: Tensor  # [batch or 1, 1 or n_heads, queries, keys]: bool mask, or float with ALiBi added
    cos: Tensor | None = None  # [batch, queries, head_dim / 2]
    sin: Tensor | None = None
    query_scale: Tensor | None = None  # [batch, queries]
    ring_index: Tensor | None = None  # [batch, queries]: where this chunk's keys go (step only)
    rows: Tensor | None = None  # active slots, None for all (step only)


def visible(query: Tensor, key: Tensor, span: int, block: int) -> Tensor:
    """Bool [..., queries, keys] for positions [..., queries] and [..., keys].

    A query sees the `span` latest keys up to itself and all later keys of its own block.
    """
    q, k = query.unsqueeze(-1), key.unsqueeze(-2)
    ahead = k <= q if block == 1 else k // block <= q // block
    return ahead & (k > q - span) & (k >= 0)


def ring_positions(last: Tensor, capacity: int) -> Tensor:
    """Position held by each ring entry after `last` [batch] was written; below 0 if none was."""
    entry = torch.arange(capacity, device=last.device)
    return last.unsqueeze(-1) - (last.unsqueeze(-1) - entry) % capacity


class Attention(nn.Module):
    """Grouped-query attention. Names follow the released checkpoints."""

    def __init__(
        self,
        dim: int,
        n_heads: int,
        n_kv_heads: int,
        head_dim: int,
        *,
        biases: tuple[str, ...] = (),
        rope_layout: str = "interleaved",
        qk_norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.rope_layout = rope_layout
        self.wq = nn.Linear(dim, n_heads * head_dim, bias="wq" in biases)
        self.wk = nn.Linear(dim, n_kv_heads * head_dim, bias="wk" in biases)
        self.wv = nn.Linear(dim, n_kv_heads * head_dim, bias="wv" in biases)
        self.wo = nn.Linear(n_heads * head_dim, dim, bias="wo" in biases)
        # Over the whole projected width, before the split into heads (Voxtral Codec).
        self.q_norm = RMSNorm(n_heads * head_dim, qk_norm_eps) if qk_norm_eps else None
        self.k_norm = RMSNorm(n_kv_heads * head_dim, qk_norm_eps) if qk_norm_eps else None

    def initial_state(self, slots: int, capacity: int, dtype: torch.dtype, device: torch.device) -> StateTree:
        """Empty rings, [slots, n_kv_heads, capacity, head_dim] each."""
        shape = (slots, self.n_kv_heads, capacity, self.head_dim)
        return {
            "k": torch.zeros(shape, dtype=dtype, device=device),
            "v": torch.zeros(shape, dtype=dtype, device=device),
        }

    def forward(self, x: Tensor, geometry: Geometry) -> Tensor:
        """[batch, time, dim] -> [batch, time, dim], all keys from x itself."""
        q, k, v = self._project(x, geometry)
        return self.wo(self._attend(q, k.transpose(1, 2), v.transpose(1, 2), geometry))

    def step(self, x: Tensor, state: StateTree, geometry: Geometry) -> Tensor:
        """The same for the next chunk of the rows in `geometry`; writes the ring, then reads it."""
        q, k, v = self._project(x, geometry)
        rings = leaf(state, "k"), leaf(state, "v")
        rows, where = geometry.rows, geometry.ring_index
        assert where is not None
        # One row, or rows in step, share the index: a plain index_copy_ is three times faster
        # than an indexed write per slot.
        for ring, new in zip(rings, (k, v), strict=True):
            new = new.to(ring.dtype)
            if rows is None and where.shape[0] == 1:
                ring.index_copy_(2, where[0], new.transpose(1, 2))
            else:
                slot = torch.arange(ring.shape[0], device=ring.device) if rows is None else rows
                # Advanced indices around a slice: the result is [rows, time, heads, head_dim].
                ring[slot[:, None], :, where] = new
        keys, values = (take(ring, rows).to(q.dtype) for ring in rings)
        return self.wo(self._attend(q, keys, values, geometry))

    def _project(self, x: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
        batch, time, _ = x.shape
        q, k, v = self.wq(x), self.wk(x), self.wv(x)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.view(batch, time, self.n_heads, self.head_dim)
        k = k.view(batch, time, self.n_kv_heads, self.head_dim)
        v = v.view(batch, time, self.n_kv_heads, self.head_dim)
        if geometry.cos is not None and geometry.sin is not None:
            q = rotate(q, geometry.cos, geometry.sin, self.rope_layout)
            k = rotate(k, geometry.cos, geometry.sin, self.rope_layout)
        if geometry.query_scale is not None:
            q = q * geometry.query_scale[..., None, None].to(q.dtype)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, geometry: Geometry) -> Tensor:
        """q [batch, time, n_heads, head_dim], k and v [batch, n_kv_heads, keys, head_dim]."""
        batch, time = q.shape[:2]
        group = self.n_heads // self.n_kv_heads
        bias = geometry.bias
        if bias.is_floating_point():
            bias = bias.to(q.dtype)
        if group > 1:
            # Query head h reads key head h // group.
            q = q.view(batch, time, self.n_kv_heads, group, self.head_dim)
            q = q.permute(0, 2, 3, 1, 4).reshape(batch, self.n_kv_heads, group * time, self.head_dim)
            if bias.shape[1] == 1:
                bias = bias.repeat(1, 1, group, 1)
            else:
                bias = bias.reshape(bias.shape[0], self.n_kv_heads, group * time, -1)
        else:
            q = q.transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        if group > 1:
            y = y.view(batch, self.n_kv_heads, group, time, self.head_dim).permute(0, 3, 1, 2, 4)
        else:
            y = y.transpose(1, 2)
        return y.reshape(batch, time, self.n_heads * self.head_dim)
