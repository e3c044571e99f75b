"""What clients of the gateway send: sound that a parrot can repeat, settings, one whole utterance."""

from __future__ import annotations

import asyncio
import base64
import io
import wave

import httpx2 as httpx
import numpy as np

from .live import Live, hear, hear_until, say
from .parrot import says

RATE = 16000
APPEND = "input_audio_buffer.append"
COMMIT = "input_audio_buffer.commit"
GA = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
GA_16K = {
    "type": "transcription",
    "audio": {"input": {"turn_detection": None, "format": {"type": "audio/pcm", "rate": 16000}}},
}


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """16-bit noise: what it is does not matter to a parrot."""
    return np.random.default_rng(seed).integers(-9000, 9000, round(seconds * RATE)).astype("<i2")


def text_of(pcm: np.ndarray) -> str:
    return says((pcm / 32768).astype(np.float32))


def b64(pcm: np.ndarray | bytes) -> str:
    return base64.b64encode(pcm if isinstance(pcm, bytes) else pcm.tobytes()).decode()


def wav(pcm: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(pcm.tobytes())
    return file.getvalue()


async def vllm_text(live: Live, pcm: np.ndarray, pieces: int = 5, pause: float = 0.0) -> str:
    """One utterance of a vLLM client."""
    async with live.realtime(dialect="vllm") as ws:
        assert (await hear(ws))["type"] == "session.created"
        await say(ws, type="session.update", model="voxtral")
        await say(ws, type="input_audio_buffer.commit")
        for piece in np.array_split(pcm, pieces):
            await say(ws, type="input_audio_buffer.append", audio=b64(piece))
            await asyncio.sleep(pause)
        await say(ws, type="input_audio_buffer.commit", final=True)
        messages = await hear_until(ws, "transcription.done")
        deltas = "".join(m["delta"] for m in messages if m["type"] == "transcription.delta")
        assert deltas == messages[-1]["text"]
        return deltas


async def post(live: Live, file: bytes | None, name: str = "a.wav", **fields: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as http:
        files = {"file": (name, file)} if file is not None else {"nothing": ("x", b"")}
        return await http.post(f"{live.http}/v1/audio/transcriptions", files=files, data=fields)
