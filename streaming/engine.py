"""Many sessions, one model: a thread that owns the listener and runs batched steps for all of them.

Orders come in through a queue without a lock held across a step; events go back to each session's event loop
by `call_soon_threadsafe`, all of a step in one call. Unusual:
- a stream whose own logic fails ends alone, with `Failed`; a step that fails ends everybody, fatally;
- audio of uploads waits here and is handed out a block at a time, only when no session has a block to hear;
- the thread measures its steps while warming up and ever after, and `admit` refuses what would not keep pace.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ..errors import ConfigError, RillvoxError
from .admission import StepMeter
from .events import (
    CloseStream,
    Command,
    Configure,
    Event,
    Failed,
    Final,
    Finish,
    Flush,
    OpenStream,
    PushAudio,
)
from .listener import Listener, Samples, Utterance
from .seats import Kind, NoRoomError, Seat, Seats
from .telemetry import LOGGER

RATE = 16_000
Deliver = Callable[["Stream", list[Event]], None]


class Health(Enum):
    """Where an engine stands."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


class EngineError(RillvoxError):
    """The engine, or one stream in it, met a fault of its own; the log says which."""


@dataclass(eq=False)
class Stream:
    """One utterance on its way through the engine.

    Its session counts `pushed`, the engine's thread `heard`; both are seconds of audio.
    """

    seat: Seat
    generation: int
    order: OpenStream
    deliver: Deliver  # called on the engine's thread; must only hand over
    pushed: float = 0.0
    heard: float = 0.0
    utterance: Utterance | None = None
    held: deque[Samples] = field(default_factory=deque[Samples])  # an upload's audio, not fed yet
    fed: float = 0.0
    ended: bool = False

    @property
    def stale(self) -> bool:
        """Whether nobody wants to hear of it any more."""
        return self.seat.generation != self.generation


