"""`TTS`: text in, speech out, in a voice.

    tts = TTS.load()
    audio = tts.synthesize("Hello there.", voice="kathleen").audio

Text is cut into sentences (`chunks.py`), each read (`script.py`) and spoken after the voice alone, and every
frame of 80 ms is given out as soon as it is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..audio import Audio, Source, read_audio
from ..codec.checkpoint import PARAMS
from ..codec.config import SAMPLE_RATE
from ..codec.stream import Codec
from ..errors import CheckpointError, TextError, VoiceError
from ..kernels.fused import FusedStack
from ..kernels.section import read_json
from .aligned_speaking import AlignedSpeaking, pack_speaker
from .chunks import Chunk, Chunker
from .config import END, SPECIAL
from .model import SpeakerModel
from .own import is_own, load_own
from .pronounce import Pronouncer
from .reference import prepare_reference
from .script import Script, script
from .shaping import Shaper
from .speaking import Manner
from .tokens import STOP
from .voices import Voice

DEFAULT_MODEL = "tts-en"
DEFAULT_VOICE = "kathleen"
VOICE_SECONDS = 6.0  # of a reference that the model hears
FRAMES_A_TOKEN, FRAMES_EXTRA = 6, 40  # a sentence of so many tokens is spoken in fewer frames, or not at all

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class SpokenWord:
    """A piece of the text as typed, and when it is said, in seconds from the begin of the audio."""

    text: str
    source: tuple[int, int]
    start: float
    end: float


@dataclass(frozen=True)
class Piece:
    """A part of what is spoken, as it is given out."""

    samples: NDArray[np.float32]
    words: list[SpokenWord] = field(default_factory=list[SpokenWord])
    finish: Finish | None = None  # of the sentence that ends here


@dataclass(frozen=True)
class Synthesis:
    """What `TTS.synthesize` gives: 24 kHz audio, when each word is said, and why it ended."""

    audio: Audio
    words: list[SpokenWord]
    finish_reason: Finish
    seed: int
    notes: list[str] = field(default_factory=list[str])


class TTS:
    """A speaker with its codec, ready to use; see the module's text."""

    def __init__(self, model: SpeakerModel, codec: Codec, folder: Path) -> None:
        self.model, self.codec, self.folder = model, codec, folder
        self.pronouncer = Pronouncer.load(folder / "words.safetensors")
        self.fused: FusedStack | None = None

    @classmethod
    def load(cls, model: str | Path = DEFAULT_MODEL, *, weights: str | None = None) -> TTS:
        """Load a speaker that comes along by name, or the one in a model folder.

        Args:
            weights: "int8" for weights in int8, the default on a CPU, or "float32".

        Raises:
            CheckpointError: there is no such model, or its files are not whole.
        """
        folder = Path(model)
        if isinstance(model, str) and not folder.exists():
            shipped = resources.files("rillvox") / "weights" / model
            if "/" in model or not shipped.is_dir():
                raise CheckpointError(f"{model}: no such speaker comes along, and there is no such folder")
            folder = Path(str(shipped))
        if not is_own(read_json(folder / PARAMS)):
            raise CheckpointError(f"{folder}: is no speaker of rillvox's own")
        speaker, codec = load_own(folder, weights=weights)
        tts = cls(speaker, codec, folder)
        if weights != "float32":
            _ = tts.fingerprint  # of the weights as they are stored
            tts.fused = pack_speaker(speaker)
        return tts

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of the model that a voice belongs to."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            if name.startswith(("backbone", "frame_embedding", "text")):
                digest.update(name.encode())
                digest.update(value.detach().float().cpu().numpy().tobytes())
        digest.update(self.codec.fingerprint.encode())
        return digest.hexdigest()[:32]

    @property
    def voices(self) -> list[str]:
        """Names of the voices that come along."""
        return sorted(path.stem for path in (self.folder / "voices").glob("*.safetensors"))

    def voice(self, voice: Voice | str | Path) -> Voice:
        """A voice by its name, or from its file.

        Raises:
            VoiceError: there is none of that name, or the file is no voice of this model.
        """
        if isinstance(voice, Voice):
            if voice.model != self.fingerprint:
                raise VoiceError(f"{voice.name}: is a voice of another model; clone it again with this one")
            return voice
        path = Path(voice)
        if isinstance(voice, str) and voice in self.voices:
            path = self.folder / "voices" / f"{voice}.safetensors"
        elif not path.exists():
            raise VoiceError(
                f"{voice}: no such voice; there are {', '.join(self.voices)}, and files of `rillvox clone`"
            )
        return Voice.load(path, self.fingerprint)

    def clone(
        self,
        source: Audio | Source,
        *,
        consent: str,
        name: str | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> Voice:
        """A voice of 3 to 30 seconds of somebody speaking.

        Args:
            consent: who speaks, and that they allow it; kept in the voice.
            name: of the voice; None: the file's.
            record: more to be kept, such as when it was made.

        Raises:
            VoiceError: no consent, or a recording that is too short, too long or holds no speech.
            AudioError: a recording that can't be read.
        """
        if not consent.strip():
            raise VoiceError(
                "consent is missing: say who speaks in the reference, and that they allow their voice "
                "to be cloned"
            )
        audio = source if isinstance(source, Audio) else read_audio(source)
        reference = prepare_reference(audio, VOICE_SECONDS)
        codes = self.codec.encode(reference.samples).values
        codes = codes[: max(1, len(reference.samples) // self.codec.config.frame)]
        kept: dict[str, Any] = {
            "consent": consent.strip(),
            "source": Path(source).name if isinstance(source, str | Path) else "audio",
            "sha256": hashlib.sha256(audio.samples.tobytes()).hexdigest(),
            "seconds": round(reference.seconds_given, 2),
            "used_seconds": round(len(reference.samples) / SAMPLE_RATE, 2),
            "warnings": reference.warnings,
            **(record or {}),
        }
        if name is None:
            name = Path(source).stem if isinstance(source, str | Path) else "voice"
        return self.remember(Voice(name, self.fingerprint, torch.as_tensor(codes.copy()), record=kept))

    def remember(self, voice: Voice) -> Voice:
        """The voice with what the model knows once it has heard it, so that it is never read again."""
        assert voice.codes is not None
        rows = self.model.frame_embedding(voice.codes.long() + SPECIAL)
        engine = self.engine()
        engine.read(0, rows.detach())
        return replace(voice, state=engine.heard(0, len(rows)))

    def engine(self) -> AlignedSpeaking:
        """A slot of its own: whoever streams shares nothing but weights."""
        return AlignedSpeaking(self.model, fused=self.fused)

    def synthesize(
        self,
        text: str,
        voice: Voice | str | Path = DEFAULT_VOICE,
        *,
        seed: int = 0,
        manner: Manner | None = None,
        lexicon: Mapping[str, str] | None = None,
    ) -> Synthesis:
        """Speak a text.

        Args:
            seed: the same one gives the same audio.
            manner: temperature, steps and more; its seed is `seed`.
            lexicon: written forms and how to say them, see `spoken_lexicon`.

        Raises:
            TextError: nothing in the text can be said.
            VoiceError: no such voice.
        """
        samples: list[NDArray[np.float32]] = []
        words: list[SpokenWord] = []
        finish: Finish = "stop"
        for piece in self.stream(text, voice, seed=seed, manner=manner, lexicon=lexicon):
            samples.append(piece.samples)
            words += piece.words
            if piece.finish == "length":
                finish = "length"
        audio = Audio(np.concatenate(samples), SAMPLE_RATE)
        return Synthesis(audio, words, finish, seed)

    def stream(
        self,
        text: str | Iterable[str],
        voice: Voice | str | Path = DEFAULT_VOICE,
        *,
        seed: int = 0,
        manner: Manner | None = None,
        lexicon: Mapping[str, str] | None = None,
    ) -> Iterator[Piece]:
        """Speak a text, or one that comes in parts, piece by piece; see `synthesize`.

        Leave the loop to cancel: nothing is spoken ahead.
        """
        chosen = self.voice(voice)
        if chosen.state is None:
            chosen = self.remember(chosen)
        spoken = _Spoken(self, chosen, replace(manner or self.manner, seed=seed), lexicon)
        chunker = Chunker()
        for part in [text] if isinstance(text, str) else text:
            for chunk in chunker.feed(part):
                yield from spoken.chunk(chunk)
        for chunk in chunker.finish():
            yield from spoken.chunk(chunk)
        if not spoken.said:
            raise TextError("there is nothing to say in this text")

    @property
    def manner(self) -> Manner:
        """How the model speaks when nobody asks for anything."""
        return Manner(temperature=0.3, noise=0.7)


class _Spoken:
    """One text on its way into speech."""

    def __init__(self, tts: TTS, voice: Voice, manner: Manner, lexicon: Mapping[str, str] | None) -> None:
        self.tts, self.voice, self.manner, self.lexicon = tts, voice, manner, lexicon
        self.pronouncer = tts.pronouncer.using(lexicon) if lexicon else tts.pronouncer
        self.engine = tts.engine()
        self.samples = 0  # given out so far
        self.sentence = 0
        self.said = False
        self._given = 0  # words of the sentence given out

    def chunk(self, chunk: Chunk) -> Iterator[Piece]:
        """Speak a chunk, or be silent for a pause."""
        if chunk.pause is not None:
            quiet = np.zeros(round(chunk.pause * SAMPLE_RATE), np.float32)
            self.samples += len(quiet)
            yield Piece(quiet)
            return
        read = script(chunk.text, self.pronouncer.placed, self.lexicon)
        if read.tokens:
            self.said = True
            yield from self._sentence(read, chunk.source[0])

    def _sentence(self, read: Script, offset: int) -> Iterator[Piece]:
        engine, codec = self.engine, self.tts.codec
        # Sentences of one text draw differently, and each the same whatever came before.
        seed = (self.manner.seed + 0x9E3779B97F4A7C15 * self.sentence) % (1 << 63)
        self.sentence += 1
        assert self.voice.state is not None
        engine.open(0, replace(self.manner, seed=seed), self.voice.state)
        engine.say(0, [*read.tokens, STOP], whole=True)
        active = torch.ones(1, dtype=torch.bool)
        decoder = codec.stream_decode()
        shaper = Shaper()
        begin = self.samples
        starts: list[int] = []
        ends: list[int] = []
        self._given = 0
        limit = FRAMES_A_TOKEN * len(read.tokens) + FRAMES_EXTRA
        finish: Finish = "length"
        for frame in range(limit):
            pointer = int(engine.pointer[0])
            while len(starts) < len(read.words) and pointer > read.words[len(starts)].first:
                starts.append(frame)
            # A word is over when what follows it begins: a word, a pause, or the end of the text.
            while len(ends) < len(starts) and pointer > read.words[len(ends)].last:
                ends.append(frame)
            codes = engine.tick(active)[0]
            if int(codes[0]) == END:
                finish = "stop"
                break
            samples = decoder.feed((codes - SPECIAL)[None].to(torch.int16).numpy())
            samples = shaper.shape(samples)
            self.samples += len(samples)
            yield Piece(samples, self._words(read, starts, ends, begin, offset))
        samples = shaper.finish(decoder.finish())
        self.samples += len(samples)
        ends += [limit] * (len(starts) - len(ends))  # what was cut off
        yield Piece(samples, self._words(read, starts, ends, begin, offset), finish)

    def _words(
        self, read: Script, starts: list[int], ends: list[int], begin: int, offset: int
    ) -> list[SpokenWord]:
        """Words that are over and were not given out; frames from the sample `begin` on."""
        found: list[SpokenWord] = []
        frame = self.tts.codec.config.frame
        for number in range(self._given, len(ends)):
            word = read.words[number]
            start, end = starts[number] * frame, ends[number] * frame
            found.append(
                SpokenWord(
                    word.text,
                    (word.source[0] + offset, word.source[1] + offset),
                    (begin + start) / SAMPLE_RATE,
                    (begin + end) / SAMPLE_RATE,
                )
            )
        self._given = len(ends)
        return found


__all__ = ["TTS", "Piece", "SpokenWord", "Synthesis"]
