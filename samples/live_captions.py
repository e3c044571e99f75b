"""Stream a recording to a rillvox gateway as if it were spoken now, and print the words as they come.

    python samples/live_captions.py [ws://HOST:PORT/v1/realtime] [RECORDING]

If a text of the same name lies beside the recording, the word error rate against it follows.
"""

import asyncio
import base64
import json
import sys
from pathlib import Path

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from rillvox.audio import read_audio
from rillvox.training.normalize import normalize
from rillvox.training.score import word_edits

RATE, BLOCK = 24000, 1920  # the protocol's own rate; 80 ms
SETTINGS = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}


async def speak(socket: ClientConnection, pcm: np.ndarray) -> None:
    """Send 16-bit samples at the pace of speech, then ask for the final text."""
    clock = asyncio.get_running_loop()
    start = clock.time()
    for at in range(0, len(pcm), BLOCK):
        audio = base64.b64encode(pcm[at : at + BLOCK].tobytes()).decode()
        await socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        await asyncio.sleep(start + (at + BLOCK) / RATE - clock.time())
    await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))


async def captions(url: str, recording: Path) -> str:
    """The final text, after printing it word by word."""
    pcm = np.clip(np.rint(read_audio(recording, RATE).samples * 32768), -32768, 32767).astype("<i2")
    async with connect(url) as socket:
        await socket.send(json.dumps({"type": "session.update", "session": SETTINGS}))
        speaker = asyncio.create_task(speak(socket, pcm))
        async for message in socket:
            event = json.loads(message)
            if event["type"].endswith("transcription.delta"):
                print(event["delta"], end="", flush=True)
            elif event["type"].endswith("transcription.completed"):
                await speaker
                return event["transcript"]
            elif event["type"] == "error" or event["type"].endswith("failed"):
                sys.exit(f"\n{event['error']['message']}")
    sys.exit("\nthe gateway closed the connection before the final text")


def main() -> None:
    """Print the captions of one recording, and how far they are from its text."""
    url = sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8000/v1/realtime"
    beside = Path(__file__).with_name("recordings") / "printing.flac"
    recording = Path(sys.argv[2]) if len(sys.argv) > 2 else beside
    heard = asyncio.run(captions(url, recording))
    print()
    if (text := recording.with_suffix(".txt")).exists():
        said = text.read_text().strip()
        edits = word_edits(normalize(said), normalize(heard))
        print(
            f"\nWas said: {said}\nWord error rate: {edits.rate:.0%} ({edits.errors} of {edits.length} words)"
        )


main()
