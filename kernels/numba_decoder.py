"""A decoder's whole step, one position of a few streams, compiled by numba.

At one position the torch step is calls, not sums: forty small operations a layer. Here a step is one call
that runs without Python's lock. Unusual:
- weights are int8 with a scale for each output (`int8.round_weight`), inputs stay float32;
- every row runs through the same loops one by one, so that its bits don't depend on how many there are;
- keys are visited in the order of their positions, so neither on where in the ring they happen to lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.int8]
Ints = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])

_jit = cast("Callable[..., Callable[[Any], Any]]", numba.njit)  # pyright: ignore[reportUnknownMemberType]


def compiled(function: F) -> F:
    """Machine code at the first call, kept on disk for the next process where a folder can be written."""
    # Sums may be reordered when the code is made, never when it runs: the order is the same for every row.
    return _made(function, fastmath=True)


def compiled_in_order(function: F) -> F:
    """The same, with every sum in the order in which it is written."""
    return _made(function, fastmath={"contract"})


def _made(function: F, **options: Any) -> F:
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        return _jit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to keep it
        return _jit(**options)(function)


@compiled
def dense(x: Floats, weight: Bytes, scale: Floats, y: Floats) -> None:
    """y [rows, out] = x [rows, in] times int8 [out, in], with a scale for each output; out in fours."""
    for o in range(0, weight.shape[0], 4):
        for r in range(x.shape[0]):
            # Four outputs at once read the input once; rows inside read the weights from memory once.
            a = np.float32(0)
            b = np.float32(0)
            c = np.float32(0)
            d = np.float32(0)
            for i in range(x.shape[1]):
                v = x[r, i]
                a += v * np.float32(weight[o, i])
                b += v * np.float32(weight[o + 1, i])
                c += v * np.float32(weight[o + 2, i])
                d += v * np.float32(weight[o + 3, i])
            y[r, o] = a * scale[o]
            y[r, o + 1] = b * scale[o + 1]
            y[r, o + 2] = c * scale[o + 2]
            y[r, o + 3] = d * scale[o + 3]


@compiled
def normalise(x: Floats, weight: Floats, eps: float, y: Floats) -> None:
    """RMSNorm of rows [rows, dim]."""
    for r in range(x.shape[0]):
        total = np.float32(0)
        for i in range(x.shape[1]):
            total += x[r, i] * x[r, i]
        factor = np.float32(1 / math.sqrt(total / x.shape[1] + eps))
        for i in range(x.shape[1]):
            y[r, i] = x[r, i] * factor * weight[i]


@compiled
def turn(x: Floats, begin: int, heads: int, cos: Floats, sin: Floats) -> None:
    """Rotate `heads` heads of a row x [width] from `begin` on, in pairs; angles [head_dim / 2]."""
    half = cos.shape[0]
    for h in range(heads):
        at = begin + h * 2 * half
        for j in range(half):
            a = x[at + 2 * j]
            b = x[at + 2 * j + 1]
            x[at + 2 * j] = a * cos[j] - b * sin[j]
            x[at + 2 * j + 1] = b * cos[j] + a * sin[j]


@compiled
def attend_one(q: Floats, keys: Floats, values: Floats, position: int, span: int, y: Floats) -> None:
    """One query against the ring of one key head.

    q, y [head_dim]; keys, values [capacity, head_dim], whose entry of position p is p mod capacity.
    """
    capacity, dim = keys.shape
    count = min(position + 1, span)
    first = position - count + 1
    scores = np.empty(count, np.float32)
    scale = np.float32(1 / math.sqrt(dim))
    for k in range(count):
        entry = (first + k) % capacity
        total = np.float32(0)
        for j in range(dim):
            total += q[j] * keys[entry, j]
        scores[k] = total * scale
    peak = scores[0]
    for k in range(count):
        peak = max(peak, scores[k])
    total = np.float32(0)
    for k in range(count):
        scores[k] = np.float32(math.exp(scores[k] - peak))
        total += scores[k]
    for j in range(dim):
        y[j] = 0
    for k in range(count):
        entry = (first + k) % capacity
        share = scores[k]
        for j in range(dim):
            y[j] += share * values[entry, j]
    for j in range(dim):
        y[j] /= total


@compiled
def decode(
    x: Floats,
    slots: Ints,
    positions: Ints,
    cos: Floats,
    sin: Floats,
    ada: Floats,
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
    eps: float,
    span: int,
    n_heads: int,
) -> None:
    """All layers for one position of every row, in place; the last row of `norms` is the final norm.

    Args:
        x: [rows, dim], overwritten with the output.
        slots: slot of each row. positions: position of each row.
        cos, sin: [rows, head_dim / 2].
        ada: [rows, layers, dim], scales of the feed-forward norms.
        keys, values: of each layer [slots, n_kv_heads, capacity, head_dim]; one entry a row is written.
        qkv: [layers, (n_heads + 2 n_kv_heads) head_dim, dim]. wo: [layers, dim, n_heads head_dim].
        gate_up: [layers, 2 hidden, dim]. down: [layers, dim, hidden]. Each with scales [layers, out].
        norms: [2 layers + 1, dim]. span: visible keys with the query's own.
    """
    rows, dim = x.shape
    n_kv_heads, capacity, head_dim = keys[0].shape[1:]
    group = n_heads // n_kv_heads
    hidden = down.shape[2]
    normed = np.empty((rows, dim), np.float32)
    mixed = np.empty((rows, qkv.shape[1]), np.float32)
    heard = np.empty((rows, n_heads * head_dim), np.float32)
    inner = np.empty((rows, 2 * hidden), np.float32)
    gated = np.empty((rows, hidden), np.float32)
    update = np.empty((rows, dim), np.float32)
    for layer in range(qkv.shape[0]):
        normalise(x, norms[2 * layer], eps, normed)
        dense(normed, qkv[layer], qkv_scale[layer], mixed)
        for r in range(rows):
            row, k_ring, v_ring = mixed[r], keys[layer][slots[r]], values[layer][slots[r]]
            turn(row, 0, n_heads + n_kv_heads, cos[r], sin[r])
            entry = positions[r] % capacity
            for h in range(n_kv_heads):
                at = (n_heads + h) * head_dim
                for j in range(head_dim):
                    k_ring[h, entry, j] = row[at + j]
                    v_ring[h, entry, j] = row[at + n_kv_heads * head_dim + j]
            for h in range(n_heads):
                head = slice(h * head_dim, (h + 1) * head_dim)
                attend_one(
                    row[head], k_ring[h // group], v_ring[h // group], positions[r], span, heard[r, head]
                )
        dense(heard, wo[layer], wo_scale[layer], update)
        for r in range(rows):
            for i in range(dim):
                x[r, i] += update[r, i]
        normalise(x, norms[2 * layer + 1], eps, normed)
        for r in range(rows):
            for i in range(dim):
                normed[r, i] *= 1 + ada[r, layer, i]
        dense(normed, gate_up[layer], gate_up_scale[layer], inner)
        for r in range(rows):
            for i in range(hidden):
                a = inner[r, i]
                gated[r, i] = a / (1 + np.float32(math.exp(-a))) * inner[r, hidden + i]
        dense(gated, down[layer], down_scale[layer], update)
        for r in range(rows):
            for i in range(dim):
                x[r, i] += update[r, i]
    normalise(x, norms[2 * qkv.shape[0]], eps, normed)
    x[:] = normed
