"""One clip through a live session, chunk by chunk, with a stamp on every piece of text.

The clock is that of the audio: text that was there after the session had received samples up to t is stamped
t. What the machine needed for that chunk is kept beside it, so the delay of the model and the delay that a
user sees can both be told. Nothing waits: a clip runs as fast as the machine allows.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import RillvoxError
from .delays import FRAME_SAMPLES, RATE
from .events import Event, Final, Partial
from .transcript import Transcript, Word

Samples = NDArray[np.float32]
# What ends one clip and not the evaluation: refusals of our own, and what tensor code raises.
FAILURES = (RillvoxError, RuntimeError, ValueError)


class Session(Protocol):
    """What is needed of a session that pumps itself."""

    def feed(self, pcm: Samples, /) -> None: ...
    def poll(self) -> Sequence[Event]: ...
    def finish(self) -> Transcript: ...
    def cancel(self) -> None: ...


class Listener(Protocol):
    """What is needed of a model."""

    def stream(self, *, delay_ms: int) -> Session: ...


class Voice(Protocol):
    """What is needed of a session that lives in a batch."""

    def push(self, samples: Samples, /) -> None: ...
    def poll(self) -> Sequence[Event]: ...
    def finish(self) -> None: ...


V = TypeVar("V", bound=Voice)


class Slots(Protocol[V]):
    """What is needed of a batch: `slots` sessions that step together."""

    @property
    def free(self) -> int: ...
    def open(self, delay_ms: int) -> V: ...
    def step(self) -> bool: ...
    def close(self, lane: V, /) -> None: ...


@dataclass
class Hearing:
    """What came of one clip.

    `text` is the final one; `stamps` holds (characters shown, audio seconds, compute seconds of that chunk),
    the first two rising. `failure` says why there is no text.
    """

    audio_seconds: float
    text: str = ""
    shown: str = ""
    stamps: list[tuple[int, float, float]] = field(default_factory=list[tuple[int, float, float]])
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    finish_seconds: float = 0.0
    failure: str | None = None
    words: tuple[Word, ...] = ()
    chunk_seconds: list[float] = field(default_factory=list[float])  # of work, for each 80 ms of audio

    def take(self, events: Iterable[Event], heard: float, compute: float) -> bool:
        """Note new text; true at the end of the session."""
        ended = False
        for event in events:
            if isinstance(event, Partial):
                self.shown += event.text
            elif isinstance(event, Final):
                self.text, self.words, ended = event.transcript.text, event.transcript.words, True
        if len(self.shown) > (self.stamps[-1][0] if self.stamps else 0):
            self.stamps.append((len(self.shown), heard, compute))
        return ended

    def shown_at(self, characters: int) -> tuple[float, float] | None:
        """Audio and compute seconds of the chunk after which so many characters stood there for good."""
        if not self.text.startswith(self.shown[:characters]):
            return None
        at = bisect_left(self.stamps, characters, key=lambda stamp: stamp[0])
        return self.stamps[at][1:] if at < len(self.stamps) else None

    @property
    def revised_words(self) -> int:
        """Words that were shown and are not in the final text at that place."""
        same = 0
        while same < min(len(self.shown), len(self.text)) and self.shown[same] == self.text[same]:
            same += 1
        return len(self.shown[same:].split())


def listen(asr: Listener, samples: Samples, delay_ms: int) -> Hearing:
    """One clip (16 kHz mono) through a session of its own.

    Raises:
        ConfigError: a delay that the model does not know.
    """
    hearing = Hearing(len(samples) / RATE)
    wall, cpu = time.perf_counter(), time.process_time()
    session = asr.stream(delay_ms=delay_ms)
    try:
        for start in range(0, len(samples), FRAME_SAMPLES):
            chunk = samples[start : start + FRAME_SAMPLES]
            began = time.perf_counter()
            session.feed(chunk)
            events = session.poll()
            spent = time.perf_counter() - began
            hearing.take(events, (start + len(chunk)) / RATE, spent)
            hearing.chunk_seconds.append(spent)
        began = time.perf_counter()
        transcript = session.finish()
        hearing.text, hearing.words = transcript.text, transcript.words
        hearing.finish_seconds = time.perf_counter() - began
        hearing.take(session.poll(), hearing.audio_seconds, hearing.finish_seconds)
    except FAILURES as error:
        hearing.failure = f"{type(error).__name__}: {error}"
        session.cancel()
    hearing.wall_seconds = time.perf_counter() - wall
    hearing.cpu_seconds = time.process_time() - cpu
    return hearing


def listen_many(batch: Slots[V], clips: Iterable[Samples], delay_ms: int) -> Iterator[tuple[int, Hearing]]:
    """All clips through the slots of a batch, in lockstep; (index, hearing) in the order in which they end.

    A clip's share of a step's time cannot be told, so times of computation stay 0; time the whole instead.
    """
    waiting = enumerate(clips)
    running: list[tuple[int, V, Samples, Hearing]] = []
    places: dict[int, int] = {}  # index of a clip -> samples fed
    while True:
        while batch.free:
            index, samples = next(waiting, (-1, None))
            if samples is None:
                break
            running.append((index, batch.open(delay_ms), samples, Hearing(len(samples) / RATE)))
            places[index] = 0
        if not running:
            return
        for index, voice, samples, hearing in running:
            fed = places[index]
            try:
                if fed < len(samples):
                    voice.push(samples[fed : fed + FRAME_SAMPLES])
                    places[index] = min(fed + FRAME_SAMPLES, len(samples))
                if places[index] == len(samples):
                    voice.finish()
            except FAILURES as error:
                hearing.failure = f"{type(error).__name__}: {error}"
        while batch.step():
            pass
        going: list[tuple[int, V, Samples, Hearing]] = []
        for entry in running:
            index, voice, _, hearing = entry
            if hearing.take(voice.poll(), places[index] / RATE, 0.0) or hearing.failure:
                batch.close(voice)
                yield index, hearing
            else:
                going.append(entry)
        running = going
