"""Wire protocols as pure state machines: no sockets, no clocks, no tasks.

Whoever owns the socket drives a `Dialect` like this:

    dialect = choose(handshake, ...)                 # before the upgrade is accepted
    act(dialect.start(now, unix))                    # the server speaks first
    on a text or binary frame:  act(dialect.receive(frame, now))
    on an event of the engine:  act(dialect.report(event, now))
    every second or so:         act(dialect.tick(now))
    on SIGTERM:                 act(dialect.drain(now))
    when the socket is gone:    act(dialect.hang_up())

`act` goes through the outputs in order: a `Reply` is written to the socket, `CloseSocket`
closes it after them, every other command goes to the engine. `now` is any clock that never
runs backwards, in seconds; `unix` is the wall clock, asked for once. Events of streams that a
dialect doesn't know, or knows no more, are ignored. After `CloseSocket` a dialect says
nothing, so `hang_up` may be called always; it names the streams still to be closed.
"""

from __future__ import annotations

from typing import Protocol

from ..events import Command, Event, Output


class Dialect(Protocol):
    """One client's session in one wire protocol."""

    @property
    def name(self) -> str:
        """The protocol spoken, for logs and metrics: "openai", "vllm", ..."""
        ...

    def start(self, now: float, unix: float) -> list[Output]:
        """The messages that open the session. Called once, first."""
        ...

    def receive(self, message: str | bytes, now: float) -> list[Output]:
        """Answer one frame: `str` for text, `bytes` for binary. Never raises."""
        ...

    def report(self, event: Event, now: float) -> list[Output]:
        """Translate one event of the engine."""
        ...

    def tick(self, now: float) -> list[Output]:
        """Enforce the limits that depend on time."""
        ...

    def drain(self, now: float) -> list[Output]:
        """Take no more audio, finish what was said, then close with 1012."""
        ...

    def hang_up(self) -> list[Command]:
        """The client is gone: the streams to close."""
        ...
