"""How HTTP requests, and upgrades to websockets, are refused: every error in OpenAI's shape."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..errors import RillvoxError
from .dialects.http_errors import (
    HttpError,
    bad_request,
    from_error,
    internal,
    not_found,
    too_many,
    unavailable,
)
from .guard import OriginError, QuotaError
from .seats import NoRoomError


def http_error(error: Exception) -> HttpError:
    """The refusal that an error means; anything unknown is our fault and says nothing of itself."""
    match error:
        case HttpError():
            return error
        case OriginError():
            return HttpError(403, str(error), "permission_error", "origin_not_allowed")
        case QuotaError():
            return too_many(str(error), error.retry_after, error.code)
        case NoRoomError():
            code = "draining" if error.code == "draining" else "overloaded"
            return unavailable(str(error), error.retry_after, code)
        case RillvoxError():
            return from_error(error)
        case RequestValidationError():
            first = error.errors()[0] if error.errors() else {"msg": "the request is not valid", "loc": ()}
            return bad_request(str(first["msg"]), ".".join(str(part) for part in first["loc"][1:]) or None)
        case HTTPException(status_code=404):
            return not_found("there is nothing at this path; GET / names what there is")
        case HTTPException():
            return HttpError(error.status_code, str(error.detail), headers=dict(error.headers or {}))
        case _:
            return internal()


def refusal(error: Exception) -> JSONResponse:
    """The response that refuses."""
    refused = http_error(error)
    return JSONResponse(refused.body(), refused.status, refused.headers)


def install(app: FastAPI) -> None:
    """Answer every error of an app in this shape, FastAPI's own 422 included."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        return refusal(error)

    for kind in (HttpError, RillvoxError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
