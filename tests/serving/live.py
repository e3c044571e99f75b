"""A real server on a free port, in a thread: uvicorn, sockets, the engine, and any listener.

Deadlines are generous: a test that waits for something good must not fail on a busy machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from rillvox.streaming.engine import Engine
from rillvox.streaming.gateway import Gateway
from rillvox.streaming.listener import Listener
from rillvox.streaming.seats import Kind, Seats
from rillvox.streaming.serve import Server, listen, make_server
from rillvox.streaming.settings import GatewaySettings


class Live:
    """A running server and its addresses."""

    def __init__(self, gateway: Gateway, server: Server, port: int) -> None:
        self.gateway = gateway
        self.engine = gateway.engine
        self.server = server
        self.port = port
        self.http = f"http://127.0.0.1:{port}"
        self.ws = f"ws://127.0.0.1:{port}"

    def realtime(self, **query: str) -> connect:
        """A client of `/v1/realtime`, to be entered."""
        return connect(f"{self.ws}/v1/realtime?{urlencode(query)}", max_size=2**24, proxy=None)

    def idle(self) -> bool:
        """Whether everybody has left."""
        seats = self.engine.seats
        return not (
            self.engine.open_streams
            or seats.in_use(Kind.REALTIME)
            or seats.in_use(Kind.FILE)
            or self.gateway.connections
            or self.gateway.requests
        )

    def wait_idle(self, seconds: float = 30.0) -> None:
        """Wait until everybody has left."""
        deadline = time.monotonic() + seconds
        while not self.idle():
            assert time.monotonic() < deadline, "somebody never left"
            time.sleep(0.01)


@contextlib.contextmanager
def serving(make_listener: Callable[[], Listener], **settings: Any) -> Iterator[Live]:
    """Serve until the block ends; checks that every slot is free again."""
    options = {"port": 0, "slots": 4, "file_slots": 1, "drain_seconds": 5.0, **settings}
    known = {field.name for field in dataclasses.fields(GatewaySettings)}
    chosen = GatewaySettings(**{name: value for name, value in options.items() if name in known})
    listener = listen(chosen)
    seats = Seats(chosen.slots, chosen.file_slots, chosen.file_queue)
    # Tests run on busy machines: whether one more fits is tested apart.
    engine = Engine(make_listener, seats, load=1e9, warm_seconds=0)
    gateway = Gateway(engine, chosen)
    server = make_server(gateway)
    engine.start()
    assert engine.wait_ready(60), engine.failure
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    live = Live(gateway, server, listener.getsockname()[1])
    try:
        yield live
        if thread.is_alive():
            live.wait_idle()
    finally:
        server.should_exit = True
        thread.join(10)
        engine.stop()
    assert not thread.is_alive()


async def say(socket: ClientConnection, **message: Any) -> None:
    """Send one JSON message."""
    await socket.send(json.dumps(message))


async def hear(socket: ClientConnection, seconds: float = 60.0) -> dict[str, Any]:
    """The next JSON message."""
    async with asyncio.timeout(seconds):
        return json.loads(await socket.recv())


async def hear_until(socket: ClientConnection, kind: str, seconds: float = 120.0) -> list[dict[str, Any]]:
    """All messages up to and including the first of a type that ends with `kind`."""
    messages: list[dict[str, Any]] = []
    async with asyncio.timeout(seconds):
        while True:
            messages.append(json.loads(await socket.recv()))
            if messages[-1]["type"].endswith(kind):
                return messages


async def hear_the_end(socket: ClientConnection, seconds: float = 60.0) -> None:
    """Read until the server has closed."""
    async with asyncio.timeout(seconds):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()
