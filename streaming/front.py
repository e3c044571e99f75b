"""The outermost layer of the app: request ids, keys, origins, forgiving paths, and the access log.

Plain ASGI: Starlette's own middleware class skips websockets and hides disconnects from streams.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .dialects.names import random_id
from .guard import Guard
from .refusals import http_error, refusal
from .telemetry import LOGGER, Telemetry

OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz", "/health", "/ping", "/version"})
_PREFIXES = ("/openai", "/vllm")
_GOOD_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Front:
    """Wraps an app. What it finds out goes into the scope under `rillvox.*`."""

    def __init__(self, app: ASGIApp, guard: Guard, telemetry: Telemetry) -> None:
        self._app = app
        self._guard = guard
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        scope["rillvox.request_id"] = given if _GOOD_ID.fullmatch(given) else random_id("req")
        _straighten(scope)
        began = time.monotonic()
        tagged, status = _tagging(send, scope["rillvox.request_id"])
        try:
            self._check(scope, headers)
        except Exception as error:
            self._telemetry.add("rillvox_refused_total", status=str(http_error(error).status))
            await refusal(error)(scope, receive, tagged)
        else:
            await self._app(scope, receive, tagged)
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            # Without the query string, which may hold a key.
            LOGGER.info(
                "request",
                extra={
                    "request_id": scope["rillvox.request_id"],
                    "caller": scope.get("rillvox.caller"),
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": status["code"],
                    "seconds": round(time.monotonic() - began, 3),
                },
            )

    def _check(self, scope: Scope, headers: Headers) -> None:
        if scope["path"] in OPEN_PATHS:
            return
        if scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            self._guard.check_origin(headers)
        query = QueryParams(scope["query_string"])
        offered = scope.get("subprotocols", [])
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            return  # a browser asks what it may ask; it sends no key then
        scope["rillvox.caller"] = self._guard.authenticate(headers, query, offered)


def _straighten(scope: MutableMapping[str, Any]) -> None:
    """Bring `/vllm/v1/models`, `/models` and `/v1/models/` to `/v1/models`."""
    path: str = scope["path"]
    scope["rillvox.prefix"] = ""
    for prefix in _PREFIXES:
        if path.startswith(f"{prefix}/"):
            path = path[len(prefix) :]
            scope["rillvox.prefix"] = prefix
    if len(path) > 1:
        path = path.rstrip("/")
    if path.startswith(("/realtime", "/models", "/audio/")):
        path = f"/v1{path}"
    scope["path"] = path
    scope["raw_path"] = path.encode("utf-8", "surrogateescape")


def _tagging(send: Send, request_id: str) -> tuple[Callable[[Message], Awaitable[None]], dict[str, int]]:
    """A `send` that adds `x-request-id`, and the status it saw."""
    status = {"code": 0}

    async def tagged(message: Message) -> None:
        if message["type"] in (
            "http.response.start",
            "websocket.accept",
            "websocket.http.response.start",
        ):
            MutableHeaders(scope=message)["x-request-id"] = request_id
            status["code"] = message.get("status", 101)
        await send(message)

    return tagged, status
