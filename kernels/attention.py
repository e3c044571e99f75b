"""Windowed self-attention, whole or step by step over a ring cache.

Unusual:
- `block` > 1 lets the positions of one block see each other (block-causal); a step then has
  to bring whole blocks;
- a ring holds `window + max_chunk - 1` keys, written at position mod capacity, and the mask
  is made from positions, never from fill counts: after a wrap the two disagree;
- the heads that share a key head are turned into query rows, so keys are never expanded;
- what all layers share in one call, mask and angles, is made once for the stack: `Geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dispatch import Operation
from .norm import RMSNorm
from .position import rotate
from .state import StateTree, leaf, take


@dataclass(frozen=True)
class Geometry:
    """What all layers of one stack share in one call: who sees whom, and the angles."""

    bias: Tensor  # added to the scores, [batch or 1, 1 or n_kv_heads, group * queries, keys]
    cos: Tensor | None = None  # [batch, queries, head_dim / 2]
    sin: Tensor | None = None
    query_scale: Tensor | None = None  # [batch, queries]
    ring: Ring | None = None  # step only
    pieces: tuple[Geometry, ...] = ()  # step only: bias and ring of each piece, if it attends in pieces


@dataclass(frozen=True)
class Ring:
    """Where a step writes and reads: one row of the chunk per active slot."""

    index: Tensor  # [rows, queries]: entry that each position is written to
    rows: Tensor | None  # active slots, None for all
    places: tuple[tuple[int, int], ...] = ()  # (slot, first entry) of each row; on a CPU only

    @classmethod
    def of(cls, positions: Tensor, capacity: int, rows: Tensor | None) -> Ring:
        """The ring's view of int64 positions [rows, queries]."""
        index = positions % capacity
        if index.device.type != "cpu":
            return cls(index, rows)  # reading the places would wait for the device
        slots = range(len(index)) if rows is None else _ints(rows)
        return cls(index, rows, tuple(zip(slots, _ints(index[:, 0]), strict=True)))


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
        self.joined: nn.Module | None = None  # wq, wk and wv in one, once packed
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
        return self.wo(attend(q, k.transpose(1, 2), v.transpose(1, 2), geometry.bias))

    def step(self, x: Tensor, state: StateTree, geometry: Geometry) -> Tensor:
        """The same for the next chunk of the rows in `geometry`; writes the ring, then reads it."""
        q, k, v = self._project(x, geometry)
        ring_attention = RING_ATTENTION.on(x.device)
        parts: list[Tensor] = []
        begin = 0
        for piece in geometry.pieces or (geometry,):
            assert piece.ring is not None
            now = slice(begin, begin + piece.ring.index.shape[1])
            rings = leaf(state, "k"), leaf(state, "v")
            parts.append(ring_attention(q[:, now], k[:, now], v[:, now], *rings, piece.bias, piece.ring))
            begin = now.stop
        return self.wo(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))

    def _project(self, x: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
        if self.joined is None:
            q, k, v = self.wq(x), self.wk(x), self.wv(x)
        else:
            widths = [heads * self.head_dim for heads in (self.n_heads, self.n_kv_heads, self.n_kv_heads)]
            q, k, v = self.joined(x).split(widths, dim=-1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q = q.unflatten(-1, (self.n_heads, self.head_dim))
        k = k.unflatten(-1, (self.n_kv_heads, self.head_dim))
        v = v.unflatten(-1, (self.n_kv_heads, self.head_dim))
        if geometry.cos is not None and geometry.sin is not None:
            q = rotate(q, geometry.cos, geometry.sin, self.rope_layout)
            k = rotate(k, geometry.cos, geometry.sin, self.rope_layout)
        if geometry.query_scale is not None:
            q = q * geometry.query_scale[..., None, None].to(q.dtype)
        return q, k, v


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Softmax attention: q [batch, time, n_heads, head_dim], k and v [batch, n_kv_heads, keys, head_dim].

    Returns:
        [batch, time, n_heads * head_dim].
    """
    batch, time, n_heads, head_dim = q.shape
    n_kv_heads = k.shape[1]
    # Query head h reads key head h // group; rows of one key head are ordered (group, time).
    q = q.view(batch, time, n_kv_heads, n_heads // n_kv_heads, head_dim)
    q = q.permute(0, 2, 3, 1, 4).reshape(batch, n_kv_heads, -1, head_dim)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
    y = y.view(batch, n_kv_heads, n_heads // n_kv_heads, time, head_dim).permute(0, 3, 1, 2, 4)
    return y.reshape(batch, time, n_heads * head_dim)


def grouped(bias: Tensor, n_kv_heads: int, group: int) -> Tensor:
    """Bias [batch, 1 or n_heads, queries, keys] in the order of rows that `attend` uses."""
    if group == 1:
        return bias
    if bias.shape[1] == 1:
        return bias.repeat(1, 1, group, 1)
    return bias.reshape(bias.shape[0], n_kv_heads, group * bias.shape[2], bias.shape[3])


def joined(pieces: list[Geometry]) -> Geometry:
    """The geometry of one call that attends over several pieces in turn."""

    def along(tensors: list[Tensor | None]) -> Tensor | None:
        kept = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(kept, dim=1) if kept else None

    return Geometry(
        pieces[0].bias,
        along([piece.cos for piece in pieces]),
        along([piece.sin for piece in pieces]),
        along([piece.query_scale for piece in pieces]),
        pieces=tuple(pieces),
    )


def write_and_gather(
    q: Tensor, k: Tensor, v: Tensor, k_ring: Tensor, v_ring: Tensor, bias: Tensor, ring: Ring
) -> Tensor:
    """Write a chunk's keys and values into the rings, then attend over the rings.

    Args:
        q: [rows, time, n_heads, head_dim].
        k, v: [rows, time, n_kv_heads, head_dim].
        k_ring, v_ring: [slots, n_kv_heads, capacity, head_dim]; updated in place.
        bias: [rows, 1 or n_kv_heads, group * time, capacity].
        ring: which rows and entries.

    Returns:
        [rows, time, n_heads * head_dim].
    """
    slots = torch.arange(len(k_ring), device=q.device) if ring.rows is None else ring.rows
    for target, new in ((k_ring, k), (v_ring, v)):
        # Advanced indices around a slice: the result is [rows, time, heads, head_dim].
        target[slots[:, None], :, ring.index] = new.to(target.dtype)
    keys, values = (take(target, ring.rows).to(q.dtype) for target in (k_ring, v_ring))
    return attend(q, keys, values, bias)


def write_and_attend_in_place(
    q: Tensor, k: Tensor, v: Tensor, k_ring: Tensor, v_ring: Tensor, bias: Tensor, ring: Ring
) -> Tensor:
    """The same without a copy of the rings: slots that are neighbours are read as one view.

    On a CPU a gathered ring is written and read once more: for 8 rows 1.6 times the cost of
    attention at 16 queries, 2.5 at 4, 8 at 1 (281 keys, 8 x 64).
    """
    time, capacity = k.shape[1], k_ring.shape[2]
    for target, new in ((k_ring, k.transpose(1, 2)), (v_ring, v.transpose(1, 2))):
        for row, (slot, begin) in enumerate(ring.places):
            fits = min(time, capacity - begin)
            target[slot, :, begin : begin + fits] = new[row, :, :fits]
            if fits < time:
                target[slot, :, : time - fits] = new[row, :, fits:]
    parts: list[Tensor] = []
    row = 0
    while row < len(ring.places):
        first = ring.places[row][0]
        end = row + 1
        while end < len(ring.places) and ring.places[end][0] == first + end - row:
            end += 1
        keys, values = (target[first : first + end - row].to(q.dtype) for target in (k_ring, v_ring))
        parts.append(attend(q[row:end], keys, values, bias[row:end]))
        row = end
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _ints(x: Tensor) -> list[int]:
    return x.tolist()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


RING_ATTENTION = Operation("ring attention", write_and_gather)
RING_ATTENTION.add("cpu", "in place", write_and_attend_in_place)
