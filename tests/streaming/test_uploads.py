"""Files over HTTP, with a listener without a model."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2 as httpx
import pytest
import soundfile as sf
from fastapi import Request
from serving.clients import post, speech, text_of, vllm_text, wav
from serving.live import Live, serving
from serving.parrot import Parrot

from rillvox.streaming.dialects.http_errors import HttpError
from rillvox.streaming.settings import GatewaySettings
from rillvox.streaming.uploads import read_upload


async def test_a_file_is_transcribed_in_every_format(live: Live) -> None:
    pcm = speech(0.5)
    text = text_of(pcm)
    answers = {
        form: await post(live, wav(pcm), response_format=form) for form in ("json", "text", "srt", "vtt")
    }
    assert {answer.status_code for answer in answers.values()} == {200}
    assert answers["json"].json() == {"text": text, "usage": {"type": "duration", "seconds": 0.5}}
    assert answers["text"].text == text + "\n"
    assert answers["vtt"].text.startswith("WEBVTT")
    verbose = (await post(live, wav(pcm), response_format="verbose_json")).json()
    assert verbose["text"] == text
    assert answers["json"].headers["x-request-id"].startswith("req_")


async def test_a_file_streams_its_text(live: Live) -> None:
    answer = await post(live, wav(speech(0.5)), stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "transcript.text.done"
    assert "".join(e["delta"] for e in events[:-1]) == events[-1]["text"] == text_of(speech(0.5))


def cut_short(form: str) -> bytes:
    file = io.BytesIO()
    sf.write(file, speech(5.0), 16000, format=form)
    return file.getvalue()[: len(file.getvalue()) * 7 // 10]


@pytest.mark.parametrize("form", ["FLAC", "MP3"])
async def test_an_upload_cut_short_says_how_much_could_be_read(live: Live, form: str) -> None:
    answer = await post(live, cut_short(form))
    assert answer.status_code == 415
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_media", "file")
    told = re.fullmatch(
        r".*: only (3\.\d\d) of 5\.\d\d s could be read; the file seems cut short", error["message"]
    )
    assert told, error["message"]
    answer = await post(live, cut_short(form), stream="true")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    # Whether some text or the end of the file comes first is a race.
    assert (events or [answer.json()])[-1]["error"] == error


HUGE = bytes(3 << 20)
UPLOADS: list[tuple[str, bytes | None, dict[str, str], int, str | None]] = [
    ("nothing", None, {}, 400, None),
    ("empty", b"", {}, 400, "empty_file"),
    ("garbage", bytes(range(256)) * 50, {}, 415, "unsupported_media"),
    ("header only", wav(speech(0))[:44], {}, 415, "unsupported_media"),
    ("text", b"hello, this is no audio at all, is it?" * 10, {}, 415, "unsupported_media"),
    ("too large", HUGE, {}, 413, "payload_too_large"),
    ("unknown model", wav(speech(0.1)), {"model": "nobody"}, 404, "model_not_found"),
    ("unknown format", wav(speech(0.1)), {"response_format": "pdf"}, 400, "unsupported_response_format"),
    ("speakers", wav(speech(0.1)), {"response_format": "diarized_json"}, 400, "unsupported_response_format"),
    ("delay", wav(speech(0.1)), {"delay_ms": "soon"}, 400, None),
    ("odd delay", wav(speech(0.1)), {"delay_ms": "500"}, 400, None),
]


@pytest.mark.parametrize("stream", ["false", "true"])
@pytest.mark.parametrize(("what", "file", "fields", "status", "code"), UPLOADS, ids=[u[0] for u in UPLOADS])
async def test_bad_uploads_are_refused_in_the_shape_of_openai(
    live: Live,
    what: str,
    file: bytes | None,
    fields: dict[str, str],
    status: int,
    code: str | None,
    stream: str,
) -> None:
    neighbour = asyncio.create_task(vllm_text(live, speech(0.5, 9), pieces=10, pause=0.01))
    answer = await post(live, file, stream=stream, **fields)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert code is None or error["code"] == code
    assert await neighbour == text_of(speech(0.5, 9))


async def test_an_empty_file_is_not_called_missing(live: Live) -> None:
    told = {what: (await post(live, file)).json()["error"] for what, file in (("no", None), ("empty", b""))}
    assert (told["no"]["message"], told["no"]["param"]) == ("Missing required part: file", "file")
    assert (told["empty"]["message"], told["empty"]["param"]) == (
        "the file is empty: it has no bytes",
        "file",
    )


async def test_the_size_is_counted_while_reading() -> None:
    """A chunked body has no Content-Length; what is beyond the limit is not read."""
    asked = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        part = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        return {
            "type": "http.request",
            "body": part if asked == 1 else bytes(65536),
            "more_body": asked < 800,
        }

    headers = [(b"content-type", b"multipart/form-data; boundary=B")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    with pytest.raises(HttpError) as refused:
        await read_upload(request, GatewaySettings(upload_bytes=1 << 20))
    assert refused.value.status == 413
    assert asked < 25


async def test_a_form_too_large_without_a_length_is_refused_over_the_wire(live: Live) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(80):
            yield bytes(65536)
        yield b"\r\n--B--\r\n"

    url, headers = f"{live.http}/v1/audio/transcriptions", {"Content-Type": "multipart/form-data; boundary=B"}
    async with httpx.AsyncClient() as http:
        assert (await http.post(url, content=body(), headers=headers)).status_code == 413


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=B", b"no boundary at all"),
    ],
)
async def test_a_broken_form_is_a_400(live: Live, content_type: str, body: bytes) -> None:
    async with httpx.AsyncClient() as http:
        url = f"{live.http}/v1/audio/transcriptions"
        answer = await http.post(url, content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_a_file_longer_than_allowed_is_refused(parrot: Parrot) -> None:
    with serving(lambda: parrot, upload_seconds=1.0) as live:
        answer = await post(live, wav(speech(1.5)))
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "audio_too_long"


async def test_a_client_that_hangs_up_frees_the_seat_of_its_file(parrot: Parrot) -> None:
    parrot.pause = 0.02
    with serving(lambda: parrot) as live:
        with pytest.raises(httpx.ReadTimeout):
            async with httpx.AsyncClient(timeout=0.5) as http:
                await http.post(
                    f"{live.http}/v1/audio/transcriptions", files={"file": ("a.wav", wav(speech(60)))}
                )
        await asyncio.to_thread(live.wait_idle, 2)


async def test_two_uploads_take_turns_and_a_third_is_refused(parrot: Parrot) -> None:
    parrot.pause = 0.005
    with serving(lambda: parrot, file_queue=1) as live:
        jobs = [asyncio.create_task(post(live, wav(speech(5, seed)))) for seed in range(3)]
        statuses = sorted([(await job).status_code for job in jobs])
        assert statuses == [200, 200, 503]
