"""Speak a recording to a rillvox gateway, print the words as they come, and count the errors."""

import asyncio
import base64
import json
import sys
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect

from rillvox.audio import read_audio
from rillvox.training.normalize import normalize
from rillvox.training.score import word_edits


async def speak(socket: ClientConnection, pcm: bytes) -> None:
    for at in range(0, len(pcm), 3840):  # 80 ms at the protocol's 24 kHz, 16 bits
        audio = base64.b64encode(pcm[at : at + 3840]).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        await asyncio.sleep(0.08)
    await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))


async def captions(url: str, recording: Path) -> None:
    pcm = (read_audio(recording, 24000).samples.clip(-1, 1) * 32767).astype("<i2").tobytes()
    async with connect(url) as socket:
        session = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
        await socket.send(json.dumps({"type": "session.update", "session": session}))
        speaker = asyncio.create_task(speak(socket, pcm))
        event = json.loads(await socket.recv())
        while not event["type"].endswith(("completed", "failed", "error")):
            print(event.get("delta", ""), end="", flush=True)
            event = json.loads(await socket.recv())
        await speaker
    if "error" in event:
        sys.exit(event["error"]["message"])
    said = recording.with_suffix(".txt").read_text().strip()
    edits = word_edits(normalize(said), normalize(event["transcript"]))
    print(f"\n\nWhat was said: {said}")
    print(f"Word error rate: {edits.rate:.0%}, {edits.errors} of {edits.length} words")


here = Path(__file__).parent
asyncio.run(captions(sys.argv[1], Path(sys.argv[2] if sys.argv[2:] else here / "recordings/printing.flac")))
