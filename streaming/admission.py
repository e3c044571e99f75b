"""Whether one more session fits, from measured step times.

A step costs a fixed part and a part for every second of audio in it (weights are read once a step, rows are
computed one by one). Both are fitted by least squares over recent steps, older ones fading. One more session
fits if a step with a block of every session takes at most `load` of the time that the block lasts.
"""

from __future__ import annotations

from dataclasses import dataclass

_FADE = 0.995  # a step counts half after 140 more


@dataclass
class StepMeter:
    """Fits `seconds = fixed + rate x audio` to the steps seen so far."""

    load: float = 0.7
    _n: float = 0.0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _xy: float = 0.0
    steps: int = 0
    busy_seconds: float = 0.0
    audio_seconds: float = 0.0

    def add(self, seconds: float, audio: float) -> None:
        """Count a step that took `seconds` for `audio` seconds of audio, all lanes together."""
        self.steps += 1
        self.busy_seconds += seconds
        self.audio_seconds += audio
        self._n = self._n * _FADE + 1
        self._x = self._x * _FADE + audio
        self._y = self._y * _FADE + seconds
        self._xx = self._xx * _FADE + audio * audio
        self._xy = self._xy * _FADE + audio * seconds

    def fit(self) -> tuple[float, float]:
        """(fixed seconds, seconds for each second of audio), neither negative."""
        if self._n == 0 or self._x == 0:
            return 0.0, 0.0
        through_zero = self._xy / self._xx
        spread = self._n * self._xx - self._x * self._x
        # Steps all of one size say nothing about the fixed part; all is put on the rows then, which
        # underestimates what fits.
        if spread <= 1e-9 * self._xx * self._n:
            return 0.0, through_zero
        rate = (self._n * self._xy - self._x * self._y) / spread
        fixed = (self._y - rate * self._x) / self._n
        if fixed < 0:
            return 0.0, through_zero
        if rate < 0:
            return self._y / self._n, 0.0
        return fixed, rate

    def share(self, sessions: int, block_seconds: float) -> float:
        """Part of real time that steps with a block of every session would take."""
        fixed, rate = self.fit()
        return fixed / block_seconds + rate * sessions

    def fits(self, sessions: int, block_seconds: float) -> bool:
        """Whether so many sessions keep real time with room to spare."""
        return self.share(sessions, block_seconds) <= self.load
