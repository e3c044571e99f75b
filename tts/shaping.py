"""Speech as it goes out: no direct current, no clicks at its ends, nothing beyond full scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EDGE = 120  # samples over which sound comes in and goes out: 5 ms
KNEE, CEILING = 0.8, 0.98
BLOCK = 1920


class Shaper:
    """One stretch of speech, block by block."""

    POLE = 0.9974  # 10 Hz

    def __init__(self) -> None:
        self._in = self._out = 0.0
        self._begun = False

    def shape(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        if not len(x):
            return x
        parts = [self._highpass(x[begin : begin + BLOCK]) for begin in range(0, len(x), BLOCK)]
        y = np.concatenate(parts).astype(np.float32)
        if not self._begun:
            self._begun = True
            ramp = min(EDGE, len(y))
            y[:ramp] *= np.linspace(0, 1, ramp, dtype=np.float32)
        return limited(y)

    def _highpass(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """y[n] = pole y[n-1] + x[n] - x[n-1], in closed form: short blocks keep the powers moderate."""
        change = np.diff(x.astype(np.float64), prepend=self._in)
        power = self.POLE ** np.arange(1, len(x) + 1)
        y = power * (self._out + np.cumsum(change / power))
        self._in, self._out = float(x[-1]), float(y[-1])
        return y

    def finish(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        y = self.shape(x).copy()
        ramp = min(EDGE, len(y))
        if ramp:
            y[-ramp:] *= np.linspace(1, 0, ramp, dtype=np.float32)
        return y


def limited(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is beyond 0.8 is bent towards full scale and never reaches it."""
    over = np.abs(y) > KNEE
    if over.any():
        beyond = (np.abs(y[over]) - KNEE) / (CEILING - KNEE)
        y = y.copy()
        y[over] = np.sign(y[over]) * (KNEE + (CEILING - KNEE) * np.tanh(beyond))
    return y
