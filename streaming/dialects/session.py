"""What all realtime sessions over JSON text frames share: states, refusals, limits, ends.

A session is LIVE from `start` on. When it must end (cap reached, idle, server draining) it is
ENDING: deaf, while utterances already heard get their text; then it is CLOSED, and mute.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum, auto

from ..events import CloseSocket, CloseStream, Command, Event, Failed, Final, Output, Reply
from .limits import Limits, Verdict, Watch
from .message import JsonObject, MessageError, message_type, parse


class State(Enum):
    """Where a session stands."""

    NEW = auto()
    LIVE = auto()
    ENDING = auto()
    CLOSED = auto()


@dataclass(frozen=True)
class _End:
    error: Reply | None
    close: CloseSocket
    deadline: float


class RealtimeSession(ABC):
    """The frame of a dialect machine; a subclass knows its messages."""

    def __init__(self, limits: Limits) -> None:
        self.state = State.NEW
        self.limits = limits
        self._watch = Watch(limits)
        self._ending: _End | None = None

    # ---- what a dialect fills in ---------------------------------------------------------

    @abstractmethod
    def _opening(self, unix: float) -> list[Output]:
        """The first messages."""

    @abstractmethod
    def _handle(self, kind: str, message: JsonObject, now: float) -> list[Output]:
        """Answer one well-formed message. Raises MessageError."""

    @abstractmethod
    def _error(
        self, code: str, text: str, param: str | None = None, cause: JsonObject | None = None
    ) -> Reply:
        """An error in the dialect's shape; `cause` is the message it answers."""

    @abstractmethod
    def _translate(self, event: Event) -> list[Output]:
        """Answer an event of the engine; nothing if its stream is not known (any more)."""

    @abstractmethod
    def _busy(self) -> bool:
        """Whether text is still owed for something the client has finished."""

    @abstractmethod
    def _finish(self) -> list[Output]:
        """End the running utterance as if the client had."""

    @abstractmethod
    def _give_up(self, code: str, text: str) -> list[Output]:
        """Answer everything that is owed with a failure, and owe nothing."""

    @abstractmethod
    def _live_streams(self) -> list[str]:
        """Streams that the engine still knows."""

    # ---- the Dialect protocol ------------------------------------------------------------

    def start(self, now: float, unix: float) -> list[Output]:
        """Open the session; `unix` is the wall clock in seconds."""
        self.state = State.LIVE
        self._watch.start(now)
        return self._opening(unix)

    def receive(self, message: str | bytes, now: float) -> list[Output]:
        """Answer one frame."""
        if self.state is not State.LIVE:
            return []
        if isinstance(message, bytes):
            return self._close(CloseSocket(1003, "this protocol has no binary messages"))
        value: JsonObject | None = None
        try:
            value = parse(message, self.limits.message_chars)
            return self._handle(message_type(value), value, now)
        except MessageError as refusal:
            reply = self._error(refusal.code, str(refusal), refusal.param, value)
            if self._watch.mistake(now):
                return [reply, *self._close(CloseSocket(1008, "too many invalid messages"))]
            return [reply]

    def report(self, event: Event, now: float) -> list[Output]:
        """Translate one event of the engine."""
        if self.state not in (State.LIVE, State.ENDING):
            return []
        if isinstance(event, Final | Failed):
            self._watch.answered(now)
        outputs = self._translate(event)
        return [*outputs, *self._end_if_settled()]

    def tick(self, now: float) -> list[Output]:
        """Enforce the limits of time."""
        if self.state is State.ENDING and self._ending is not None and now >= self._ending.deadline:
            return [*self._give_up("timeout", "the text did not come in time"), *self._end_if_settled()]
        if self.state is not State.LIVE:
            return []
        limits = self.limits
        match self._watch.verdict(now, self._busy()):
            case Verdict.FINE:
                return []
            case Verdict.NO_AUDIO:
                error = self._error(
                    "idle_timeout", f"no audio came in the first {limits.first_audio:g} seconds"
                )
                return self._end(now, error, CloseSocket(1008, "no audio"))
            case Verdict.IDLE:
                error = self._error("idle_timeout", f"no audio came for {limits.idle:g} seconds")
                return self._end(now, error, CloseSocket(1008, "idle"))
            case Verdict.EXPIRED:
                error = self._error(
                    "session_expired", f"a session lasts {limits.session:g} seconds; open a new one"
                )
                return self._end(now, error, CloseSocket(1000, "session expired"))

    def drain(self, now: float) -> list[Output]:
        """Finish what was said, then close with 1012."""
        if self.state is not State.LIVE:
            return []
        return self._end(now, None, CloseSocket(1012, "server restarts"))

    def hang_up(self) -> list[Command]:
        """Name the streams that nobody listens to any more."""
        streams = self._live_streams()
        self.state = State.CLOSED
        return [CloseStream(stream) for stream in streams]

    # ---- ends ----------------------------------------------------------------------------

    def _end(self, now: float, error: Reply | None, close: CloseSocket) -> list[Output]:
        self.state = State.ENDING
        self._ending = _End(error, close, now + self.limits.grace)
        return [*self._finish(), *self._end_if_settled()]

    def _end_if_settled(self) -> list[Output]:
        """Close an ENDING session once nothing is owed."""
        if self.state is not State.ENDING or self._ending is None or self._busy():
            return []
        last: list[Output] = [] if self._ending.error is None else [self._ending.error]
        return [*last, *self._close(self._ending.close)]

    def _close(self, close: CloseSocket) -> list[Output]:
        self.state = State.CLOSED
        return [close]
