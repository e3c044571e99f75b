"""A listener without a model: writes one word for every 80 ms, which names the loudest sample in it.

Its text depends on the samples alone, so a stream's text can be computed beside it (`says`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from rillvox.errors import AudioError, CapacityError
from rillvox.streaming.events import Event, Final, Mark, OpenStream, Partial, TurnRules
from rillvox.streaming.listener import Samples, Utterance

FRAME = 1280
FAULT = np.float32(32767 / 32768)  # a sample that breaks the stream it comes in


def word(frame: Samples) -> str:
    """The word for one frame."""
    return f" w{round(float(np.abs(frame).max()) * 100)}"


def says(samples: Samples) -> str:
    """The whole text of a stream, as a dialect shows it."""
    frames = [samples[i : i + FRAME] for i in range(0, len(samples), FRAME)]
    return "".join(map(word, frames)).lstrip()


class ParrotUtterance:
    """One stream."""

    def __init__(self, order: OpenStream) -> None:
        self.order = order
        self.samples = np.zeros(0, np.float32)
        self.taken = 0
        self.text = ""
        self.finished = False
        self.said_final = False
        self.new: list[Event] = []
        self.turns: TurnRules | None = order.turns

    @property
    def waiting(self) -> float:
        """Seconds fed and not heard."""
        return (len(self.samples) - self.taken) / 16000

    def feed(self, samples: Samples) -> None:
        """More audio."""
        if np.any(samples == FAULT):
            raise ZeroDivisionError("a fault of one stream")
        if not np.isfinite(samples).all():
            raise AudioError("not finite")
        self.samples = np.concatenate([self.samples, samples])

    def configure(self, delay_ms: int | None, turns: TurnRules | None) -> None:
        """New rules."""
        self.turns = turns

    def flush(self, id: str) -> None:
        """At once: there is no delay."""
        self.new.append(Mark(self.order.stream, id))

    def finish(self) -> None:
        """No more."""
        self.finished = True

    def hear(self) -> float:
        """One frame."""
        frame = self.samples[self.taken : self.taken + FRAME]
        if len(frame) == FRAME or (self.finished and len(frame)):
            self.taken += len(frame)
            self.text += word(frame)
            self.new.append(Partial(self.order.stream, word(frame)))
            return 0.08
        return 0.0

    def take_events(self) -> list[Event]:
        """New ones."""
        if self.finished and self.taken == len(self.samples) and not self.said_final:
            self.said_final = True
            self.new.append(Final(self.order.stream, self.text, (), len(self.samples) / 16000, 3, 4))
        new, self.new = self.new, []
        return new


class Parrot:
    """The listener. `pause`: seconds of sleep in each step; `break_step` makes steps fail."""

    block_seconds = 0.08

    def __init__(self, lanes: int = 4, pause: float = 0.0) -> None:
        self.lanes = lanes
        self.pause = pause
        self.break_step = False
        self.open_now: list[ParrotUtterance] = []
        self.opened = 0
        self.gate: Callable[[], object] = lambda: None
        self.thread = 0

    def open(self, order: OpenStream) -> ParrotUtterance:
        """Take a lane."""
        if len(self.open_now) >= self.lanes:
            raise CapacityError("no lane")
        utterance = ParrotUtterance(order)
        self.open_now.append(utterance)
        self.opened += 1
        return utterance

    def close(self, utterance: Utterance) -> None:
        """Give it back."""
        if isinstance(utterance, ParrotUtterance) and utterance in self.open_now:
            self.open_now.remove(utterance)

    def step(self, report: Callable[[], None] | None = None) -> float:
        """One frame of everybody."""
        self.thread = threading.get_ident()
        self.gate()
        if self.break_step:
            raise MemoryError("the step failed")
        heard = sum(utterance.hear() for utterance in self.open_now)
        if heard and self.pause:
            time.sleep(self.pause)
        return heard
