"""The app: sockets and uploads to dialects to the engine, and back.

It owns no thread and no model; `serve.py` puts it behind a listening socket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..errors import RillvoxError
from .dialects.choose import Handshake, Service, choose
from .dialects.http_errors import not_found, upgrade_required
from .dialects.names import ModelNames
from .engine import Engine, Health
from .front import Front
from .guard import Guard
from .refusals import install, refusal
from .seats import Kind, NoRoomError
from .settings import GatewaySettings
from .sockets import Connection
from .telemetry import LOGGER, Telemetry
from .transcriptions import Transcriptions

ENDPOINTS = {
    "/v1/realtime": "websocket: live transcription for OpenAI and vLLM clients",
    "/v1/audio/transcriptions": "POST: the text of a file",
    "/v1/models": "GET: the models served",
    "/readyz": "GET: whether new sessions are welcome",
    "/livez": "GET: whether the server runs",
    "/metrics": "GET: counters for Prometheus",
}


class Gateway:
    """Everything one server process shares. `asgi` is the app to run."""

    def __init__(self, engine: Engine, settings: GatewaySettings, telemetry: Telemetry | None = None) -> None:
        self.engine = engine
        self.settings = settings
        self.telemetry = telemetry or Telemetry()
        self.guard = Guard(settings)
        self.draining = False
        self.connections: set[Connection] = set()
        self.requests = 0  # uploads on their way
        self._created = int(time.time())
        self._names = ModelNames(settings.model)
        self._service = Service(self._names, settings.limits, settings.default_dialect)
        self._transcriptions = Transcriptions(engine, self._names, settings)
        app: ASGIApp = self._app()
        if settings.allow_origins:
            app = CORSMiddleware(
                app,
                allow_origins=settings.allow_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["x-request-id"],
            )
        self.asgi: ASGIApp = Front(app, self.guard, self.telemetry)

    def _app(self) -> FastAPI:
        app = FastAPI(title="rillvox", openapi_url=None, docs_url=None, redoc_url=None)
        install(app)
        for path in ("/", "/v1"):
            app.add_api_route(path, self.index, methods=["GET"])
        app.add_api_websocket_route("/v1/realtime", self.realtime)
        app.add_api_route("/v1/realtime", self.plain_realtime, methods=["GET"])
        app.add_api_route("/v1/audio/transcriptions", self.transcriptions, methods=["POST"])
        app.add_api_route("/v1/audio/translations", self.translations, methods=["POST"])
        app.add_api_route("/v1/models", self.models, methods=["GET"])
        app.add_api_route("/v1/models/{model:path}", self.model, methods=["GET"])
        app.add_api_route("/livez", self.live, methods=["GET"])
        app.add_api_route("/ping", self.live, methods=["GET"])
        for path in ("/readyz", "/healthz", "/health"):
            app.add_api_route(path, self.ready, methods=["GET"])
        app.add_api_route("/metrics", self.metrics, methods=["GET"])
        return app

    # ---- realtime ------------------------------------------------------------------------

    async def realtime(self, socket: WebSocket) -> None:
        """One realtime session, refused before the upgrade where that is possible."""
        caller: str | None = socket.scope.get("rillvox.caller")
        handshake = Handshake(
            query=dict(socket.query_params),
            headers=dict(socket.headers),
            subprotocols=tuple(socket.scope.get("subprotocols", ())),
            prefix=socket.scope.get("rillvox.prefix", ""),
        )
        try:
            self._refuse_while_draining()
            dialect = choose(handshake, self._service)
            with self.guard.session(caller):
                seat = self.engine.admit()
                connection = Connection(socket, dialect, self.engine, seat, self.settings, self.telemetry)
                try:
                    offered = "realtime" in handshake.subprotocols
                    await socket.accept("realtime" if offered else None)
                except (RuntimeError, WebSocketDisconnect):  # gone before it began
                    connection.close()
                    return
                self.connections.add(connection)
                try:
                    await connection.run()
                finally:
                    self.connections.discard(connection)
        except RillvoxError as error:
            if isinstance(error, NoRoomError):
                self.telemetry.add("rillvox_admission_rejected_total", reason=error.code)
            await socket.send_denial_response(refusal(error))

    async def plain_realtime(self) -> Response:
        """A browser or a client that forgot to upgrade."""
        raise upgrade_required(
            "this is a websocket: connect to it with ws:// or wss://, not with a plain GET"
        )

    # ---- HTTP ------------------------------------------------------------------------------

    async def index(self) -> dict[str, Any]:
        """What there is, for whoever opens the bare address."""
        return {"service": "rillvox", "model": self.settings.model, "endpoints": ENDPOINTS}

    async def transcriptions(self, request: Request) -> Response:
        """A file's text."""
        self.guard.count_request(request.scope.get("rillvox.caller"), time.monotonic())
        self._refuse_while_draining()
        async with self._counted():
            if self.engine.health is not Health.READY:
                raise self._not_ready()
            return await self._transcriptions.create(request)

    async def translations(self) -> Response:
        """No model here translates."""
        raise not_found("no model of this server translates; use /v1/audio/transcriptions")

    async def models(self) -> dict[str, Any]:
        """The models served."""
        return {"object": "list", "data": [self._model_json()]}

    async def model(self, model: str) -> dict[str, Any]:
        """One model, by its own name or an alias."""
        if self._names.resolve(model) is None:
            raise not_found(f"there is no model {model[:200]!r} here", "model_not_found", "model")
        return self._model_json()

    async def live(self) -> Response:
        """The loop turns."""
        return PlainTextResponse("ok\n")

    async def ready(self) -> JSONResponse:
        """Whether new sessions are welcome, with the state in detail."""
        seats = self.engine.seats
        good = self.engine.health is Health.READY and not self.draining
        busy = seats.in_use(Kind.REALTIME)
        detail = {
            "status": "draining" if self.draining else self.engine.health.value,
            "model": self.settings.model,
            "sessions": busy,
            "slots": seats.realtime,
            "has_room": good and busy < seats.realtime,
            "uploads": seats.in_use(Kind.FILE),
        }
        return JSONResponse(detail, 200 if good else 503)

    async def metrics(self) -> Response:
        """Counters and gauges in the Prometheus text format."""
        meter = self.engine.meter
        gauges = {
            "rillvox_sessions_active": float(len(self.connections)),
            "rillvox_slots_in_use": float(self.engine.seats.in_use(Kind.REALTIME)),
            "rillvox_uploads_active": float(self.engine.seats.in_use(Kind.FILE)),
            "rillvox_engine_steps": float(meter.steps),
            "rillvox_engine_busy_seconds": meter.busy_seconds,
            "rillvox_engine_audio_seconds": meter.audio_seconds,
        }
        return PlainTextResponse(self.telemetry.render(gauges), media_type="text/plain; version=0.0.4")

    # ---- the end ---------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take nobody new, let everybody finish, for `drain_seconds` at most."""
        self.draining = True
        LOGGER.info("draining", extra={"sessions": len(self.connections)})
        for connection in list(self.connections):
            connection.drain()
        deadline = time.monotonic() + self.settings.drain_seconds
        while (self.connections or self.requests) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    # ---- inside ----------------------------------------------------------------------------

    @asynccontextmanager
    async def _counted(self) -> AsyncGenerator[None, None]:
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise NoRoomError("this server shuts down", "draining", self.settings.retry_after)

    def _not_ready(self) -> NoRoomError:
        state = self.engine.health.value
        return NoRoomError(f"the engine is {state}", state, self.settings.retry_after)

    def _model_json(self) -> dict[str, Any]:
        return {
            "id": self.settings.model,
            "object": "model",
            "created": self._created,
            "owned_by": "rillvox",
        }
