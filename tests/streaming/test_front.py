"""Who gets in, what else is served, and how a server stops."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx2 as httpx
import pytest
from serving.clients import APPEND, COMMIT, GA_16K, b64, post, speech, text_of, wav
from serving.live import Live, hear, hear_until, say, serving
from serving.parrot import Parrot
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol


async def test_the_last_seat_is_refused_before_the_upgrade_with_a_hint(parrot: Parrot) -> None:
    with serving(lambda: parrot, slots=1) as live:
        async with live.realtime() as ws:
            await hear(ws)
            with pytest.raises(InvalidStatus) as refused:
                async with live.realtime():
                    pass
        response = refused.value.response
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert json.loads(response.body)["error"]["code"] == "overloaded"
        await asyncio.to_thread(live.wait_idle)
        async with live.realtime() as ws:
            await hear(ws)


KEY = "secret-key-1"
OPENING: list[tuple[dict[str, str], list[str], int]] = [
    ({}, [], 401),
    ({"Authorization": "Bearer wrong-key"}, [], 401),
    ({"Authorization": KEY}, [], 401),
    ({"Authorization": f"Bearer {KEY}"}, [], 101),
    ({"api-key": KEY}, [], 101),
    ({}, ["realtime", f"openai-insecure-api-key.{KEY}"], 101),
    ({"Authorization": f"Bearer {KEY}", "Origin": "https://evil.example"}, [], 403),
    ({"Authorization": f"Bearer {KEY}", "Origin": "https://good.example"}, [], 101),
]


@pytest.mark.parametrize(("headers", "offered", "status"), OPENING)
async def test_keys_and_origins_are_checked_before_the_upgrade(
    parrot: Parrot, headers: dict[str, str], offered: list[str], status: int
) -> None:
    with serving(lambda: parrot, api_keys=(KEY,), allow_origins=("https://good.example",)) as live:
        names = [Subprotocol(name) for name in offered]
        opening = connect(
            f"{live.ws}/v1/realtime",
            additional_headers=headers,
            subprotocols=names or None,
            proxy=None,
        )
        if status == 101:
            async with opening as ws:
                assert (await hear(ws))["type"] == "session.created"
                assert ws.subprotocol == ("realtime" if offered else None)
        else:
            with pytest.raises(InvalidStatus) as refused:
                async with opening:
                    pass
            response = refused.value.response
            assert response.status_code == status
            assert "error" in json.loads(response.body)
            assert KEY not in response.body.decode()


async def test_a_web_page_of_another_site_cannot_talk_to_a_server_without_keys(live: Live) -> None:
    for origin, welcome in (("https://evil.example", False), (f"http://localhost:{live.port}", True)):
        opening = connect(f"{live.ws}/v1/realtime", origin=origin, proxy=None)  # type: ignore[arg-type]
        if welcome:
            async with opening as ws:
                await hear(ws)
        else:
            with pytest.raises(InvalidStatus) as refused:
                async with opening:
                    pass
            assert refused.value.response.status_code == 403
    async with httpx.AsyncClient() as http:
        answer = await http.post(
            f"{live.http}/v1/audio/transcriptions", headers={"Origin": "https://evil.example"}
        )
        assert answer.status_code == 403


async def test_a_key_holds_so_many_sessions(parrot: Parrot) -> None:
    with serving(lambda: parrot, api_keys=(KEY,), sessions_per_key=1) as live:
        headers = {"api-key": KEY}
        async with connect(f"{live.ws}/v1/realtime", additional_headers=headers, proxy=None) as ws:
            await hear(ws)
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"{live.ws}/v1/realtime", additional_headers=headers, proxy=None):
                    pass
            assert refused.value.response.status_code == 429


async def test_a_wrong_query_is_a_400_before_the_upgrade(live: Live) -> None:
    for query in ({"dialect": "klingon"}, {"rate": "many"}):
        with pytest.raises(InvalidStatus) as refused:
            async with live.realtime(**query):
                pass
        assert refused.value.response.status_code == 400


async def test_models_health_and_unknown_paths(live: Live) -> None:
    async with httpx.AsyncClient(base_url=live.http) as http:
        models = (await http.get("/v1/models")).json()
        assert models["data"][0]["id"] == "asr-en"
        assert (await http.get("/models/whisper-1")).json()["id"] == "asr-en"
        missing = await http.get("/v1/models/nobody")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        for path in ("/healthz", "/livez", "/readyz", "/health"):
            assert (await http.get(path)).status_code == 200
        unknown = await http.get("/v1/nothing")
        assert (unknown.status_code, set(unknown.json())) == (404, {"error"})
        wrong = await http.get("/v1/audio/transcriptions")
        assert (wrong.status_code, set(wrong.json())) == (405, {"error"})
        assert (await http.post("/v1/audio/translations")).status_code == 404
        assert "rillvox_slots_in_use 0" in (await http.get("/metrics")).text


async def test_the_bare_address_names_what_there_is(live: Live) -> None:
    async with httpx.AsyncClient(base_url=live.http) as http:
        for path in ("/", "/v1", "/openai/"):
            answer = await http.get(path)
            assert answer.status_code == 200
            endpoints = answer.json()["endpoints"]
            assert answer.json()["model"] == "asr-en"
        assert {"/v1/realtime", "/v1/audio/transcriptions", "/v1/models"} <= set(endpoints)
        for path, what in endpoints.items():
            method = what.split(":")[0].replace("websocket", "GET")
            assert (await http.request(method, path)).status_code != 404
        assert "GET /" in (await http.get("/v1/nothing")).json()["error"]["message"]


async def test_a_plain_request_for_the_websocket_is_told_to_upgrade(live: Live) -> None:
    async with httpx.AsyncClient(base_url=live.http) as http:
        for path in ("/v1/realtime", "/realtime", "/vllm/v1/realtime?intent=transcription"):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["type"], error["code"]) == ("invalid_request_error", "upgrade_required")
            assert "ws://" in error["message"]
    async with live.realtime() as ws:  # and the websocket is still there
        assert (await hear(ws))["type"] == "session.created"


async def test_a_slow_request_head_is_cut_off(parrot: Parrot) -> None:
    with serving(lambda: parrot, head_deadline=0.3) as live:

        def dawdle() -> bytes:
            with socket.create_connection(("127.0.0.1", live.port), timeout=5) as peer:
                peer.sendall(b"GET /livez HT")
                try:
                    return peer.recv(100)
                except ConnectionResetError:
                    return b""

        assert await asyncio.to_thread(dawdle) == b""


async def test_draining_finishes_what_was_said_and_takes_nobody_new(own: Live, parrot: Parrot) -> None:
    parrot.pause = 0.01
    pcm = speech(2.0)
    async with own.realtime(dialect="openai") as ws, own.realtime(dialect="vllm") as other:
        await hear(ws)
        await hear(other)
        await say(ws, type="session.update", session=GA_16K)
        await hear_until(ws, "updated")
        await say(ws, type=APPEND, audio=b64(pcm))
        await say(ws, type=COMMIT)
        await hear_until(ws, "committed")
        own.server._loop.call_soon_threadsafe(own.server.begin_drain)  # type: ignore[union-attr]
        completed = (await hear_until(ws, "completed"))[-1]
        assert completed["transcript"] == text_of(pcm)
        for one in (ws, other):
            with pytest.raises(ConnectionClosed):
                await hear(one)
            assert one.close_code == 1012


async def test_while_draining_nobody_new_is_taken(own: Live) -> None:
    own.gateway.draining = True
    with pytest.raises(InvalidStatus) as refused:
        async with own.realtime():
            pass
    assert refused.value.response.status_code == 503
    answer = await post(own, wav(speech(0.1)))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    async with httpx.AsyncClient() as http:
        assert (await http.get(f"{own.http}/readyz")).status_code == 503
