"""A step of a causal convolution with int8 weights, compiled by numba: past and all in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .numba_decoder import Bytes, Floats, Ints, compiled_in_order
from .numba_dense import dense_many


@compiled_in_order
def with_past(x: Floats, past: Floats) -> Floats:
    """[past + time, channels] of x [time, channels] and past [channels, past], which moves on."""
    channels, before = past.shape
    time = x.shape[0]
    padded = np.empty((before + time, channels), np.float32)
    for p in range(before):
        for c in range(channels):
            padded[p, c] = past[c, p]
    padded[before:] = x
    for p in range(before):
        for c in range(channels):
            past[c, p] = padded[time + p, c]
    return padded


@compiled_in_order
def convolve(
    x: Floats,
    slots: Ints,
    past: Floats,
    heard: NDArray[np.bool_],
    repeats: bool,
    kernel: int,
    stride: int,
    weight: Bytes,
    scale: Floats,
    bias: Floats,
) -> Any:
    """x [rows, time, channels] -> [rows, time / stride, outputs and what fills up their columns].

    Args:
        slots: slot of each row.
        past: [slots, channels, kernel - stride]. heard: [slots], whether there is one.
        repeats: what stands before the first input is that input, else zeros.
        weight: in columns, of [outputs, kernel channels]. bias: as long as `scale`.
    """
    rows, time, channels = x.shape
    count = time // stride
    windows = np.empty((rows * count, kernel * channels), np.float32)
    for r in range(rows):
        own = past[slots[r]]
        if repeats and not heard[slots[r]]:
            heard[slots[r]] = True
            for p in range(own.shape[1]):
                own[:, p] = x[r, 0]
        padded = with_past(x[r], own)
        for t in range(count):
            for k in range(kernel):
                windows[r * count + t, k * channels : (k + 1) * channels] = padded[t * stride + k]
    y = np.empty((rows * count, scale.shape[0]), np.float32)
    dense_many(windows, weight, scale, y)
    for m in range(rows * count):
        y[m] += bias
    return y.reshape(rows, count, scale.shape[0])


@compiled_in_order
def convolve_transposed(
    x: Floats,
    slots: Ints,
    past: Floats,
    outputs: int,
    kernel: int,
    stride: int,
    weight: Bytes,
    scale: Floats,
    bias: Floats,
) -> Any:
    """x [rows, time, channels] -> [rows, stride time, outputs]; see `convolve`.

    Args:
        past: [slots, channels, ceil(kernel / stride) - 1].
        weight: in columns, of [kernel outputs, channels]. bias: [outputs].
    """
    rows, time, _ = x.shape
    before = past.shape[2]
    y = np.empty((rows, time * stride, outputs), np.float32)
    parts = np.empty((before + time, scale.shape[0]), np.float32)
    for r in range(rows):
        dense_many(with_past(x[r], past[slots[r]]), weight, scale, parts)
        for t in range(time * stride):
            y[r, t] = bias
        for p in range(before + time):
            for k in range(kernel):
                t = (p - before) * stride + k
                if 0 <= t < time * stride:
                    y[r, t] += parts[p, k * outputs : (k + 1) * outputs]
    return y
