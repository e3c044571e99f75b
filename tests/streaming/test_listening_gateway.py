"""The gateway with a small listener of random weights: streams are heard as if each were alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from laws.listening import small, waveform
from serving.clients import APPEND, COMMIT, b64, wav
from serving.live import Live, hear, hear_until, say, serving

from rillvox.asr.stream import ASR
from rillvox.streaming.hearing import listen_with
from rillvox.streaming.settings import GatewaySettings


@pytest.fixture(scope="module")
def asr() -> ASR:
    torch.set_num_threads(1)
    return ASR(small().model, small().tokenizer)


@pytest.fixture(scope="module")
def shared(asr: ASR) -> Iterator[Live]:
    settings = GatewaySettings(slots=5, file_slots=1)
    with serving(lambda: listen_with(asr.model, asr.tokenizer, settings), slots=5) as live:
        yield live


def babble(seconds: float, seed: int) -> np.ndarray:
    """Chirping bursts with pauses: s16 [n]; at 24 kHz they chirp higher."""
    return (waveform(seconds, seed) * 32767).astype("<i2")


def alone(asr: ASR, pcm: np.ndarray, delay_ms: int = 480, rate: int = 16000) -> str:
    """The text of a session that has the model to itself."""
    session = asr.stream(delay_ms)
    session.feed(pcm.astype(np.float32) / 32768, rate)
    return session.finish().text


async def listen(live: Live, pcm: np.ndarray, random: np.random.Generator, delay_ms: int) -> str:
    async with live.realtime(dialect="vllm") as ws:
        await hear(ws)
        await say(ws, type="session.update", model="voxtral", delay_ms=delay_ms)
        await say(ws, type=COMMIT)
        cuts = np.sort(random.integers(1, len(pcm), 12))
        for piece in np.split(pcm, cuts):
            if len(piece):
                await say(ws, type=APPEND, audio=b64(piece))
            await asyncio.sleep(float(random.uniform(0, 0.03)))
        await say(ws, type=COMMIT, final=True)
        messages = await hear_until(ws, "transcription.done")
        assert "".join(m.get("delta", "") for m in messages) == messages[-1]["text"]
        return messages[-1]["text"]


async def test_streams_that_come_and_go_are_heard_as_if_alone(live: Live, asr: ASR) -> None:
    random = np.random.default_rng(3)
    sounds = [babble(float(random.uniform(0.4, 1.5)), seed) for seed in range(8)]
    delays = [80, 240, 480, 480] * 2
    expected = [alone(asr, *job) for job in zip(sounds, delays, strict=True)]

    async def regular(seed: int) -> None:
        for turn in (seed, seed + 4):
            await asyncio.sleep(float(random.uniform(0, 0.3)))
            assert await listen(live, sounds[turn], random, delays[turn]) == expected[turn]

    async def leaver() -> None:
        for _ in range(3):
            async with live.realtime(dialect="vllm") as ws:
                await say(ws, type=COMMIT)
                await say(ws, type=APPEND, audio=b64(sounds[0]))
                await asyncio.sleep(float(random.uniform(0, 0.2)))

    await asyncio.gather(*(regular(seed) for seed in range(4)), leaver())


async def test_equality_is_not_for_free(asr: ASR) -> None:
    """One sample in forty flipped is another text: the check above can fail."""
    pcm = babble(1.5, 1)
    changed = pcm.copy()
    changed[::40] = -changed[::40]
    assert alone(asr, pcm) != alone(asr, changed)


async def test_a_session_at_24_khz_is_heard_as_one_alone_is(live: Live, asr: ASR) -> None:
    pcm = babble(1.8, 5)
    async with live.realtime(intent="transcription") as ws:
        await hear(ws)
        await say(
            ws,
            type="session.update",
            session={"type": "transcription", "audio": {"input": {"turn_detection": None}}},
        )
        for piece in np.array_split(pcm, 17):
            await say(ws, type=APPEND, audio=b64(piece))
        await say(ws, type=COMMIT)
        completed = (await hear_until(ws, "completed"))[-1]
    assert completed["transcript"] == alone(asr, pcm, rate=24000)


async def test_a_turn_ends_in_silence_without_a_commit(live: Live) -> None:
    async with live.realtime(intent="transcription") as ws:
        await hear(ws)
        vad = {"type": "server_vad", "silence_duration_ms": 400}
        settings = {"type": "transcription", "audio": {"input": {"turn_detection": vad}}}
        await say(ws, type="session.update", session=settings)
        await say(ws, type=APPEND, audio=b64(np.concatenate([babble(1.2, 1), np.zeros(36000, "<i2")])))
        kinds = [m["type"].rpartition(".")[2] for m in await hear_until(ws, "completed")]
    steps = ["speech_started", "speech_stopped", "committed", "completed"]
    assert [kind for kind in kinds if kind in steps] == steps


@pytest.mark.client
async def test_the_official_sdk_transcribes_a_file_in_every_format(live: Live, asr: ASR) -> None:
    from openai import AsyncOpenAI, BadRequestError, NotFoundError

    pcm = babble(1.0, 7)
    text = alone(asr, pcm)
    async with AsyncOpenAI(api_key="none", base_url=f"{live.http}/v1", max_retries=0) as client:
        create = client.audio.transcriptions.create
        file = ("speech.wav", wav(pcm))
        assert (await create(model="whisper-1", file=file)).text == text
        verbose = await create(
            model="whisper-1",
            file=file,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
        assert verbose.text == text
        assert verbose.duration == 1.0
        assert verbose.words
        assert verbose.segments
        assert (await create(model="whisper-1", file=file, response_format="text")).strip() == text.strip()
        assert "-->" in await create(model="whisper-1", file=file, response_format="srt")
        assert (await create(model="whisper-1", file=file, response_format="vtt")).startswith("WEBVTT")
        stream = await create(model="gpt-4o-transcribe", file=file, stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "transcript.text.done"
        assert (
            "".join(getattr(event, "delta", "") for event in events[:-1])
            == getattr(events[-1], "text", None)
            == text
        )
        assert [model.id async for model in client.models.list()] == ["asr-en"]
        with pytest.raises(BadRequestError):
            await create(model="whisper-1", file=file, response_format="diarized_json")
        with pytest.raises(NotFoundError):
            await create(model="nobody", file=file)


@pytest.mark.client
@pytest.mark.parametrize("opening", [{"extra_query": {"intent": "transcription"}}, {"model": "asr-en"}])
async def test_the_official_sdk_runs_a_realtime_transcription(live: Live, asr: ASR, opening: dict) -> None:
    from openai import AsyncOpenAI

    pcm = babble(2.0, 8)
    client = AsyncOpenAI(api_key="none", base_url=f"{live.http}/v1")
    async with client, client.realtime.connect(**opening) as connection, asyncio.timeout(120):
        created = await connection.recv()
        assert created.type == "session.created"
        await connection.session.update(
            session={
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24000},
                        "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
                        "turn_detection": None,
                    }
                },
            }
        )
        assert (await connection.recv()).type == "session.updated"
        for piece in np.array_split(pcm, 15):
            await connection.input_audio_buffer.append(audio=b64(piece))
        await connection.input_audio_buffer.commit()
        deltas = transcript = ""
        async for event in connection:
            if event.type == "conversation.item.input_audio_transcription.delta":
                deltas += event.delta or ""
            elif event.type == "conversation.item.input_audio_transcription.completed":
                transcript = event.transcript
                break
            assert event.type != "error"
        assert transcript == deltas == alone(asr, pcm, rate=24000)


@pytest.mark.client
async def test_the_official_sdk_reads_our_refusals(live: Live) -> None:
    from openai import AsyncOpenAI, InternalServerError

    live.gateway.draining = True
    try:
        async with AsyncOpenAI(api_key="none", base_url=f"{live.http}/v1", max_retries=0) as client:
            with pytest.raises(InternalServerError) as refused:
                await client.audio.transcriptions.create(
                    model="whisper-1", file=("a.wav", wav(babble(0.2, 1)))
                )
            assert refused.value.code == "draining"
            assert int(refused.value.response.headers["retry-after"]) > 0
    finally:
        live.gateway.draining = False
