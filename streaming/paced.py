"""Clients that speak at the pace of speech, and the clock that tells when text could have come.

What a listener adds beyond its own delay can't be seen in a socket alone: a word comes late because the model
waits for more audio, or because the machine does. So the same audio, in the same pieces, is first heard by a
session that has the model to itself, and for every character the piece is noted that brought it out. In the
live run a character is due when that piece was due to be sent, and late by what passes until it arrives:
queues, batching with other sessions, computing, both ends of the socket, and the client's own lateness too.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from ..asr.events import Partial
from ..asr.stream import ASR
from ..errors import ConfigError

RATE = 16_000
Pcm = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Script:
    """What one client says, and what it ought to hear.

    needed: for every character of `text`, the number of pieces after which it was known; one more than there
    are pieces if it took the end of the audio.
    """

    pieces: tuple[bytes, ...]
    piece_seconds: float
    text: str
    needed: tuple[int, ...]


@dataclass
class Outcome:
    """How it went for one client. Times in seconds; a delta is as late as its oldest character."""

    text: str = ""
    late: list[float] = field(default_factory=list[float])
    final_late: float | None = None
    send_late: list[float] = field(default_factory=list[float])
    refused: bool = False
    error: str | None = None


def write_script(asr: ASR, pcm: Pcm, piece_samples: int, delay_ms: int) -> Script:
    """Hear a recording alone, piece by piece, and note when each character came."""
    pieces = [pcm[i : i + piece_samples] for i in range(0, len(pcm), piece_samples)]
    session = asr.stream(delay_ms)
    text, needed = "", list[int]()
    for count, piece in enumerate(pieces, 1):
        session.feed(piece.astype(np.float32) / np.float32(32768))
        for event in session.poll():
            if isinstance(event, Partial):
                text += event.text
                needed += [count] * len(event.text)
    whole = session.finish().text
    if not whole.startswith(text):
        raise ConfigError("the session revised its text; delays cannot be measured")
    needed += [len(pieces) + 1] * (len(whole) - len(text))
    data = tuple(piece.astype("<i2").tobytes() for piece in pieces)
    return Script(data, piece_samples / RATE, whole, tuple(needed))


async def speak(url: str, script: Script, start: float, headers: dict[str, str] | None = None) -> Outcome:
    """Play a script to a vLLM-style realtime socket, in open loop: what is late stays due when it was due.

    Args:
        url: of `/v1/realtime`.
        script: what to say.
        start: when the first piece begins to be spoken, on `time.monotonic`.
        headers: for the handshake.
    """
    outcome = Outcome()
    query = "&" if "?" in url else "?"
    try:
        async with connect(
            f"{url}{query}dialect=vllm",
            additional_headers=headers,
            max_size=2**24,
            compression=None,
            proxy=None,
        ) as socket:
            await _tell(socket, type="input_audio_buffer.commit")
            sender = asyncio.create_task(_send(socket, script, start, outcome))
            try:
                await _listen(socket, script, start, outcome)
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
    except InvalidHandshake as error:
        outcome.refused, outcome.error = True, str(error)
    except (WebSocketException, OSError) as error:
        outcome.error = f"{type(error).__name__}: {error}"
    return outcome


async def _send(socket: ClientConnection, script: Script, start: float, outcome: Outcome) -> None:
    for index, piece in enumerate(script.pieces):
        due = start + (index + 1) * script.piece_seconds  # a piece exists once it has been spoken
        await asyncio.sleep(due - time.monotonic())
        outcome.send_late.append(time.monotonic() - due)
        await _tell(socket, type="input_audio_buffer.append", audio=base64.b64encode(piece).decode())
    await _tell(socket, type="input_audio_buffer.commit", final=True)


async def _listen(socket: ClientConnection, script: Script, start: float, outcome: Outcome) -> None:
    async for message in socket:
        now = time.monotonic()
        event = json.loads(message)
        match event["type"]:
            case "transcription.delta":
                begin = len(outcome.text)
                outcome.text += event["delta"]
                if begin < len(script.needed) and script.text.startswith(outcome.text):
                    piece = script.needed[begin]
                    if piece <= len(script.pieces):
                        outcome.late.append(now - start - piece * script.piece_seconds)
            case "transcription.done":
                outcome.final_late = now - start - len(script.pieces) * script.piece_seconds
                return
            case "error":
                outcome.error = str(event["error"])
                return
            case _:
                pass
    outcome.error = outcome.error or "the server closed the connection"


async def speak_all(
    url: str,
    scripts: Sequence[Script],
    starts: Sequence[float],
    headers: dict[str, str] | None = None,
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Play all scripts at once; `starts` in seconds from now."""
    now = time.monotonic() + 0.5

    async def one(script: Script, start: float) -> Outcome:
        await asyncio.sleep(max(0.0, now + start - 0.3 - time.monotonic()))
        outcome = await speak(url, script, now + start, headers)
        if on_done is not None:
            on_done(outcome)
        return outcome

    return await asyncio.gather(*(one(*pair) for pair in zip(scripts, starts, strict=True)))


async def _tell(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))
