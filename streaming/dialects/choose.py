"""Telling OpenAI and vLLM clients apart: both come to `/v1/realtime` and wait for the server to speak.

What the upgrade request shows is asked first. If that says nothing, the first message suits both, and the
client's first message decides. After that the shapes are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ...errors import ProtocolError
from ..events import Command, Event, Output, Reply
from . import Dialect
from .limits import Limits
from .message import JsonObject, MessageError, parse
from .names import ModelNames, NewId, random_id
from .openai_realtime import OpenAIRealtime
from .vllm_realtime import VllmRealtime

DialectName = Literal["openai", "vllm"]

_OPENAI_AGENTS = ("openai/", "livekit agents")


@dataclass(frozen=True)
class Handshake:
    """What an upgrade request shows. Header names in lower case; `prefix` is the mount, "" or "/vllm"."""

    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    subprotocols: tuple[str, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class Service:
    """What all sessions of a server share."""

    names: ModelNames
    limits: Limits = field(default_factory=Limits)
    default_dialect: DialectName = "openai"
    new_id: NewId = random_id


def name_dialect(handshake: Handshake) -> DialectName | None:
    """The dialect that an upgrade request asks for; `None` if it doesn't say.

    Raises:
        ProtocolError: `?dialect=` names none of ours.
    """
    asked = handshake.query.get("dialect") or handshake.prefix.strip("/") or None
    if asked in ("openai", "vllm"):
        return asked
    if asked is not None:
        raise ProtocolError(f"dialect {asked[:40]!r} is not served on this path; use openai or vllm")
    agent = handshake.headers.get("user-agent", "").lower()
    is_openai = (
        "intent" in handshake.query
        or "x-stainless-lang" in handshake.headers
        or "openai-beta" in handshake.headers
        or any(one == "realtime" or one.startswith("openai-") for one in handshake.subprotocols)
        or any(mark in agent for mark in _OPENAI_AGENTS)
    )
    return "openai" if is_openai else None


def choose(handshake: Handshake, service: Service) -> Dialect:
    """The machine for a client of `/v1/realtime`.

    Raises:
        ProtocolError: the query string is wrong; refuse the upgrade with 400.
    """
    rate = _rate(handshake.query.get("rate"))
    model = handshake.query.get("model")
    match name_dialect(handshake):
        case "openai":
            return _openai(service, model)
        case "vllm":
            return _vllm(service, rate)
        case None:
            return Undecided(service, model, rate)


class Undecided:
    """Speaks first in a way that suits both, and becomes one of them at the first message."""

    def __init__(self, service: Service, model: str | None = None, rate: int = 16000) -> None:
        self._service = service
        self._rate = rate
        self._openai = _openai(service, model)
        self._locked: Dialect | None = None
        self._started = (0.0, 0.0)

    @property
    def name(self) -> str:
        """ "undecided" until the first message."""
        return "undecided" if self._locked is None else self._locked.name

    def start(self, now: float, unix: float) -> list[Output]:
        """`session.created` with the keys of both protocols."""
        self._started = (now, unix)
        return [_superset(output, unix) for output in self._openai.start(now, unix)]

    def receive(self, message: str | bytes, now: float) -> list[Output]:
        """Answer one frame; the first one decides who answers."""
        if self._locked is None:
            decided = self._decide(message)
            self._locked = _vllm(self._service, self._rate) if decided == "vllm" else self._openai
            if decided == "vllm":
                self._locked.start(*self._started)  # its greeting was part of ours
        return self._locked.receive(message, now)

    def report(self, event: Event, now: float) -> list[Output]:
        """Translate one event of the engine."""
        return (self._locked or self._openai).report(event, now)

    def tick(self, now: float) -> list[Output]:
        """Enforce the limits of time."""
        return (self._locked or self._openai).tick(now)

    def drain(self, now: float) -> list[Output]:
        """Finish, then close."""
        return (self._locked or self._openai).drain(now)

    def hang_up(self) -> list[Command]:
        """The client is gone."""
        return (self._locked or self._openai).hang_up()

    def _decide(self, message: str | bytes) -> DialectName:
        if isinstance(message, bytes):
            return self._service.default_dialect
        try:
            value = parse(message, self._service.limits.message_chars)
        except MessageError:
            return self._service.default_dialect
        return name_by_message(value) or self._service.default_dialect


def name_by_message(message: JsonObject) -> DialectName | None:
    """The dialect of a client's first message; `None` if both could have sent it."""
    match message.get("type"):
        case "session.update" if isinstance(message.get("session"), dict):
            return "openai"
        case "session.update" if "model" in message:
            return "vllm"
        case "input_audio_buffer.commit":
            return "vllm"  # without audio, OpenAI would call it an error
        case "transcription_session.update":
            return "openai"
        case _:
            return None


def _superset(output: Output, unix: float) -> Output:
    if not isinstance(output, Reply) or output.json["type"] != "session.created":
        return output
    session_id = str(output.json["session"]["id"]).replace("_", "-", 1)
    return replace(output, json={**output.json, "id": session_id, "created": int(unix)})


def _openai(service: Service, model: str | None) -> OpenAIRealtime:
    return OpenAIRealtime(service.names, model=model, limits=service.limits, new_id=service.new_id)


def _vllm(service: Service, rate: int) -> VllmRealtime:
    return VllmRealtime(service.names, rate=rate, limits=service.limits, new_id=service.new_id)


def _rate(asked: str | None) -> int:
    if asked is None:
        return 16000
    if not (asked.isascii() and asked.isdigit() and len(asked) <= 6 and 8000 <= int(asked) <= 96000):
        raise ProtocolError(f"rate must be 8000 to 96000 Hz, got {asked[:20]!r}")
    return int(asked)
