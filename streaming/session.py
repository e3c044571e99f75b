"""One client's streams in the engine, seen from the event loop.

A session has one seat, so its streams run one after the other: while one still finishes, what is ordered for
the next waits here. Audio is brought to 16 kHz by one resampler a stream, which does not care how it is cut.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..audio import StreamResampler
from .engine import RATE, Engine, Stream
from .events import (
    CloseSocket,
    CloseStream,
    Command,
    Event,
    Failed,
    Final,
    Finish,
    Flush,
    OpenStream,
    PushAudio,
)
from .listener import Samples
from .seats import Seat

_POLL = 0.02  # seconds between looks at a full queue; a look costs microseconds


@dataclass(eq=False)
class _Turn:
    """A stream and what is ordered for it; `orders` is kept until the stream has the seat."""

    stream: Stream
    orders: deque[Command] = field(default_factory=deque[Command])
    resampler: StreamResampler | None = None
    rate: int = RATE
    running: bool = False


class Session:
    """Executes a dialect's commands and reports the engine's events. Used on one event loop."""

    def __init__(self, engine: Engine, seat: Seat, report: Callable[[Event], None]) -> None:
        self._engine = engine
        self._seat: Seat | None = seat
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._turns: deque[_Turn] = deque()  # the first one has the seat
        self.audio_seconds = 0.0

    # ---- commands ------------------------------------------------------------------------

    def execute(self, command: Command) -> None:
        """Carry out one command; commands for unknown streams are ignored."""
        match command:
            case OpenStream():
                self._open(command)
            case CloseStream(stream=stream):
                self._close(stream)
            case PushAudio():
                self._push(command)
            case Finish() | Flush():
                self._drain_resampler(command)
            case CloseSocket():
                raise TypeError("CloseSocket is for the connection, not for the engine")
            case _:
                turn = self._find(command.stream)
                if turn is not None:
                    self._order(turn, command)

    @property
    def waiting(self) -> float:
        """Seconds of audio taken from the client that the model has not heard."""
        return sum(max(0.0, turn.stream.pushed - turn.stream.heard) for turn in self._turns)

    async def room(self, seconds: float) -> None:
        """Wait until less than `seconds` of audio wait."""
        while self.waiting >= seconds and self._seat is not None:
            await asyncio.sleep(_POLL)

    def close(self) -> None:
        """Leave the engine and give the seat back. Nothing is reported any more. Twice is once."""
        if self._seat is None:
            return
        for turn in self._turns:
            if turn.running:
                self._engine.post(turn.stream, CloseStream(turn.stream.order.stream))
        self._turns.clear()
        self._engine.seats.give_back(self._seat)
        self._seat = None

    # ---- inside --------------------------------------------------------------------------

    def _find(self, stream: str) -> _Turn | None:
        return next((turn for turn in self._turns if turn.stream.order.stream == stream), None)

    def _open(self, command: OpenStream) -> None:
        if self._seat is None or self._find(command.stream) is not None:
            return
        self._turns.append(_Turn(Stream(self._seat, -1, command, self._deliver)))
        self._advance()

    def _advance(self) -> None:
        """Give the seat to the first stream that waits."""
        if not self._turns or self._turns[0].running or self._seat is None:
            return
        turn = self._turns[0]
        turn.running = True
        turn.stream.generation = self._seat.advance()
        self._engine.post(turn.stream, turn.stream.order)
        while turn.orders:
            self._engine.post(turn.stream, turn.orders.popleft())

    def _order(self, turn: _Turn, command: Command) -> None:
        if turn.running:
            self._engine.post(turn.stream, command)
        else:
            turn.orders.append(command)

    def _push(self, command: PushAudio) -> None:
        turn = self._find(command.stream)
        if turn is None:
            return
        self.audio_seconds += len(command.samples) / command.rate
        if turn.resampler is None or turn.rate != command.rate:
            self._feed(turn, turn.resampler.finish() if turn.resampler else command.samples[:0])
            turn.resampler, turn.rate = StreamResampler(command.rate, RATE), command.rate
        self._feed(turn, turn.resampler.push(command.samples))

    def _feed(self, turn: _Turn, samples: Samples) -> None:
        if len(samples) == 0:
            return
        # A dialect's samples may be a view of a message; the engine keeps them longer.
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        turn.stream.pushed += len(samples) / RATE
        self._order(turn, PushAudio(turn.stream.order.stream, samples, RATE))

    def _drain_resampler(self, command: Finish | Flush) -> None:
        turn = self._find(command.stream)
        if turn is None:
            return
        if isinstance(command, Finish) and turn.resampler is not None:
            self._feed(turn, turn.resampler.finish())
        self._order(turn, command)

    def _close(self, stream: str) -> None:
        turn = self._find(stream)
        if turn is None:
            return
        self._turns.remove(turn)
        if turn.running:
            turn.stream.generation = -1  # stale from this moment
            self._engine.post(turn.stream, CloseStream(stream))
            self._advance()

    def _deliver(self, stream: Stream, events: list[Event]) -> None:
        """Called on the engine's thread."""
        try:
            self._loop.call_soon_threadsafe(self._receive, stream, events)
        except RuntimeError:  # the loop is closed: nobody listens
            stream.generation = -1

    def _receive(self, stream: Stream, events: list[Event]) -> None:
        for event in events:
            if stream.stale or self._seat is None:
                return
            over = isinstance(event, Final | Failed)
            if over and self._turns and self._turns[0].stream is stream:
                self._turns.popleft()
                stream.generation = -1
            self._report(event)
            if over:
                self._advance()
