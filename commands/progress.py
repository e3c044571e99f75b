"""How far a long file has been heard, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO


class Progress:
    """Silent for two seconds; then one line, rewritten on a terminal, repeated each half minute elsewhere."""

    def __init__(self, name: str, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._out = out
        self._clock = clock
        self._live = out.isatty()
        self._start = clock()
        self._next = self._start + 2
        self._shown = False

    def at(self, seconds: float) -> None:
        """`seconds` of the recording have been heard."""
        now = self._clock()
        if now < self._next:
            return
        # Lengths in headers are not believed, so the end is not announced.
        speed = seconds / (now - self._start)
        line = f"{self._name}: {_clock(seconds)} heard, {speed:.1f}x the pace of speech"
        self._out.write(f"\r{line}\x1b[K" if self._live else f"{line}\n")
        self._out.flush()
        self._shown = True
        self._next = now + (0.2 if self._live else 30)

    def done(self) -> None:
        """Take the line away again."""
        if self._shown and self._live:
            self._out.write("\r\x1b[K")
            self._out.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
