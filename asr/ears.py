"""The audio side of a listening session: samples in, whole encoder steps out. No tensors.

An ear counts in the padded stream of `delays.py`, but hands out samples 40 later: what a step's mel frames
reach beyond its own 80 ms comes from the next samples, what they reach back lies in the front end's state.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..audio import check_samples
from ..errors import AudioError
from .delays import ENCODER_PER_STEP, FRAME_MS, FRAME_SAMPLES, MEL_LOOKAHEAD, RATE

if TYPE_CHECKING:
    from .lanes import Lane

Samples = NDArray[np.float32]

LEVELS_PER_STEP = 4  # loudness is kept for every 20 ms
_LEVEL_MS = FRAME_MS // LEVELS_PER_STEP
_QUIET_LEVELS = 3  # what lies between two sounds for at least so long parts them


class SampleQueue:
    """Samples that wait for a whole step: a growing buffer, so that pushing single samples stays cheap."""

    def __init__(self) -> None:
        self._buffer = np.zeros(4 * FRAME_SAMPLES, np.float32)
        self._begin = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    def push(self, x: Samples) -> None:
        """Append a copy of x [n]."""
        if self._end + len(x) > len(self._buffer):
            waiting = self._buffer[self._begin : self._end]
            room = max(4 * FRAME_SAMPLES, 2 * (len(waiting) + len(x)))
            grown = np.zeros(room, np.float32)
            grown[: len(waiting)] = waiting
            self._buffer, self._begin, self._end = grown, 0, len(waiting)
        self._buffer[self._end : self._end + len(x)] = x
        self._end += len(x)

    def pop(self, n: int) -> Samples:
        """Take the next n samples, or as many as there are."""
        n = min(n, len(self))
        x = self._buffer[self._begin : self._begin + n].copy()
        self._begin += n
        if self._begin == self._end:
            self._begin = self._end = 0
        return x

    def peek(self) -> Samples:
        """A copy of all that waits."""
        return self._buffer[self._begin : self._end].copy()


class Ear:
    """One stream of audio on its way into the encoder; one lane or more read what it hears."""

    def __init__(self, slot: int, block: int, left_pad_tokens: int, ring_tokens: int) -> None:
        self.slot = slot  # row of the adapter ring, and of the encoder's state in its bank
        self.block = block  # encoder frames that see each other, for the next step
        self.left_pad_tokens = left_pad_tokens
        self.ring_tokens = ring_tokens
        self.tokens = 0  # steps encoded: the adapter vectors 0..tokens-1 exist
        self.received = 0  # real samples pushed
        self.finished = False
        self.lanes: list[Lane] = []
        self._queue = SampleQueue()
        # Mean square of every 20 ms, as old as the adapter ring.
        self._levels = np.zeros(LEVELS_PER_STEP * ring_tokens, np.float32)

    @property
    def seconds(self) -> float:
        """Real audio received."""
        return self.received / RATE

    @property
    def waiting(self) -> int:
        """Real samples received and not yet encoded."""
        return len(self._queue)

    def push(self, x: Samples) -> None:
        """Take more audio.

        Raises:
            AudioError: not a row of finite float32 samples, or after `finish`; nothing is taken then.
        """
        x = mono(x)
        if self.finished:
            raise AudioError("audio after finish(): a finished session takes no more, open a new one")
        if len(x):
            self._queue.push(x)
            self.received += len(x)

    def finish(self) -> None:
        """No more audio comes; zeros follow as far as the lanes need them."""
        self.finished = True

    def ready(self, most: int) -> tuple[int, int]:
        """(block, steps) that can be encoded next: whole blocks, at most `most` steps or one block."""
        block = self._next_block()
        unit = block_steps(block)
        if self.finished:
            heard = max((lane.end for lane in self.lanes if not lane.done), default=0)
        else:
            heard = (self.left_pad_tokens * FRAME_SAMPLES - MEL_LOOKAHEAD + self.received) // FRAME_SAMPLES
        most = max(most // unit, 1) * unit
        wanted = self._wanted_block()
        if wanted != block:
            # Stop where the wanted block can begin.
            most = min(most, max(-self.tokens % block_steps(wanted), unit))
        return block, min(max(heard - self.tokens, 0) // unit * unit, most)

    def take(self, block: int, steps: int) -> Samples:
        """The samples [1280 steps] of the next steps; they count as encoded from now on."""
        first = self.tokens * FRAME_SAMPLES - (self.left_pad_tokens * FRAME_SAMPLES - MEL_LOOKAHEAD)
        x = np.zeros(steps * FRAME_SAMPLES, np.float32)
        silent = min(max(-first, 0), len(x))
        real = self._queue.pop(len(x) - silent)
        x[silent : silent + len(real)] = real
        levels = np.square(x).reshape(steps * LEVELS_PER_STEP, -1).mean(axis=1)
        index = np.arange(len(levels)) + self.tokens * LEVELS_PER_STEP
        self._levels[index % len(self._levels)] = levels
        self.block = block
        self.tokens += steps
        return x

    def skip(self, steps: int) -> None:
        """Count steps of left padding as encoded: their state was copied from elsewhere."""
        self.tokens += steps

    def levels(self, begin: int, end: int) -> Samples:
        """Mean squares [4 (end - begin)] of the steps `begin` to `end`; zeros where the ring has none."""
        index = np.arange(begin * LEVELS_PER_STEP, end * LEVELS_PER_STEP)
        oldest = max(self.tokens - self.ring_tokens, 0) * LEVELS_PER_STEP
        known = (index >= oldest) & (index < self.tokens * LEVELS_PER_STEP)
        return np.where(known, self._levels[index % len(self._levels)], np.float32(0))

    def level_db(self, begin: int, end: int) -> float:
        """Mean level of the steps `begin` to `end`, in dB full scale."""
        levels = self.levels(begin, end)
        return 10 * math.log10(float(levels.mean()) + 1e-12) if len(levels) else -120.0

    def onset(self, begin: float, end: float) -> float | None:
        """When the sound that ends at `end` began, in seconds of the real audio, not before `begin`.

        It began behind the last quiet stretch, or at `begin` if there is none; None: all is silent.
        """
        first, last = (round(seconds * 1000 / _LEVEL_MS) for seconds in (begin, end))
        step = self.left_pad_tokens + first // LEVELS_PER_STEP
        levels = self.levels(step, self.left_pad_tokens - (-last // LEVELS_PER_STEP))
        levels = levels[first % LEVELS_PER_STEP :][: last - first]
        if len(levels) == 0 or float(levels.max()) <= 0:
            return None
        # Quiet: 20 dB below the loudest part of the stretch.
        loud = (levels > 0.01 * float(levels.max())).tolist()
        i = len(loud) - 1
        while not loud[i]:
            i -= 1
        onset, quiet = i, 0
        while i >= 0 and quiet < _QUIET_LEVELS:
            onset, quiet = (i, 0) if loud[i] else (onset, quiet + 1)
            i -= 1
        return (first + onset) * _LEVEL_MS / 1000 if quiet == _QUIET_LEVELS else begin

    def state(self) -> dict[str, Any]:
        """Everything but the slot, the lanes and the two arrays of `arrays`, ready for JSON."""
        return {
            "block": self.block,
            "tokens": self.tokens,
            "received": self.received,
            "finished": self.finished,
        }

    def arrays(self) -> dict[str, Samples]:
        """The samples that wait, and the loudness of the last ones."""
        return {"waiting": self._queue.peek(), "levels": self._levels.copy()}

    def restore(self, state: dict[str, Any], arrays: dict[str, Samples]) -> None:
        """Continue where another ear stood."""
        self.block = int(state["block"])
        self.tokens = int(state["tokens"])
        self.received = int(state["received"])
        self.finished = bool(state["finished"])
        self._queue = SampleQueue()
        self._queue.push(arrays["waiting"])
        self._levels = arrays["levels"].copy()

    def _wanted_block(self) -> int:
        return min((lane.block for lane in self.lanes), default=self.block)

    def _next_block(self) -> int:
        wanted = self._wanted_block()
        # A larger block can begin only where one would have begun from the start of the stream.
        if self.finished or self.tokens % block_steps(wanted):
            return self.block
        return wanted


def block_steps(block: int) -> int:
    """Steps of 80 ms that an encoder block takes at once."""
    return max(block // ENCODER_PER_STEP, 1)


def mono(x: Samples) -> Samples:
    """x itself, when it is a row of finite float samples.

    Raises:
        AudioError: what it is instead.
    """
    # Callers hand in whatever they have; the type is a wish.
    array: NDArray[Any] = np.asarray(x)
    if array.ndim != 1:
        raise AudioError(f"expected mono samples of shape [n], got shape {list(array.shape)}")
    if array.dtype != np.float32:
        raise AudioError(
            f"expected float32 samples in [-1, 1], got {array.dtype}; divide 16-bit samples by 32768"
        )
    check_samples(array, RATE)
    return array
