"""A step of a voice made of pulses and noise, compiled by numba: all but its Fourier transforms.

What `SourceFilter` of the codec does with some sixty torch operations, which cost more in calls than in sums.
Sums stand in the order of time, so that no cut of a stream changes a bit of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .numba_decoder import Floats, Ints, compiled_in_order

Doubles = NDArray[np.float64]


@compiled_in_order
def sine(x: float) -> float:
    """sin(pi x) to 1e-15, and without a call, so that a loop of it becomes vector code."""
    half_turns = np.floor(x + 0.5)
    r = (x - half_turns) * math.pi
    s = r * r
    # Taylor's to the 21st power, of at most a quarter of a turn.
    y = 1 / 51090942171709440000.0
    y = -1 / 121645100408832000.0 + y * s
    y = 1 / 355687428096000.0 + y * s
    y = -1 / 1307674368000.0 + y * s
    y = 1 / 6227020800.0 + y * s
    y = -1 / 39916800.0 + y * s
    y = 1 / 362880.0 + y * s
    y = -1 / 5040.0 + y * s
    y = 1 / 120.0 + y * s
    y = -1 / 6.0 + y * s
    odd = half_turns - 2 * np.floor(half_turns * 0.5)
    return (r + r * s * y) * (1 - 2 * odd)


@compiled_in_order
def layer(x: Doubles, weight: Floats, bias: Floats, y: Doubles) -> None:
    """y [out] = x [in] times weight [in, out], and bias, in float64."""
    for o in range(y.shape[0]):
        y[o] = bias[o]
    for i in range(x.shape[0]):
        for o in range(y.shape[0]):
            y[o] += x[i] * weight[i, o]


@compiled_in_order
def read_pitch(
    heard: Doubles,
    weights: tuple[Floats, ...],
    biases: tuple[Floats, ...],
    lowest: float,
    highest: float,
    hertz: Doubles,
) -> None:
    """Hz [frames * positions] of latents heard [frames + context - 1, latent_dim]; weights for `layer`."""
    wide, depth, positions = weights[0].shape[0], len(weights), biases[-1].shape[0]
    flat = heard.reshape(heard.size)
    for frame in range(hertz.shape[0] // positions):
        begin = frame * heard.shape[1]
        x = flat[begin : begin + wide]
        # A loop, so that the layer is compiled once.
        for n in range(depth):
            y = np.empty(biases[n].shape[0], np.float64)
            layer(x, weights[n], biases[n], y)
            if n + 1 < depth:
                for i in range(y.shape[0]):
                    y[i] /= 1 + math.exp(-y[i])
            x = y
        for i in range(positions):
            share = 1 / (1 + math.exp(-x[i]))
            hertz[frame * positions + i] = lowest * math.exp(math.log(highest / lowest) * share)


@compiled_in_order
def pulse(first: float, last: float, phase: float, rate: float, y: Floats) -> float:
    """Write y [patch] of power 1 and give the phase behind it; see `SourceFilter._pulses`."""
    patch = y.shape[0]
    count = np.floor(rate / 2 / max(first, last))
    many, level = 2.0 * count + 1, math.sqrt(2.0 / count)
    bend = (last - first) / (2 * patch)
    for k in range(patch):
        j = k + 1.0
        turns = phase + (first * j + bend * j * j) / rate
        turns -= np.floor(turns)
        half = sine(turns)
        near = abs(half) < 1e-9
        ringing = many if near else sine(many * turns) / (1.0 if near else half)
        y[k] = (ringing - 1) / 2 * level
    end = phase + (first + last) * (patch / 2 / rate)
    return end - np.floor(end)


@compiled_in_order
def listen(
    x: Floats,
    latents: Floats,
    slots: Ints,
    memory: Any,
    weights: tuple[Floats, ...],
    biases: tuple[Floats, ...],
    lowest: float,
    highest: float,
    rate: float,
    window: Floats,
) -> Any:
    """Windows of pulses [rows * time, size].

    Args:
        x: [rows, time, dim]. latents: [rows, frames, latent_dim].
        memory: latents, pulses, last, pitch and phase of `SourceFilter.initial_state`; they move on.
        weights, biases: of `read_pitch`.
    """
    past_latents, past_pulses, past_x, past_pitch, past_phase = memory
    rows, time, dim = x.shape
    frames, context, size = latents.shape[1], past_latents.shape[1], window.shape[0]
    patch, before = past_pulses.shape[1:]
    heard = np.empty((context + frames, latents.shape[2]), np.float64)
    hertz = np.empty(time, np.float64)
    wave = np.empty((before + time) * patch, np.float32)
    windows = np.empty((rows * time, size), np.float32)
    for r in range(rows):
        slot = slots[r]
        # Loops, here and below: to assign a slice takes numba seconds to compile.
        for i in range(latents.shape[2]):
            for c in range(context):
                heard[c, i] = past_latents[slot, c, i]
            for c in range(frames):
                heard[context + c, i] = latents[r, c, i]
            for c in range(context):
                past_latents[slot, c, i] = heard[frames + c, i]
        read_pitch(heard, weights, biases, lowest, highest, hertz)
        for p in range(before):
            for i in range(patch):
                wave[p * patch + i] = past_pulses[slot, i, p]
        pitch, phase = past_pitch[slot, 0], past_phase[slot, 0]
        for t in range(time):
            begin = (before + t) * patch
            phase = pulse(
                pitch if pitch > 0 else hertz[t], hertz[t], phase, rate, wave[begin : begin + patch]
            )
            pitch = hertz[t]
            for i in range(size):
                windows[r * time + t, i] = wave[t * patch + i] * window[i]
        past_pitch[slot, 0], past_phase[slot, 0] = pitch, phase
        for p in range(before):
            for i in range(patch):
                past_pulses[slot, i, p] = wave[(time + p) * patch + i]
        for i in range(dim):
            past_x[slot, i] = x[r, time - 1, i]
    return windows


@compiled_in_order
def colour(tonal: Floats, said: Floats, hiss: Floats, slots: Ints, position: Ints) -> None:
    """Turn spectra of pulses into spectra of the voice, in place.

    Args:
        tonal: [rows * time, bins, 2].
        said: [rows * time, at least 3 * bins], gains of pulses, gains of noise and angles.
        hiss: spectra of an endless noise [windows, bins, 2].
        position: [slots], where in the noise each row stands; moves on.
    """
    many, bins = tonal.shape[:2]
    time = many // slots.shape[0]
    for r in range(slots.shape[0]):
        for t in range(time):
            m = r * time + t
            noise = hiss[(position[slots[r]] + t) % hiss.shape[0]]
            for i in range(bins):
                angle = np.float64(said[m, 2 * bins + i]) * (1 / math.pi)
                across = said[m, i] * np.float32(sine(angle + 0.5))
                along = said[m, i] * np.float32(sine(angle))
                real, imaginary, loud = tonal[m, i, 0], tonal[m, i, 1], said[m, bins + i]
                tonal[m, i, 0] = real * across - imaginary * along + noise[i, 0] * loud
                tonal[m, i, 1] = real * along + imaginary * across + noise[i, 1] * loud
        position[slots[r]] += time


@compiled_in_order
def overlap(pieces: Floats, window: Floats, slots: Ints, begun: Floats) -> Any:
    """Windows [rows * time, size] added up: [rows, time, patch]; `begun` [slots, patch, 3] moves on."""
    patch, before = begun.shape[1:]
    rows = slots.shape[0]
    time = pieces.shape[0] // rows
    y = np.empty((rows, time, patch), np.float32)
    total = np.empty((before + time, patch), np.float32)
    for r in range(rows):
        for p in range(before + time):
            for i in range(patch):
                total[p, i] = begun[slots[r], i, p] if p < before else np.float32(0)
        for t in range(time):
            for o in range(before + 1):
                for i in range(patch):
                    total[t + o, i] += pieces[r * time + t, o * patch + i] * window[o * patch + i]
        for t in range(time):
            for i in range(patch):
                y[r, t, i] = total[t, i]
        for p in range(before):
            for i in range(patch):
                begun[slots[r], i, p] = total[time + p, i]
    return y
