"""A stack over a few tokens that all see each other, for the first one of them, compiled by numba.

As `numba_stage.py`, without positions and without anything to remember: the flow head's three tokens.
"""

from __future__ import annotations

import math

import numpy as np

from .columns import COLUMNS
from .numba_decoder import Bytes, Floats, compiled, normalise
from .numba_dense import dense_many


@compiled
def attend_all(q: Floats, mixed: Floats, key: int, value: int, scores: Floats, y: Floats) -> None:
    """One query [head_dim] against every token's key and value, which begin at columns of `mixed`."""
    tokens, dim = mixed.shape[0], q.shape[0]
    scale = np.float32(1 / math.sqrt(dim))
    peak = np.float32(-np.inf)
    for k in range(tokens):
        total = np.float32(0)
        for j in range(dim):
            total += q[j] * mixed[k, key + j]
        scores[k] = total * scale
        peak = max(peak, scores[k])
    total = np.float32(0)
    for k in range(tokens):
        scores[k] = np.float32(math.exp(scores[k] - peak))
        total += scores[k]
    for j in range(dim):
        y[j] = 0
    for k in range(tokens):
        share = scores[k] / total
        for j in range(dim):
            y[j] += share * mixed[k, value + j]


@compiled
def first_token(
    x: Floats,
    qkv: Bytes,
    qkv_scale: Floats,
    wo: Bytes,
    wo_scale: Floats,
    gate_up: Bytes,
    gate_up_scale: Floats,
    down: Bytes,
    down_scale: Floats,
    norms: Floats,
    eps: float,
    n_heads: int,
    head_dim: int,
    y: Floats,
) -> None:
    """All layers of every row; x [rows, tokens, dim] is overwritten, y [rows, dim] the first token's output.

    Args:
        qkv, wo, gate_up, down: of each layer, outputs in columns; see `numba_stage.stage`.
        norms: [2 layers + 1, dim].
    """
    rows, tokens, dim = x.shape
    layers = qkv.shape[0]
    width, kv_width = n_heads * head_dim, (qkv_scale.shape[1] // head_dim - n_heads) // 2 * head_dim
    group = n_heads // (kv_width // head_dim)
    hidden = down.shape[2]
    many = rows * tokens
    flat = x.reshape(many, dim)
    normed = np.empty((many, dim), np.float32)
    mixed = np.empty((many, qkv.shape[1] * COLUMNS), np.float32)
    heard = np.empty((many, width), np.float32)
    inner = np.empty((many, gate_up.shape[1] * COLUMNS), np.float32)
    gated = np.empty((many, hidden), np.float32)
    update = np.empty((many, wo.shape[1] * COLUMNS), np.float32)
    scores = np.empty(tokens, np.float32)
    for layer in range(layers):
        # In the last layer only the first tokens go on: they move together, to the front.
        last = layer == layers - 1
        kept = 1 if last else tokens
        going = rows * kept
        normalise(flat, norms[2 * layer], eps, normed)
        dense_many(normed, qkv[layer], qkv_scale[layer], mixed)
        for r in range(rows):
            own = mixed[r * tokens : (r + 1) * tokens]
            for t in range(kept):
                for h in range(n_heads):
                    at, kv = h * head_dim, h // group * head_dim
                    attend_all(
                        own[t, at : at + head_dim],
                        own,
                        width + kv,
                        width + kv_width + kv,
                        scores,
                        heard[r * kept + t, at : at + head_dim],
                    )
        dense_many(heard[:going], wo[layer], wo_scale[layer], update[:going])
        for m in range(going):
            source = m * tokens if last else m
            for i in range(dim):
                flat[m, i] = flat[source, i] + update[m, i]
        normalise(flat[:going], norms[2 * layer + 1], eps, normed[:going])
        dense_many(normed[:going], gate_up[layer], gate_up_scale[layer], inner[:going])
        for m in range(going):
            for i in range(hidden):
                a = inner[m, i]
                gated[m, i] = a / (1 + np.float32(math.exp(-a))) * inner[m, hidden + i]
        dense_many(gated[:going], down[layer], down_scale[layer], update[:going])
        for m in range(going):
            for i in range(dim):
                flat[m, i] += update[m, i]
    normalise(flat[:rows], norms[2 * layers], eps, y)
