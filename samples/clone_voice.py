"""Clone a voice from one recording, keep it, say a sentence with it, and write down what is heard of that.

python samples/clone_voice.py [RECORDING] [--consent TEXT] [--say TEXT] [--out FOLDER]
"""

import argparse
from pathlib import Path

from rillvox import ASR, TTS
from rillvox.audio import read_audio
from rillvox.codec.dumps import picture, write_wav
from rillvox.tts.checking import check

HERE = Path(__file__).parent

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("recording", nargs="?", type=Path, default=HERE / "recordings" / "kathleen.flac")
parser.add_argument("--consent", default="Kathleen donated her recordings for the making of voices, CC0 1.0")
parser.add_argument("--say", default="This voice was made from six seconds of speech.")
parser.add_argument("--out", type=Path, default=Path())
asked = parser.parse_args()
asked.out.mkdir(parents=True, exist_ok=True)

tts, asr = TTS.load(), ASR.load()
# With a listener the voice is tuned to the recording: 10 to 30 s more, and more like the person.
voice = tts.clone(asked.recording, consent=asked.consent, listener=asr)
for warning in voice.record["warnings"]:
    print("warning:", warning)
voice.save(asked.out / f"{voice.name}.safetensors")
kept = tts.voice(asked.out / f"{voice.name}.safetensors")
# It listens to itself, and speaks anew where words are missing.
speech = check(tts, asked.say, kept, lambda said: asr.transcribe(said.audio).text, tries=5).synthesis
write_wav(asked.out / "cloned.wav", speech.audio.samples)
before = read_audio(asked.recording, 24000).samples
picture(asked.out / "cloned.png", [("the reference", before), ("the clone", speech.audio.samples)])
print("heard:", asr.transcribe(speech.audio).text)
print(f"wrote {asked.out / f'{voice.name}.safetensors'}, cloned.wav and cloned.png beside it")
