"""Client messages to plain values, and how one is refused.

A message is refused with a `MessageError`, which each dialect writes in its own shape. Values that
came from a client are made safe before they are echoed: no lone surrogates, no endless strings,
no NaN.
"""

from __future__ import annotations

import json
from typing import Any, cast

from ...asr.delays import DELAYS_ALLOWED, check_delay
from ...errors import AudioError, ConfigError, ProtocolError
from .pcm import decode_base64

JsonObject = dict[str, Any]


class MessageError(ProtocolError):
    """A client message refused; the session goes on.

    code: a short stable name; param: the field at fault, dotted.
    """

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


def parse(message: str, max_chars: int) -> JsonObject:
    """The JSON object of a text frame.

    Raises:
        MessageError: `payload_too_large`; `invalid_json`: no JSON, NaN and endless nesting included;
            `no_object`: another value, for which each dialect has its own code.
    """
    if len(message) > max_chars:
        raise MessageError(f"the message is longer than {max_chars} characters", "payload_too_large")
    try:
        value: Any = json.loads(message, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # RecursionError: "[[[[..." thousands deep
        raise MessageError("the message is not valid JSON", "invalid_json") from None
    if not isinstance(value, dict):
        raise MessageError(f"a message is a JSON object, got {_kind(value)}", "no_object")
    return cast(JsonObject, value)


def message_type(message: JsonObject) -> str:
    """Its `type`, safe to echo.

    Raises:
        MessageError: there is none, or it isn't text.
    """
    kind = message.get("type")
    if not isinstance(kind, str):
        raise MessageError("a message needs a `type`, a string", "invalid_event", "type")
    return echo(kind, 80)


def echo(text: str, limit: int = 1000) -> str:
    """Text of a client that can be sent back: well-formed Unicode of bounded length."""
    return text[:limit].encode("utf-8", "replace").decode("utf-8")


def text_field(holder: JsonObject, key: str, path: str, limit: int = 1000) -> str | None:
    """Text or null at `key`.

    Raises:
        MessageError: anything else, naming `path`.
    """
    value = holder.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _wrong(path, "a string", value)
    return echo(value, limit)


def text_list(holder: JsonObject, key: str, path: str, limit: int = 100) -> list[str] | None:
    """A list of at most `limit` strings, or null, at `key`."""
    value: object = holder.get(key)
    if value is None:
        return None
    texts = (
        [item for item in cast(list[object], value) if isinstance(item, str)]
        if isinstance(value, list)
        else None
    )
    if texts is None or len(texts) != len(cast(list[object], value)):
        raise _wrong(path, "a list of strings", cast(object, value))
    return [echo(text) for text in texts[:limit]]


def object_field(holder: JsonObject, key: str, path: str) -> JsonObject | None:
    """An object or null at `key`."""
    value = holder.get(key)
    if value is None or isinstance(value, dict):
        return cast("JsonObject | None", value)
    raise _wrong(path, "an object", value)


def audio_field(holder: JsonObject, key: str, max_bytes: int) -> bytes:
    """Bytes of the base64 text at `key`.

    Raises:
        MessageError: `invalid_audio`: missing, not text, not base64, or too long.
    """
    value = holder.get(key)
    if not isinstance(value, str):
        raise MessageError(f"{key} must be base64 text, got {_kind(value)}", "invalid_audio", key)
    try:
        return decode_base64(value, max_bytes)
    except AudioError as error:
        raise MessageError(str(error), "invalid_audio", key) from None


def number_field(holder: JsonObject, key: str, path: str, low: float, high: float) -> float | None:
    """A finite number from `low` to `high`, or null, at `key`. Booleans are no numbers."""
    value = holder.get(key)
    if value is None:
        return None
    # The comparison of an int of any size with a float is exact and cannot overflow.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong(path, f"a number from {low:g} to {high:g}", value)
    return float(value)


def delay_field(holder: JsonObject, key: str, path: str) -> int | None:
    """Milliseconds that a listener may wait, or null, at `key`; nothing is rounded.

    Raises:
        MessageError: no multiple of 80 from 80 to 2400.
    """
    value: object = holder.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # JSON has one kind of number: 480.0 is 480
        value = int(value)
    try:
        check_delay(value, path)
    except ConfigError:
        raise _wrong(path, DELAYS_ALLOWED, value) from None
    return cast(int, value)


def flag_field(holder: JsonObject, key: str, path: str) -> bool | None:
    """True, false or null at `key`."""
    value = holder.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise _wrong(path, "true or false", value)


def _wrong(path: str, wanted: str, value: object) -> MessageError:
    return MessageError(f"{path} must be {wanted}, got {_kind(value)}", "invalid_value", path)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return f"the number {value:g}" if abs(value) < 1e15 else "a number out of range"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
