"""`rillvox serve`: the gateway behind a listening socket of its own, until it is told to stop.

Measured on uvicorn 0.54 with a client that never reads: default sockets take 58 s of speech before a send
blocks, and keep the connection for ever, pings or not. Hence the socket options here and the transport in the
scope, by which a stalled connection can be cut off.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from asyncio import BaseTransport
from collections.abc import Callable
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from ..errors import ConfigError, RillvoxError
from .engine import Engine
from .gateway import Gateway
from .listener import Listener
from .seats import Seats
from .settings import GatewaySettings
from .telemetry import log_to


class SocketProtocol(WebSocketsSansIOProtocol):
    """Shows the app the transport: only aborting it frees a connection whose peer doesn't read."""

    def handle_connect(self, event: Request) -> None:
        """Take the handshake."""
        super().handle_connect(event)
        if hasattr(self, "scope"):  # a bad handshake has none
            self.scope["rillvox.transport"] = lambda: self.transport  # type: ignore[typeddict-unknown-key]


class RequestProtocol(HttpToolsProtocol):
    """Gives a request head so many seconds; uvicorn itself waits for ever."""

    head_deadline = 10.0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:  # type: ignore[override]
        """A connection."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Its end."""
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if self._head_timer is None:
            self._arm()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._disarm()
        super().on_headers_complete()

    def _arm(self) -> None:
        self._head_timer = self.loop.call_later(self.head_deadline, self._give_up)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()


class Server(uvicorn.Server):
    """Drains at the first signal, stops at the second; ends with exit code 0 either way."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drain: asyncio.Task[None] | None = None
        self._signals = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remember the loop for signals."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """SIGTERM or SIGINT. Not passed on to uvicorn, which would die of the signal in the end."""
        self._signals += 1
        if self._signals > 1 or self._loop is None:
            self.force_exit = self._signals > 1
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self.begin_drain)

    def begin_drain(self) -> None:
        """Drain, then stop. On the loop."""
        if self._drain is None:
            self._drain = asyncio.ensure_future(self._drain_and_stop())

    async def _drain_and_stop(self) -> None:
        try:
            await self._gateway.drain()
        finally:
            self.should_exit = True


def listen(settings: GatewaySettings) -> socket.socket:
    """The listening socket; connections inherit its options.

    Raises:
        ConfigError: the address can't be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.send_buffer_bytes)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            listener.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.user_timeout * 1000)
            )
        listener.bind((settings.host.strip("[]"), settings.port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    return listener


def make_server(gateway: Gateway) -> Server:
    """A uvicorn server for a gateway; run it with `sockets=[listen(settings)]`."""
    settings = gateway.settings
    config = uvicorn.Config(
        gateway.asgi,
        http=type("_Requests", (RequestProtocol,), {"head_deadline": settings.head_deadline}),
        ws=SocketProtocol,
        ws_per_message_deflate=False,
        ws_max_size=settings.ws_max_bytes,
        ws_ping_interval=20,
        # A pong waits behind audio that backpressure keeps unread, so its lateness proves nothing. Dead
        # peers are found by TCP_USER_TIMEOUT, silent ones by the dialects' idle limits.
        ws_ping_timeout=None,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,  # the drain is over by then
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        h11_max_incomplete_event_size=16384,
    )
    return Server(config, gateway)


def serve(settings: GatewaySettings, make_listener: Callable[[], Listener]) -> None:
    """Serve until a signal comes.

    Raises:
        ConfigError: the address can't be had.
        RillvoxError: the model can't be loaded.
    """
    listener = listen(settings)
    seats = Seats(settings.slots, settings.file_slots, settings.file_queue, settings.retry_after)
    engine = Engine(make_listener, seats, load=settings.load)
    gateway = Gateway(engine, settings)
    server = make_server(gateway)
    port: int = listener.getsockname()[1]

    def announce() -> None:
        if engine.wait_ready():
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            print(  # noqa: T201
                f"rillvox serves {settings.model} at http://{host}:{port}/v1, {settings.slots} sessions",
                file=sys.stderr,
                flush=True,
            )
        elif engine.failure is not None:
            server.should_exit = True

    print(f"rillvox loads {settings.model}", file=sys.stderr, flush=True)  # noqa: T201
    engine.start()
    threading.Thread(target=announce, name="rillvox-announce", daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        engine.stop()
    if isinstance(engine.failure, RillvoxError):
        raise engine.failure
    if engine.failure is not None:
        raise RillvoxError(f"the engine died: {engine.failure}") from engine.failure


def main_serve(
    model: str = "asr-en",
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    slots: int = 8,
    delay_ms: int = 480,
    threads: int = 1,
    api_keys: tuple[str, ...] = (),
    allow_origins: tuple[str, ...] = (),
    default_dialect: str = "openai",
    drain_seconds: float = 60.0,
    load: float = 0.7,
) -> None:
    """Load a model by name or folder and serve it; the body of `rillvox serve`.

    Raises:
        RillvoxError: a setting, the address or the model is wrong.
    """
    from .hearing import load_listener

    settings = GatewaySettings(
        host=host,
        port=port,
        model=model.rstrip("/").rsplit("/", 1)[-1],
        slots=slots,
        delay_ms=delay_ms,
        threads=threads,
        api_keys=api_keys,
        allow_origins=allow_origins,
        default_dialect="vllm" if default_dialect == "vllm" else "openai",
        drain_seconds=drain_seconds,
        load=load,
    )
    log_to()
    serve(settings, lambda: load_listener(model, settings))
