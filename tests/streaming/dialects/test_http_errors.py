"""Errors of the library as HTTP responses."""

from __future__ import annotations

import pytest

from rillvox import errors
from rillvox.streaming.dialects import http_errors
from rillvox.streaming.dialects.message import MessageError


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (errors.AudioError("x"), 415, "invalid_request_error", "unsupported_media"),
        (errors.CapacityError("x"), 503, "server_error", "overloaded"),
        (errors.AuthError("x"), 401, "invalid_request_error", "invalid_api_key"),
        (errors.VoiceError("x"), 404, "invalid_request_error", "voice_not_found"),
        (errors.ProtocolError("x"), 400, "invalid_request_error", None),
        (errors.ConfigError("x"), 400, "invalid_request_error", None),
        (errors.TextError("x"), 400, "invalid_request_error", None),
        (errors.CheckpointError("x"), 500, "server_error", "internal_error"),
        (errors.RillvoxError("x"), 500, "server_error", "internal_error"),
        (MessageError("x", "model_not_found", "model"), 404, "invalid_request_error", "model_not_found"),
        (MessageError("x", "invalid_value"), 400, "invalid_request_error", "invalid_value"),
    ],
)
def test_every_error_has_its_status_and_shape(error, status, kind, code):
    made = http_errors.from_error(error)
    assert made.status == status
    body = made.body()["error"]
    assert body.keys() == {"message", "type", "param", "code"}
    assert (body["type"], body["code"]) == (kind, code)


def test_the_headers_that_clients_act_on():
    assert http_errors.unauthorized("no key").headers == {"www-authenticate": "Bearer"}
    assert http_errors.too_many("slow down", 0.25).headers == {"retry-after": "1", "retry-after-ms": "250"}
    assert http_errors.unavailable("full", 2.5).headers["retry-after"] == "3"
    assert http_errors.too_large(10).status == 413
    assert http_errors.not_found("no such path").status == 404
