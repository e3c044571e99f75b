"""What the engine asks of a model: utterances that can be opened, fed, stepped together and closed.

The engine knows nothing of frames, tokens and tensors; `hearing.py` has the one implementation for our
models, tests have a smaller one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .events import Event, OpenStream, TurnRules

Samples = npt.NDArray[np.float32]


class Utterance(Protocol):
    """One stream, from its first sample to its last word."""

    @property
    def waiting(self) -> float:
        """Seconds of audio that were fed and not heard yet."""
        ...

    def feed(self, samples: Samples) -> None:
        """More audio: float32 mono [n] at 16 kHz."""
        ...

    def configure(self, delay_ms: int | None, turns: TurnRules | None) -> None:
        """New settings from here on."""
        ...

    def flush(self, id: str) -> None:
        """Say all text of the audio so far, then `Mark`; the stream itself goes on untouched."""
        ...

    def finish(self) -> None:
        """No more audio comes; `Final` follows."""
        ...

    def take_events(self) -> list[Event]:
        """What is new since the last call. After `Final` there is no more."""
        ...


class Listener(Protocol):
    """A model with a fixed number of lanes. Used by one thread only."""

    @property
    def block_seconds(self) -> float:
        """Audio that one step takes from a lane at the default delay."""
        ...

    def open(self, order: OpenStream) -> Utterance:
        """Take a free lane.

        Raises:
            ConfigError: a delay that the model can't have.
            CapacityError: no lane is free; the engine never lets that happen.
        """
        ...

    def close(self, utterance: Utterance) -> None:
        """Give the lane back, in whatever state it is. Twice is once."""
        ...

    def step(self, report: Callable[[], None] | None = None) -> float:
        """Run one batched step over all lanes that have a block of audio.

        Args:
            report: may be called, any number of times, while the step goes on and there may be new events;
                it may close utterances.

        Returns:
            Seconds of audio heard, all lanes together; 0.0 if there was nothing to do.
        """
        ...
