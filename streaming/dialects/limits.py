"""Limits of one session that a dialect keeps itself, and their bookkeeping.

Rates of messages, queues and uploads are the gateway's to limit, by not reading the socket.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from ...errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Seconds, bytes and counts after which a dialect acts."""

    append_bytes: int = 1 << 20  # decoded audio in one message
    message_chars: int = 2 << 20  # a whole message; base64 of `append_bytes` is 1.4 million
    mistakes: int = 20  # refused messages ...
    mistakes_within: float = 10.0  # ... in so many seconds close the socket
    first_audio: float = 30.0  # without any audio at all
    idle: float = 60.0  # without further audio
    session: float = 3600.0  # from the first message to the last
    grace: float = 15.0  # for the last texts when the session is over
    unanswered: int = 32  # finished utterances whose text is still to come

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"limits.{name} must be positive, got {value}")


class Verdict(Enum):
    """What time has brought about."""

    FINE = auto()
    NO_AUDIO = auto()
    IDLE = auto()
    EXPIRED = auto()


class Watch:
    """When a session began, when it last heard audio, how often it was wrong."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._opened = 0.0
        self._heard = 0.0
        self._any_audio = False
        self._mistakes: deque[float] = deque(maxlen=limits.mistakes)

    def start(self, now: float) -> None:
        """The session begins."""
        self._opened = self._heard = now

    def audio(self, now: float) -> None:
        """Audio came in."""
        self._heard, self._any_audio = now, True

    def answered(self, now: float) -> None:
        """The client got something: the time it waited for us is not held against it."""
        self._heard = max(self._heard, now)

    def mistake(self, now: float) -> bool:
        """Count a refused message; true when it was one too many."""
        self._mistakes.append(now)
        full = len(self._mistakes) == self.limits.mistakes
        return full and now - self._mistakes[0] <= self.limits.mistakes_within

    def verdict(self, now: float, busy: bool) -> Verdict:
        """Judge the time. `busy`: the client waits for us, so its silence is no idleness."""
        if now - self._opened >= self.limits.session:
            return Verdict.EXPIRED
        if busy:
            return Verdict.FINE
        if not self._any_audio:
            return Verdict.NO_AUDIO if now - self._heard >= self.limits.first_audio else Verdict.FINE
        return Verdict.IDLE if now - self._heard >= self.limits.idle else Verdict.FINE
