"""Errors of the HTTP surface, in OpenAI's shape.

The official client retries 408, 409, 429 and 5xx by itself and waits as `Retry-After` says, so a mistake of
the client must never look like one of those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ...errors import (
    AudioError,
    AuthError,
    CapacityError,
    ConfigError,
    ProtocolError,
    RillvoxError,
    TextError,
    VoiceError,
)
from .message import JsonObject, MessageError


@dataclass(eq=False)  # not frozen: raising sets the traceback
class HttpError(Exception):
    """A response that refuses: status, the parts of its body, and headers beyond the content type."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def body(self) -> JsonObject:
        """The JSON body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def bad_request(message: str, param: str | None = None, code: str | None = None) -> HttpError:
    """400: the request is wrong; `param` names the field."""
    return HttpError(400, message, param=param, code=code)


def not_found(message: str, code: str = "not_found", param: str | None = None) -> HttpError:
    """404: an unknown path, model or voice."""
    return HttpError(404, message, param=param, code=code)


def unauthorized(message: str) -> HttpError:
    """401: no key, or a wrong one."""
    return HttpError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})


def upgrade_required(message: str) -> HttpError:
    """426: a plain request where a websocket is."""
    return HttpError(426, message, code="upgrade_required", headers={"upgrade": "websocket"})


def too_large(limit_bytes: int) -> HttpError:
    """413: the upload is over the limit."""
    return HttpError(
        413, f"the upload is larger than {limit_bytes} bytes", code="payload_too_large", param="file"
    )


def unsupported_media(message: str) -> HttpError:
    """415: audio that cannot be decoded."""
    return HttpError(415, message, code="unsupported_media", param="file")


def too_many(message: str, retry_after: float, code: str = "rate_limit_exceeded") -> HttpError:
    """429: over the quota of a key."""
    return HttpError(429, message, "rate_limit_error", code, headers=_retry(retry_after))


def unavailable(message: str, retry_after: float = 1.0, code: str = "overloaded") -> HttpError:
    """503: no room, or draining."""
    return HttpError(503, message, "server_error", code, headers=_retry(retry_after))


def internal() -> HttpError:
    """500: our fault; says nothing of it, the log does."""
    return HttpError(500, "the server failed on this request", "server_error", "internal_error")


def from_error(error: RillvoxError) -> HttpError:
    """The response for an error of the library."""
    match error:
        case MessageError():
            status = 404 if error.code == "model_not_found" else 400
            return HttpError(status, str(error), code=error.code, param=error.param)
        case AudioError():
            return unsupported_media(str(error))
        case CapacityError():
            return unavailable(str(error))
        case AuthError():
            return unauthorized(str(error))
        case VoiceError():
            return not_found(str(error), "voice_not_found", "voice")
        case ProtocolError() | TextError() | ConfigError():
            return bad_request(str(error))
        case _:
            return internal()


def _retry(seconds: float) -> dict[str, str]:
    return {
        "retry-after": str(max(1, math.ceil(seconds))),
        "retry-after-ms": str(max(1, round(seconds * 1000))),
    }
