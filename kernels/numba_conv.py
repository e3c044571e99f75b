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
    # Loops, here and below: to assign a slice takes numba seconds to compile.
    for t in range(time):
        for c in range(channels):
            padded[before + t, c] = x[t, c]
    for p in range(before):
        for c in range(channels):
            past[c, p] = padded[time + p, c]
    return padded


@compiled_in_order
def seen(
    x: Floats,
    slots: Ints,
    past: Floats,
    heard: NDArray[np.bool_],
    repeats: bool,
    kernel: int,
    stride: int,
) -> Any:
    """[rows * time / stride, kernel * channels]: what each output sees of x [rows, time, channels].

    Args:
        slots: slot of each row.
        past: [slots, channels, kernel - stride]. heard: [slots], whether there is one.
        repeats: what stands before the first input is that input, else zeros.
    """
    rows, time, channels = x.shape
    count = time // stride
    windows = np.empty((rows * count, kernel * channels), np.float32)
    for r in range(rows):
        own = past[slots[r]]
        if repeats and not heard[slots[r]]:
            heard[slots[r]] = True
            for c in range(channels):
                for p in range(own.shape[1]):
                    own[c, p] = x[r, 0, c]
        padded = with_past(x[r], own)
        for t in range(count):
            for k in range(kernel):
                for c in range(channels):
                    windows[r * count + t, k * channels + c] = padded[t * stride + k, c]
    return windows


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
    """x [rows, time, channels] -> [rows, stride time, outputs]; `slots` as in `seen`.

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
            for o in range(outputs):
                y[r, t, o] = bias[o]
        for p in range(before + time):
            for k in range(kernel):
                t = (p - before) * stride + k
                if 0 <= t < time * stride:
                    for o in range(outputs):
                        y[r, t, o] += parts[p, k * outputs + o]
    return y
