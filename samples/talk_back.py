"""Listen to somebody, then repeat what they said in their own voice.

python samples/talk_back.py [RECORDING] --consent TEXT [--out FILE.wav]
"""

import argparse
from pathlib import Path

from rillvox import ASR, TTS
from rillvox.codec.dumps import write_wav

HERE = Path(__file__).parent

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("recording", nargs="?", type=Path, default=HERE / "recordings" / "kathleen.flac")
parser.add_argument("--consent", required=True, help="who speaks, and that they allow it")
parser.add_argument("--out", type=Path, default=Path("talk_back.wav"))
asked = parser.parse_args()

asr = ASR.load()
heard = asr.transcribe(asked.recording).text
print("heard:", heard)
tts = TTS.load()
voice = tts.clone(asked.recording, consent=asked.consent, listener=asr)
write_wav(asked.out, tts.synthesize(heard, voice).audio.samples)
print(f"wrote {asked.out}")
