"""A fixed number of seats, and generations that make late messages harmless.

A realtime session holds one seat from its handshake to its end, an upload from its turn to its answer. A
seat serves one stream at a time; every stream gets the seat's next generation, and whatever carries an older
one is dropped. Seats are taken and given back on the event loop only; other threads just read generations.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from ..errors import CapacityError


class Kind(Enum):
    """What a seat is for. Files yield to sessions."""

    REALTIME = "realtime"
    FILE = "file"


class NoRoomError(CapacityError):
    """No seat now. `code`: why, for metrics and clients; `retry_after`: seconds."""

    def __init__(self, message: str, code: str, retry_after: int) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


@dataclass
class Seat:
    """One place in the engine."""

    kind: Kind
    index: int
    generation: int = 0

    def advance(self) -> int:
        """Make everything that was said about this seat so far stale; the new generation."""
        self.generation += 1
        return self.generation


@dataclass
class Seats:
    """All seats of an engine."""

    realtime: int
    files: int
    file_queue: int = 16
    retry_after: int = 5
    _free: dict[Kind, deque[Seat]] = field(init=False)
    _waiting: deque[asyncio.Future[Seat]] = field(init=False, default_factory=deque[asyncio.Future[Seat]])

    def __post_init__(self) -> None:
        seats = [Seat(Kind.REALTIME, index) for index in range(self.realtime)]
        files = [Seat(Kind.FILE, self.realtime + index) for index in range(self.files)]
        self._free = {Kind.REALTIME: deque(seats), Kind.FILE: deque(files)}

    def in_use(self, kind: Kind) -> int:
        """Seats taken."""
        return (self.realtime if kind is Kind.REALTIME else self.files) - len(self._free[kind])

    def take(self) -> Seat:
        """A seat for a realtime session, at once.

        Raises:
            NoRoomError: all are taken.
        """
        free = self._free[Kind.REALTIME]
        if not free:
            raise NoRoomError(
                f"all {self.realtime} realtime sessions of this server are in use", "slots", self.retry_after
            )
        return free.popleft()

    async def wait_for_file(self) -> Seat:
        """A seat for an upload, when its turn has come.

        Raises:
            NoRoomError: too many wait already.
        """
        if self._free[Kind.FILE]:
            return self._free[Kind.FILE].popleft()
        if len(self._waiting) >= self.file_queue:
            raise NoRoomError(f"{self.file_queue} uploads wait already", "file_queue", self.retry_after)
        turn: asyncio.Future[Seat] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(turn.result())  # it came in the moment of the cancellation
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def give_back(self, seat: Seat) -> None:
        """Free a seat; what still comes for it is stale."""
        seat.advance()
        if seat.kind is Kind.FILE:
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_result(seat)
                    return
        self._free[seat.kind].append(seat)