class Engine:
    """Owns a listener; see the module. `make_listener` runs on the engine's thread."""

    def __init__(
        self,
        make_listener: Callable[[], Listener],
        seats: Seats,
        *,
        load: float = 0.7,
        warm_seconds: float = 2.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.seats = seats
        self.meter = StepMeter(load)
        self.health = Health.LOADING
        self.failure: BaseException | None = None
        self._make_listener = make_listener
        self._listener: Listener | None = None
        self._warm_seconds = warm_seconds
        self._clock = clock
        self._block = 0.08
        self._orders: deque[tuple[Stream, Command]] = deque()
        self._streams: list[Stream] = []  # the engine's thread only
        self._wake = threading.Event()
        self._settled = threading.Event()  # no longer LOADING
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="rillvox-engine", daemon=True)

    # ---- for the event loop ----------------------------------------------------------------

    def start(self) -> None:
        """Begin loading; `wait_ready` tells when it is done."""
        self._thread.start()

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Block until the engine is ready (true) or has failed (false)."""
        self._settled.wait(timeout)
        return self.health is Health.READY

    def stop(self, timeout: float = 10.0) -> None:
        """End the thread after its current step; streams still open fail."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def admit(self) -> Seat:
        """A seat for one more realtime session.

        Raises:
            NoRoomError: not ready, no seat, or the measured step time leaves no room.
        """
        if self.health is not Health.READY:
            raise NoRoomError(f"the engine is {self.health.value}", self.health.value, self.seats.retry_after)
        sessions = self.seats.in_use(Kind.REALTIME)
        if sessions and not self.meter.fits(sessions + 1, self._block):
            share = self.meter.share(sessions + 1, self._block)
            raise NoRoomError(
                f"one more session would take {share:.0%} of this server's time",
                "load",
                self.seats.retry_after,
            )
        return self.seats.take()

    def post(self, stream: Stream, command: Command) -> None:
        """Hand over a command for a stream; audio is at 16 kHz. From any thread."""
        self._orders.append((stream, command))
        self._wake.set()
        # Asked after the append: a thread that dies in between may or may not have seen the order, and to
        # hear of one failure twice is harmless.
        if self.health in (Health.FAILED, Health.STOPPED) and isinstance(command, OpenStream):
            stream.deliver(stream, [Failed(stream.order.stream, self._fault(), fatal=True)])

    @property
    def open_streams(self) -> int:
        """Streams that hold a lane, for tests and metrics."""
        return len(self._streams)

    # ---- the engine's thread ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            listener = self._listener = self._make_listener()
            self._block = listener.block_seconds
            self._warm_up(listener)
            self.health = Health.READY
            self._settled.set()
            while not self._stopping:
                self._wake.clear()
                self._take_orders(listener)
                if not self._tick(listener):
                    self._wake.wait()
            self.health = Health.STOPPED
        except BaseException as error:  # the outermost frame: whatever it was, sessions must hear of it
            self.failure = error
            self.health = Health.FAILED
            # What rillvox refuses on purpose (no such model) needs no traceback.
            known = isinstance(error, RillvoxError)
            LOGGER.critical("engine died", exc_info=None if known else error, extra={"reason": str(error)})
        self._settled.set()
        self._fail_all()

    def _take_orders(self, listener: Listener) -> None:
        while self._orders:
            stream, command = self._orders.popleft()
            if isinstance(command, CloseStream):
                self._close(listener, stream)
            elif not stream.stale:
                self._guard(listener, stream, lambda s=stream, c=command: self._obey(listener, s, c))

    def _obey(self, listener: Listener, stream: Stream, command: Command) -> None:
        if isinstance(command, OpenStream):
            self._streams.append(stream)
            stream.utterance = listener.open(command)
            return
        if stream.utterance is None:  # it failed; its session will hear of it
            return
        match command:
            case PushAudio(samples=samples) if stream.seat.kind is Kind.FILE:
                stream.held.append(samples)
            case PushAudio(samples=samples):
                stream.utterance.feed(samples)
                stream.fed += len(samples) / RATE
            case Finish() if stream.held:
                stream.ended = True
            case Finish():
                stream.utterance.finish()
            case Flush(id=flush_id):
                stream.utterance.flush(flush_id)
            case Configure(delay_ms=delay_ms, turns=turns):
                stream.utterance.configure(delay_ms, turns)
            case _:
                raise ConfigError(f"{type(command).__name__} is no command for a stream")

    def _tick(self, listener: Listener) -> bool:
        """One step and its events; false when there was nothing to do."""
        for stream in [one for one in self._streams if one.stale]:
            self._close(listener, stream)
        start = self._clock()

        def report() -> None:
            for stream in list(self._streams):
                self._guard(listener, stream, lambda s=stream: self._report(listener, s))

        heard = listener.step(report)
        if heard > 0:
            self.meter.add(self._clock() - start, heard)
        report()
        if heard > 0:
            return True
        fed = [self._feed_file(listener, stream) for stream in self._streams if stream.held]
        return any(fed)

    def _feed_file(self, listener: Listener, stream: Stream) -> bool:
        """Hand out an upload's next block. Smaller pieces would wait for a step as long."""
        want = max(1, round(self._block * RATE))
        parts: list[Samples] = []
        while want > 0 and stream.held:
            part = stream.held.popleft()
            if len(part) > want:
                stream.held.appendleft(part[want:])
                part = part[:want]
            parts.append(part)
            want -= len(part)
        block = np.concatenate(parts)

        def feed() -> None:
            if stream.utterance is not None:
                stream.utterance.feed(block)
                stream.fed += len(block) / RATE
                if stream.ended and not stream.held:
                    stream.utterance.finish()

        self._guard(listener, stream, feed)
        return True

    def _report(self, listener: Listener, stream: Stream) -> None:
        if stream.utterance is None:
            return
        events = stream.utterance.take_events()
        stream.heard = stream.fed - stream.utterance.waiting
        if events:
            stream.deliver(stream, events)
        if any(isinstance(event, Final | Failed) for event in events):
            self._close(listener, stream)

    def _guard(self, listener: Listener, stream: Stream, act: Callable[[], None]) -> None:
        """Run a stream's own logic; if it fails, the stream ends and nobody else notices."""
        try:
            act()
        except Exception as error:
            known = isinstance(error, RillvoxError)
            if not known:
                LOGGER.error("stream failed", exc_info=error)
            fault = error if known else EngineError("the transcription failed inside the server")
            stream.deliver(stream, [Failed(stream.order.stream, fault)])
            self._close(listener, stream)

    def _close(self, listener: Listener, stream: Stream) -> None:
        stream.held.clear()
        stream.heard = stream.pushed
        utterance, stream.utterance = stream.utterance, None
        if utterance is not None:
            listener.close(utterance)
        if stream in self._streams:
            self._streams.remove(stream)

    def _warm_up(self, listener: Listener) -> None:
        """Touch every lane, and time steps with one lane and with all of them."""
        if self._warm_seconds <= 0:
            return
        noise = np.random.default_rng(0).standard_normal(round(self._warm_seconds * RATE))
        samples = (noise * 0.01).astype(np.float32)
        for lanes in (1, 1, self.seats.realtime + self.seats.files):
            utterances = [listener.open(OpenStream(f"warm-up {lane}")) for lane in range(lanes)]
            for utterance in utterances:
                utterance.feed(samples)
            first = True
            while True:
                start = self._clock()
                heard = listener.step()
                if heard <= 0:
                    break
                if not first:  # the first step of all allocates
                    self.meter.add(self._clock() - start, heard)
                first = False
            for utterance in utterances:
                listener.close(utterance)

    def _fault(self) -> EngineError:
        return EngineError("the engine has stopped; try again on another server")

    def _fail_all(self) -> None:
        streams = dict.fromkeys(self._streams)
        while self._orders:
            stream, command = self._orders.popleft()
            if isinstance(command, OpenStream):
                streams[stream] = None
        self._streams.clear()
        for stream in streams:
            if not stream.stale:
                stream.deliver(stream, [Failed(stream.order.stream, self._fault(), fatal=True)])
