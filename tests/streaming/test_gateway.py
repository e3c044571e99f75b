"""Realtime sessions over real sockets, with a listener without a model."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import struct
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from serving.clients import APPEND, COMMIT, GA, GA_16K, b64, speech, text_of, vllm_text
from serving.live import Live, hear, hear_the_end, hear_until, say, serving
from serving.parrot import Parrot
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def test_a_vllm_client_gets_its_text(live: Live) -> None:
    assert await vllm_text(live, speech(0.5)) == text_of(speech(0.5))


async def test_an_openai_client_gets_its_items_in_order(live: Live) -> None:
    async with live.realtime(intent="transcription") as ws:
        assert (await hear(ws))["type"] == "session.created"
        await say(ws, type="session.update", session=GA_16K)
        assert (await hear(ws))["type"] == "session.updated"
        for seed in (1, 2):
            await say(ws, type="input_audio_buffer.append", audio=b64(speech(0.3, seed)))
            await say(ws, type="input_audio_buffer.commit")
            messages = await hear_until(ws, "transcription.completed")
            assert messages[-1]["transcript"] == text_of(speech(0.3, seed))
            assert [m["type"] for m in messages if "committed" in m["type"]]


async def test_an_undecided_client_is_understood_by_its_first_message(live: Live) -> None:
    async with live.realtime() as ws:
        created = await hear(ws)
        assert {"id", "created", "session", "event_id"} <= set(created)
        await say(ws, type="input_audio_buffer.commit")
        await say(ws, type="input_audio_buffer.append", audio=b64(speech(0.2)))
        await say(ws, type="input_audio_buffer.commit", final=True)
        assert (await hear_until(ws, "done"))[-1]["text"] == text_of(speech(0.2))


async def test_concurrent_sessions_say_what_they_would_say_alone(live: Live) -> None:
    random = np.random.default_rng(5)

    async def one(seed: int) -> None:
        await asyncio.sleep(float(random.uniform(0, 0.2)))
        pcm = speech(float(random.uniform(0.2, 0.8)), seed)
        assert await vllm_text(live, pcm, pieces=9, pause=0.01) == text_of(pcm)

    await asyncio.gather(*(one(seed) for seed in range(4)))


@pytest.mark.parametrize("path", ["/v1/realtime", "/realtime", "/openai/v1/realtime", "/vllm/v1/realtime/"])
async def test_paths_are_forgiving(live: Live, path: str) -> None:
    async with connect(f"{live.ws}{path}", proxy=None) as ws:
        created = await hear(ws)
        assert ("session" in created) == ("vllm" not in path)


# ---- bad input, with a neighbour that must not notice --------------------------------------

HALF = b64(b"\x01\x02\x03")

# dialect, messages (a str goes as it is), types of the answers that must be among those that come
BAD: list[tuple[str, str, list[Any], list[str]]] = [
    ("not base64", "openai", [{"type": APPEND, "audio": "!!!"}], ["error"]),
    ("not base64", "vllm", [{"type": APPEND, "audio": "!!!"}], ["error"]),
    ("odd bytes", "openai", [{"type": APPEND, "audio": HALF}, {"type": COMMIT}], ["committed", "completed"]),
    ("odd bytes", "vllm", [{"type": APPEND, "audio": HALF}, {"type": COMMIT, "final": True}], ["done"]),
    ("NaN in JSON", "openai", ['{"type": "session.update", "session": NaN}'], ["error"]),
    ("NaN in JSON", "vllm", ['{"type": "x", "audio": NaN}'], ["error"]),
    ("not JSON", "openai", ["{"], ["error"]),
    ("nothing", "openai", [""], ["error"]),
    ("nothing", "vllm", [""], ["error"]),
    ("deep JSON", "openai", ["[" * 50_000], ["error"]),
    ("no object", "vllm", ["[1]"], ["error"]),
    ("no audio", "openai", [{"type": APPEND}], ["error"]),
    ("no audio", "vllm", [{"type": APPEND}], ["error"]),
    (
        "empty audio",
        "openai",
        [{"type": APPEND, "audio": ""}, {"type": "input_audio_buffer.clear"}],
        ["cleared"],
    ),
    ("empty audio", "vllm", [{"type": APPEND, "audio": ""}], ["error"]),
    ("unknown type", "openai", [{"type": "mystery"}], ["error"]),
    ("unknown type", "vllm", [{"type": "mystery"}], ["error"]),
    ("wrong type", "openai", [{"type": 3}], ["error"]),
    ("commit without audio", "openai", [{"type": COMMIT}], ["error"]),
    ("commit without audio", "vllm", [{"type": COMMIT, "final": True}], ["done"]),
    (
        "wrong rate",
        "openai",
        [
            {
                "type": "session.update",
                "session": {
                    "type": "transcription",
                    "audio": {"input": {"format": {"type": "audio/pcm", "rate": 7}}},
                },
            }
        ],
        ["error"],
    ),
    ("unknown model", "vllm", [{"type": "session.update", "model": "nobody"}], ["error"]),
    (
        "audio before set-up",
        "openai",
        [{"type": APPEND, "audio": b64(speech(0.2))}, {"type": "session.update", "session": GA}],
        ["updated"],
    ),
    (
        "audio before set-up",
        "vllm",
        [{"type": APPEND, "audio": b64(speech(0.2))}, {"type": COMMIT}],
        ["delta"],
    ),
    ("an append too large", "openai", [{"type": APPEND, "audio": b64(bytes(2_000_000))}], ["error"]),
    ("an append too large", "vllm", [{"type": APPEND, "audio": b64(bytes(2_000_000))}], ["error"]),
]


@pytest.mark.parametrize(("what", "dialect", "messages", "kinds"), BAD, ids=[f"{b[1]}: {b[0]}" for b in BAD])
async def test_bad_messages_are_answered_and_harm_nobody(
    live: Live, what: str, dialect: str, messages: list[Any], kinds: list[str]
) -> None:
    neighbour = asyncio.create_task(vllm_text(live, speech(0.5, 9), pieces=10, pause=0.01))
    async with live.realtime(dialect=dialect) as ws:
        await hear(ws)
        for message in messages:
            await ws.send(message if isinstance(message, str) else json.dumps(message))
        for kind in kinds:
            await hear_until(ws, kind)
        # The session itself lives on.
        if dialect == "vllm":
            await say(ws, type=COMMIT)
            await say(ws, type=APPEND, audio=b64(speech(0.2)))
            await say(ws, type=COMMIT, final=True)
            await hear_until(ws, "done")
        else:
            await say(ws, type=APPEND, audio=b64(speech(0.2)))
            await say(ws, type=COMMIT)
            await hear_until(ws, "completed")
    assert await neighbour == text_of(speech(0.5, 9))


async def test_a_binary_frame_is_refused_with_1003(live: Live) -> None:
    async with live.realtime(dialect="openai") as ws:
        await ws.send(b"\0\1")
        await hear_the_end(ws)
        assert ws.close_code == 1003


async def test_a_message_over_the_limit_closes_with_1009(parrot: Parrot) -> None:
    with serving(lambda: parrot, ws_max_bytes=100_000) as live:
        async with live.realtime(dialect="openai") as ws:
            await hear(ws)
            await ws.send(" " * 200_000)
            with pytest.raises(ConnectionClosed):
                await hear(ws)
            assert ws.close_code == 1009


async def test_many_mistakes_close_with_1008(live: Live) -> None:
    async with live.realtime(dialect="openai") as ws:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(30):
                await ws.send("{")
            await hear_the_end(ws)
        assert ws.close_code == 1008


def _handshake(live: Live, dialect: str = "vllm", receive_buffer: int | None = None) -> socket.socket:
    """A client that speaks bytes."""
    peer = socket.socket()
    if receive_buffer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.connect(("127.0.0.1", live.port))
    key = base64.b64encode(b"0" * 16).decode()
    peer.sendall(
        f"GET /v1/realtime?dialect={dialect} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    peer.settimeout(5)
    assert b"101" in peer.recv(65536)
    return peer


def _frame(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    assert len(data) < 65536
    return bytes([0x81, 0xFE]) + struct.pack("!H", len(data)) + b"\0\0\0\0" + data


@pytest.mark.parametrize("how", ["half closed", "reset", "in the middle of a frame"])
async def test_a_client_that_vanishes_leaves_its_seat(own: Live, parrot: Parrot, how: str) -> None:
    neighbour = asyncio.create_task(vllm_text(own, speech(0.5, 9), pieces=10, pause=0.02))
    peer = await asyncio.to_thread(_handshake, own)
    peer.sendall(_frame({"type": COMMIT}) + _frame({"type": APPEND, "audio": b64(speech(0.3))}))
    await asyncio.sleep(0.1)
    if how == "half closed":
        peer.shutdown(socket.SHUT_WR)
    elif how == "reset":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    else:
        peer.sendall(_frame({"type": COMMIT})[:5])
        peer.close()
    assert await neighbour == text_of(speech(0.5, 9))
    await asyncio.to_thread(own.wait_idle)
    assert parrot.open_now == []
    peer.close()


async def test_a_reader_that_takes_nothing_is_cut_off(parrot: Parrot) -> None:
    with serving(lambda: parrot, send_deadline=0.5, send_buffer_bytes=4096) as live:
        peer = await asyncio.to_thread(_handshake, live, "openai", 4096)
        settings = {"type": "transcription", "audio": {"input": {"transcription": {"prompt": "x" * 15_000}}}}
        frame = _frame({"type": "session.update", "session": settings})  # its answer is as long

        def flood() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer.sendall(frame)

        sender = asyncio.create_task(asyncio.to_thread(flood))
        assert await vllm_text(live, speech(0.5, 9), pieces=10, pause=0.02) == text_of(speech(0.5, 9))
        await asyncio.to_thread(live.wait_idle, 5)
        await sender
        assert live.gateway.telemetry.value("rillvox_send_stalls_total") == 1
        assert not live.server.server_state.connections  # the kernel's part is gone too
        peer.close()


async def test_a_fast_sender_is_slowed_and_loses_nothing(parrot: Parrot) -> None:
    with serving(lambda: parrot, input_seconds=0.5) as live:
        pcm = speech(20.0, 3)
        assert await vllm_text(live, pcm, pieces=40) == text_of(pcm)


async def test_a_fault_in_one_stream_is_an_error_of_that_session(live: Live) -> None:
    neighbour = asyncio.create_task(vllm_text(live, speech(0.5, 9), pieces=10, pause=0.02))
    async with live.realtime(dialect="openai") as ws:
        await hear(ws)
        await say(ws, type="session.update", session=GA_16K)
        await say(ws, type=APPEND, audio=b64(np.full(1600, 32767, "<i2")))
        await say(ws, type=COMMIT)
        failed = (await hear_until(ws, "transcription.failed"))[-1]
        assert failed["error"]["message"]
        await say(ws, type=APPEND, audio=b64(speech(0.2)))
        await say(ws, type=COMMIT)
        await hear_until(ws, "completed")
    assert await neighbour == text_of(speech(0.5, 9))


async def test_a_dead_engine_closes_sessions_with_1011_and_is_not_ready(own: Live, parrot: Parrot) -> None:
    async with own.realtime(dialect="openai") as ws, httpx.AsyncClient() as http:
        await hear(ws)
        assert (await http.get(f"{own.http}/readyz")).status_code == 200
        parrot.break_step = True
        await say(ws, type=APPEND, audio=b64(speech(0.2)))
        await hear_the_end(ws)
        assert ws.close_code == 1011
        assert (await http.get(f"{own.http}/readyz")).status_code == 503
        assert (await http.get(f"{own.http}/livez")).status_code == 200
        with pytest.raises(InvalidStatus) as refused:
            async with own.realtime():
                pass
        assert refused.value.response.status_code == 503
