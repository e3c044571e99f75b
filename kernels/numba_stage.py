"""A codec stage's whole step, several positions of a few streams, compiled by numba.

As `numba_decoder.py`, for blocks with normalised queries and keys, ALiBi and LayerScale. A frame brings one
to eight positions, which share what is done to the weights.
"""

from __future__ import annotations

import math

import numpy as np

from .columns import COLUMNS
from .numba_decoder import Bytes, Floats, Ints, compiled, normalise
from .numba_dense import dense_many


@compiled
def attend_leaning(
    q: Floats, keys: Floats, values: Floats, position: int, span: int, slope: float, scores: Floats, y: Floats
) -> None:
    """One query against the ring of one head, keys the less likely the farther back; see `attend_one`."""
    capacity, dim = keys.shape
    count = min(position + 1, span)
    first = position - count + 1
    scale = np.float32(1 / math.sqrt(dim))
    lean = np.float32(slope)
    peak = np.float32(-np.inf)
    for k in range(count):
        entry = (first + k) % capacity
        total = np.float32(0)
        for j in range(dim):
            total += q[j] * keys[entry, j]
        scores[k] = total * scale + lean * np.float32(k - count + 1)
        peak = max(peak, scores[k])
    total = np.float32(0)
    for k in range(count):
        scores[k] = np.float32(math.exp(scores[k] - peak))
        total += scores[k]
    for j in range(dim):
        y[j] = 0
    for k in range(count):
        entry = (first + k) % capacity
        share = scores[k] / total
        for j in range(dim):
            y[j] += share * values[entry, j]


@compiled
def stage(
    x: Floats,
    slots: Ints,
    counter: Ints,
    slopes: Floats,
    keys: tuple[Floats, ...],
    values: tuple[Floats, ...],
    qkv: Bytes,
    qkv_scale: Floats,
    wo: Bytes,
    wo_scale: Floats,
    gate_up: Bytes,
    gate_up_scale: Floats,
    down: Bytes,
    down_scale: Floats,
    norms: Floats,
    head_norms: Floats,
    layer_scales: Floats,
    eps: float,
    head_eps: float,
    span: int,
    n_heads: int,
) -> None:
    """All layers for the next positions of every row, in place.

    Args:
        x: [rows, time, dim], overwritten with the output.
        slots: slot of each row. counter: [slots], position of each one's next; moves on.
        slopes: [n_heads]; a key `d` positions back loses `slope * d`.
        keys, values: of each layer [slots, n_heads, capacity, head_dim], capacity >= span + time - 1.
        qkv, wo, gate_up, down: see `numba_decoder.decode`; their outputs are in columns.
        norms: [2 layers, dim]. head_norms: [2 layers, n_heads head_dim], of queries and keys.
        layer_scales: [2 layers, dim], of attention and feed-forward.
        span: visible keys with the query's own.
    """
    rows, time, dim = x.shape
    capacity, head_dim = keys[0].shape[2:]
    width = n_heads * head_dim
    hidden = down.shape[2]
    many = rows * time
    flat = x.reshape(many, dim)
    normed = np.empty((many, dim), np.float32)
    mixed = np.empty((many, qkv.shape[1] * COLUMNS), np.float32)
    q = np.empty((many, width), np.float32)
    k = np.empty((many, width), np.float32)
    heard = np.empty((many, width), np.float32)
    inner = np.empty((many, gate_up.shape[1] * COLUMNS), np.float32)
    gated = np.empty((many, hidden), np.float32)
    update = np.empty((many, wo.shape[1] * COLUMNS), np.float32)
    scores = np.empty(span, np.float32)
    for layer in range(qkv.shape[0]):
        normalise(flat, norms[2 * layer], eps, normed)
        dense_many(normed, qkv[layer], qkv_scale[layer], mixed)
        normalise(mixed[:, :width], head_norms[2 * layer], head_eps, q)
        normalise(mixed[:, width : 2 * width], head_norms[2 * layer + 1], head_eps, k)
        for r in range(rows):
            k_ring, v_ring, first = keys[layer][slots[r]], values[layer][slots[r]], int(counter[slots[r]])
            for t in range(time):
                entry = (first + t) % capacity
                m = r * time + t
                for h in range(n_heads):
                    for j in range(head_dim):
                        k_ring[h, entry, j] = k[m, h * head_dim + j]
                        v_ring[h, entry, j] = mixed[m, 2 * width + h * head_dim + j]
            for t in range(time):
                m = r * time + t
                for h in range(n_heads):
                    head = slice(h * head_dim, (h + 1) * head_dim)
                    ring_k, ring_v, at = k_ring[h], v_ring[h], first + t
                    attend_leaning(q[m, head], ring_k, ring_v, at, span, slopes[h], scores, heard[m, head])
        dense_many(heard, wo[layer], wo_scale[layer], update)
        for m in range(many):
            for i in range(dim):
                flat[m, i] += update[m, i] * layer_scales[2 * layer, i]
        normalise(flat, norms[2 * layer + 1], eps, normed)
        dense_many(normed, gate_up[layer], gate_up_scale[layer], inner)
        for m in range(many):
            for i in range(hidden):
                a = inner[m, i]
                gated[m, i] = a / (1 + np.float32(math.exp(-a))) * inner[m, hidden + i]
        dense_many(gated, down[layer], down_scale[layer], update)
        for m in range(many):
            for i in range(dim):
                flat[m, i] += update[m, i] * layer_scales[2 * layer + 1, i]
    for r in range(rows):
        counter[slots[r]] += time
