"""One realtime socket: frames to a dialect, its outputs to the engine and back to the socket.

One task reads, one writes (two writers would interleave), one tells the dialect the time. A full
input queue stops the reading, never drops; a reader that takes nothing for `send_deadline` is cut off.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Sequence

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from .dialects import Dialect
from .engine import Engine
from .events import CloseSocket, Event, Failed, Final, Output, Partial, Reply
from .seats import Seat
from .session import Session
from .settings import GatewaySettings
from .telemetry import LOGGER, Telemetry

_TICK = 0.25  # seconds; the dialects' limits are whole seconds
_PATIENCE = 5.0  # seconds that a client has to go on after we made it wait


class Connection:
    """Runs one accepted socket to its end."""

    def __init__(
        self,
        socket: WebSocket,
        dialect: Dialect,
        engine: Engine,
        seat: Seat,
        settings: GatewaySettings,
        telemetry: Telemetry,
    ) -> None:
        self._socket = socket
        self._dialect = dialect
        self._settings = settings
        self._telemetry = telemetry
        self._session = Session(engine, seat, self._report)
        self._outgoing: asyncio.Queue[Reply | CloseSocket] = asyncio.Queue(settings.output_messages)
        self._over = asyncio.Event()
        self._fault: Exception | None = None  # met outside the tasks
        self._close: CloseSocket | None = None  # the close we decided on
        self._quiet_until = 0.0  # until then a client's silence is our doing
        self._peer_code: int | None = None
        self._tokens = float(settings.messages_per_second)
        self._filled = 0.0
        self.messages_in = 0
        self.messages_out = 0

    async def run(self) -> None:
        """Serve until either side closes. Always leaves the engine."""
        began = time.monotonic()
        tasks: list[asyncio.Task[None]] = []
        try:
            self._act(self._dialect.start(time.monotonic(), time.time()))
            jobs = (self._read, self._write, self._keep_time, self._wait_for_end)
            tasks = [asyncio.create_task(job()) for job in jobs]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        except Exception as error:  # the outermost frame: this session ends, the others don't notice
            LOGGER.error("session failed", exc_info=error)
            await self._close_after_fault()
        finally:
            self._session.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._dialect.hang_up()
            self._log(time.monotonic() - began)

    def close(self) -> None:
        """Leave the engine without ever having run."""
        self._session.close()

    def drain(self) -> None:
        """The server shuts down: finish what was said, then close."""
        self._act(self._dialect.drain(time.monotonic()))

    # ---- tasks -------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            if self._session.waiting >= self._settings.input_seconds:
                self._quiet_until = math.inf
                await self._session.room(self._settings.input_seconds)
                self._quiet_until = time.monotonic() + _PATIENCE
            await self._pause_for_rate()
            try:
                message = await self._socket.receive()
            except RuntimeError:  # Starlette's answer to a receive after the disconnect
                return
            if message["type"] == "websocket.disconnect":
                self._peer_code = message.get("code")
                return
            self.messages_in += 1
            text, data = message.get("text"), message.get("bytes")
            frame = text if text is not None else data
            if frame is not None:
                self._act(self._dialect.receive(frame, time.monotonic()))
            # Frames that are there already don't suspend `receive`; everybody else gets a turn all the same.
            await asyncio.sleep(0)

    async def _write(self) -> None:
        while True:
            item = await self._outgoing.get()
            try:
                async with asyncio.timeout(self._settings.send_deadline):
                    if isinstance(item, CloseSocket):
                        await self._socket.close(item.code, item.reason[:120])
                        return
                    await self._socket.send_text(json.dumps(item.json, ensure_ascii=False, allow_nan=False))
                    self.messages_out += 1
            except TimeoutError:
                self._telemetry.add("rillvox_send_stalls_total")
                self._abort()
                return
            except (WebSocketDisconnect, RuntimeError):  # gone
                return

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            if now >= self._quiet_until:
                self._act(self._dialect.tick(now))

    async def _wait_for_end(self) -> None:
        await self._over.wait()
        if self._fault is not None:
            raise self._fault

    # ---- inside ------------------------------------------------------------------------------

    def _report(self, event: Event) -> None:
        if isinstance(event, Failed):
            self._telemetry.add("rillvox_streams_total", outcome="failed")
        elif isinstance(event, Final):
            self._telemetry.add("rillvox_streams_total", outcome="final")
        elif isinstance(event, Partial):
            self._telemetry.add("rillvox_partials_total")
        try:
            self._act(self._dialect.report(event, time.monotonic()))
        except Exception as error:  # called by the loop itself, which would only log it
            self._fault = error
            self._over.set()

    def _act(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Reply | CloseSocket):
                self._send(output)
            else:
                self._session.execute(output)

    def _send(self, output: Reply | CloseSocket) -> None:
        if self._close is not None:
            return
        if isinstance(output, CloseSocket):
            self._close = output
        elif output.json.get("type") == "error":
            self._telemetry.add("rillvox_protocol_errors_total", dialect=self._dialect.name)
        try:
            self._outgoing.put_nowait(output)
        except asyncio.QueueFull:
            self._telemetry.add("rillvox_send_stalls_total")
            self._abort()

    def _abort(self) -> None:
        """Cut off a peer that doesn't read: a close frame would wait for it for ever."""
        self._close = CloseSocket(1011, "stalled reader")
        transport = _transport(self._socket)
        if transport is not None:
            transport.abort()
        self._over.set()

    async def _close_after_fault(self) -> None:
        self._close = self._close or CloseSocket(1011, "internal error")
        try:
            async with asyncio.timeout(self._settings.send_deadline):
                await self._socket.close(1011, "internal error")
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            pass

    async def _pause_for_rate(self) -> None:
        """A token bucket of two seconds' messages; an empty one delays the reading."""
        rate = self._settings.messages_per_second
        now = time.monotonic()
        self._tokens = min(2.0 * rate, self._tokens + (now - self._filled) * rate)
        self._filled = now
        if self._tokens < 1:
            await asyncio.sleep((1 - self._tokens) / rate)
        self._tokens -= 1

    def _log(self, seconds: float) -> None:
        code = self._close.code if self._close else self._peer_code
        side = "server" if self._close else "client"
        self._telemetry.add("rillvox_ws_close_total", code=str(code), side=side)
        self._telemetry.add("rillvox_sessions_total", dialect=self._dialect.name)
        self._telemetry.add("rillvox_audio_seconds_total", self._session.audio_seconds, direction="in")
        LOGGER.info(
            "session ended",
            extra={
                "request_id": self._socket.scope.get("rillvox.request_id"),
                "caller": self._socket.scope.get("rillvox.caller"),
                "dialect": self._dialect.name,
                "seconds": round(seconds, 3),
                "audio_seconds": round(self._session.audio_seconds, 3),
                "messages_in": self.messages_in,
                "messages_out": self.messages_out,
                "close_code": code,
                "closed_by": side,
            },
        )


def _transport(socket: WebSocket) -> asyncio.Transport | None:
    """The socket's transport, if the server shows it (`serve.py` does)."""
    if socket.client_state is WebSocketState.DISCONNECTED:
        return None
    find = socket.scope.get("rillvox.transport")
    transport = find() if callable(find) else None
    return transport if isinstance(transport, asyncio.Transport) else None
