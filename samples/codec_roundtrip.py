"""Code a recording frame by frame and back: a wav to hear, and a picture of before and after.

python samples/codec_roundtrip.py [RECORDING] [--model FOLDER] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np

from rillvox import Codec
from rillvox.audio import read_audio
from rillvox.codec.dumps import picture, write_wav
from rillvox.codec.measures import aligned, mel_db

HERE = Path(__file__).parent

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("recording", nargs="?", type=Path, default=HERE / "recordings" / "printing.flac")
parser.add_argument("--model", default="codec-24k", help="a codec with an encoder")
parser.add_argument("--out", type=Path, default=Path())
asked = parser.parse_args()

codec = Codec.load(asked.model)
before = read_audio(asked.recording, 24000).samples
ear, mouth = codec.stream_encode(), codec.stream_decode()
codes, parts = [], []
for begin in range(0, len(before), codec.config.frame):  # 80 ms at a time, as a live call would
    codes.append(ear.feed(before[begin : begin + codec.config.frame]))
    parts.append(mouth.feed(codes[-1]))
codes.append(ear.finish())
parts += [mouth.feed(codes[-1]), mouth.finish()]
after = np.concatenate(parts)[: len(before)]

frames = np.concatenate(codes)
bits = 8 * codec.layout.block_bytes(1) * len(frames)
seconds = len(before) / 24000
print(f"{seconds:.1f} s, {len(frames)} frames, {bits / seconds / 1000:.2f} kbit/s")
print(f"mel distance {mel_db(*aligned(before, after)):.2f} dB")
name = asked.recording.stem
write_wav(asked.out / f"{name}-decoded.wav", after)
picture(asked.out / f"{name}.png", [(f"{name}: recording", before), (f"{name}: decoded", after)])
print(f"wrote {asked.out / f'{name}-decoded.wav'} and {asked.out / f'{name}.png'}")
