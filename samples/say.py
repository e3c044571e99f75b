"""Say a sentence in a voice that comes along: a wav, a picture, and when each word is said.

python samples/say.py [TEXT] [--voice NAME] [--out FOLDER]
"""

import argparse
from pathlib import Path

from rillvox import TTS
from rillvox.codec.dumps import picture, write_wav

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("text", nargs="?", default="Good morning! The train to Boston leaves at 9:30.")
parser.add_argument("--voice", default="kathleen")
parser.add_argument("--out", type=Path, default=Path())
asked = parser.parse_args()

tts = TTS.load()
speech = tts.synthesize(asked.text, asked.voice, seed=1)
for word in speech.words:
    print(f"{word.start:6.2f} s  {word.text}")
write_wav(asked.out / "said.wav", speech.audio.samples)
picture(asked.out / "said.png", [(f"{asked.voice}: {asked.text[:60]}", speech.audio.samples)])
print(f"wrote {asked.out / 'said.wav'} and {asked.out / 'said.png'}")
