"""Speak a text that is still being written, sentence by sentence, to the loudspeaker or to a file.

python samples/stream_to_speaker.py [--file OUT.wav]
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rillvox import TTS
from rillvox.codec.dumps import write_wav

TEXT = "This text comes word by word, as from a chat. As soon as a sentence is whole, it is spoken. "


def typed() -> Iterator[str]:
    """The text as somebody types it."""
    for word in TEXT.split(" "):
        time.sleep(0.02)
        yield word + " "


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--file", type=Path, help="write here in place of playing")
asked = parser.parse_args()

tts = TTS.load()
begun = time.monotonic()
if asked.file:
    pieces = []
    for piece in tts.stream(typed(), "kathleen"):
        if not pieces:
            print(f"first audio after {time.monotonic() - begun:.2f} s")
        pieces.append(piece.samples)
    write_wav(asked.file, np.concatenate(pieces))
    print(f"wrote {asked.file}")
else:
    from rillvox.commands.loudspeaker import open_loudspeaker

    with open_loudspeaker() as loudspeaker:
        for piece in tts.stream(typed(), "kathleen"):
            loudspeaker.play(piece.samples)
        loudspeaker.drain()
