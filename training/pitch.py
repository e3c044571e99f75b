"""The pitch of speech, ten milliseconds apart: what teaches a voice its own.

Normalised cross-correlation of the wave below 1.6 kHz, candidates at its peaks, and the cheapest path through
them, as in RAPT (Talkin, "A robust algorithm for pitch tracking", 1995); not his numbers.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numba import njit  # pyright: ignore
from numpy.typing import NDArray

LOWEST, HIGHEST = 50.0, 550.0  # Hz
HOP = 240  # samples at 24 kHz
_RATE, _TOP = 8000, 1600.0
_WINDOW = 280  # samples at 8 kHz: 35 ms
_LAGS = int(_RATE / LOWEST) + 2
_FEWEST = int(_RATE / HIGHEST) + 1
_CANDIDATES = 8
_JUMP, _SWITCH, _SILENT = 3.0, 0.3, 0.45  # costs: of an octave, of voice on and off, of no voice
_STRONG = 1e-6  # power below which nobody speaks


def pitch(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hz at every 240th sample of a 24 kHz wave [n], from sample 0 on; 0 where there is no voice.

    [n // 240 + 1].
    """
    count = len(wave) // HOP + 1
    low = _below(wave)
    # A frame is about its place: the window and the one it is compared with lie half before, half behind.
    back = (_WINDOW + _LAGS) // 2
    low = np.pad(low, (back, back + _WINDOW + _LAGS))
    begins = np.arange(count) * (HOP // 3)
    frames = low[begins[:, None] + np.arange(_WINDOW + _LAGS)]
    size = 512
    assert size >= _WINDOW + _LAGS
    together = np.fft.rfft(frames, size)
    alone = np.fft.rfft(frames[:, :_WINDOW], size)
    products = np.fft.irfft(together * np.conj(alone), size)[:, : _LAGS + 1]
    squares = np.concatenate([np.zeros((count, 1)), np.cumsum(np.square(frames, dtype=np.float64), 1)], 1)
    energies = squares[:, _WINDOW : _WINDOW + _LAGS + 1]
    energies = energies - squares[:, : _LAGS + 1][:, : energies.shape[1]]
    products = products[:, : energies.shape[1]]
    floor = _STRONG * _WINDOW
    likeness = products / np.sqrt((energies[:, :1] + floor) * (energies + floor))
    return _on_time(_path(likeness.astype(np.float32)))


def _on_time(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pitches moved to their places: of a short period, the two windows lie half a lag less apart."""
    voiced = np.flatnonzero(found)
    for run in np.split(voiced, np.flatnonzero(np.diff(voiced) > 1) + 1):
        if len(run):
            early = (_LAGS - _RATE / found[run]) / 2 / (HOP / 3)
            found[run] = np.interp(run, run - early, found[run])
    return found


def _below(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """At 8 kHz, without what lies above `_TOP`."""
    size = -(-len(wave) // HOP) * HOP + HOP
    spectrum = np.fft.rfft(wave, size)[: size // 6 + 1]
    hz = np.arange(len(spectrum)) * (24000 / size)
    spectrum *= np.clip((_TOP * 1.25 - hz) / (_TOP * 0.25), 0, 1) * np.clip((hz - 30) / 20, 0, 1)
    return cast("Any", np.fft.irfft(spectrum, size // 3) / 3).astype(np.float32)


@njit(cache=True)
def _path(likeness: NDArray[np.float32]) -> NDArray[np.float32]:  # pragma: no cover
    """The cheapest way through the peaks of [frames, lags]."""
    count, lags = likeness.shape
    hertz = np.zeros((count, _CANDIDATES + 1), np.float32)
    local = np.full((count, _CANDIDATES + 1), np.inf, np.float32)
    local[:, 0] = _SILENT
    for t in range(count):
        row = likeness[t]
        for lag in range(_FEWEST, lags - 1):
            if row[lag] <= 0.3 or row[lag] < row[lag - 1] or row[lag] <= row[lag + 1]:
                continue
            bend = row[lag - 1] - 2 * row[lag] + row[lag + 1]
            shift = 0.5 * (row[lag - 1] - row[lag + 1]) / bend if bend < 0 else 0.0
            best = row[lag] - 0.25 * (row[lag - 1] - row[lag + 1]) * shift
            # A long lag fits as well as a short one where the voice is steady.
            cost = 1.0 - best * (1.0 - 0.12 * (lag + shift) / lags)
            worst = 1
            for c in range(2, _CANDIDATES + 1):
                if local[t, c] > local[t, worst]:
                    worst = c
            if cost < local[t, worst] and LOWEST <= _RATE / (lag + shift) <= HIGHEST:
                local[t, worst] = cost
                hertz[t, worst] = _RATE / (lag + shift)
    total = local.copy()
    came = np.zeros((count, _CANDIDATES + 1), np.int64)
    for t in range(1, count):
        for c in range(_CANDIDATES + 1):
            if local[t, c] == np.inf:
                total[t, c] = np.inf
                continue
            lowest, where = np.inf, 0
            for b in range(_CANDIDATES + 1):
                if total[t - 1, b] == np.inf:
                    continue
                if b == 0 and c == 0:
                    move = 0.0
                elif b == 0 or c == 0:
                    move = _SWITCH
                else:
                    move = min(_JUMP * abs(np.log2(hertz[t, c] / hertz[t - 1, b])), 2.0)
                if total[t - 1, b] + move < lowest:
                    lowest, where = total[t - 1, b] + move, b
            total[t, c] = local[t, c] + lowest
            came[t, c] = where
    found = np.zeros(count, np.float32)
    at = 0
    for c in range(_CANDIDATES + 1):
        if total[count - 1, c] < total[count - 1, at]:
            at = c
    for t in range(count - 1, -1, -1):
        found[t] = hertz[t, at] if at else 0.0
        at = came[t, at]
    return found
