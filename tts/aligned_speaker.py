"""A speaker of rillvox's own: text beside its frames (`aligned.py`), read as phones (`script.py`).

A text that comes in parts is spoken word by word (`word_feed.py`): a frame needs the tokens up to `ahead` of
its own, and waits for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..audio import Audio
from ..codec.checkpoint import WEIGHTS
from ..codec.config import SAMPLE_RATE
from ..codec.stream import Codec
from ..errors import ConfigError, VoiceError
from ..kernels.fused import FusedStack
from .aligned_speaking import AlignedSpeaking, pack_speaker
from .config import SPECIAL
from .guards import repeats
from .model import SpeakerModel
from .own import load_weights
from .pieces import Pause
from .pronounce import Pronouncer
from .reference import LONGEST, prepare_reference
from .script import Script, ScriptWord, script
from .speaking import Manner, of_sentence
from .telling import TimedWord
from .timbre import TIMBRES, Lesson, PhoneListener, Timbres, lesson_of, tuned
from .tokens import PHONES, STOP
from .voices import Voice
from .word_feed import Growing, WordFeed

FRAMES_A_TOKEN, FRAMES_EXTRA = 6, 40  # a sentence of so many tokens is spoken in fewer frames, or not at all


class AlignedSpeaker:
    """See the module's text; it speaks through `telling.py`."""

    hears = 8.0  # seconds of a reference
    manner = Manner(temperature=0.3, noise=0.5)

    def __init__(self, model: SpeakerModel, codec: Codec, folder: Path) -> None:
        self.model, self.codec, self.folder = model, codec, folder
        self.pronouncer = Pronouncer.load(folder / "words.safetensors")
        self.fused: FusedStack | None = None
        self._presets: dict[tuple[str, int], Voice] = {}

    def pack(self) -> None:
        """Weights in int8, for a CPU."""
        _ = self.fingerprint  # of the weights as they are stored
        self.fused = pack_speaker(self.model)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of the model that a voice belongs to."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            if name.startswith(("backbone", "frame_embedding", "text")):
                digest.update(name.encode())
                digest.update(value.detach().float().cpu().numpy().tobytes())
        digest.update(self.codec.fingerprint.encode())
        return digest.hexdigest()[:32]

    @property
    def voices(self) -> dict[str, Path]:
        """Files of the voices that come along, by name."""
        return {path.stem: path for path in (self.folder / "voices").glob("*.safetensors")}

    def preset(self, name: str) -> Voice:
        """A voice that comes along.

        Raises:
            VoiceError: its file is damaged, or of another model.
        """
        path = self.voices[name]
        key = name, path.stat().st_mtime_ns
        if key not in self._presets:
            # Stored without what the model knows of it, which is far larger; so it is read here, once.
            self._presets[key] = self.remember(Voice.load(path, self.fingerprint))
        return self._presets[key]

    def remember(self, voice: Voice) -> Voice:
        """The voice with what the model knows once it has heard it, so that it is never read again."""
        if voice.state is not None:
            return voice
        if voice.codes is not None:
            rows = self.model.frame_embedding(voice.codes.long() + SPECIAL).detach()
        else:
            rows = voice.embed(self.model)
        engine = self.engine()
        engine.read(0, rows)
        return replace(voice, state=engine.heard(0, len(rows)))

    @property
    def stored(self) -> str:
        """16 hexadecimal digits of the file of weights: a timbre is of one flow head."""
        return self._stored

    @cached_property
    def _stored(self) -> str:
        return hashlib.sha256((self.folder / WEIGHTS).read_bytes()).hexdigest()[:16]

    @property
    def can_tune(self) -> bool:
        """Whether it knows how people differ."""
        return (self.folder / TIMBRES).exists()

    def tune(self, audio: Audio, listener: PhoneListener) -> Tensor:
        """How its own a voice is, [dim]; see `timbre.py`.

        Raises:
            CheckpointError: how people differ is not known (see `can_tune`), or its file is damaged.
            VoiceError: what is heard in the recording is no speech.
        """
        timbres = Timbres.load(self.folder / TIMBRES, self.model.config.backbone.dim)
        lesson = self.lesson(audio, listener)
        return tuned(self._plain.flow, timbres, lesson)

    def lesson(self, audio: Audio, listener: PhoneListener) -> Lesson:
        """What a recording of 3 to 30 s teaches of a voice.

        Raises:
            VoiceError: it is too short, too long, or no phones are heard in it.
        """
        samples = prepare_reference(audio, LONGEST).samples
        codes = self.codec.encode(samples).values
        codes = torch.as_tensor(codes[: len(samples) // self.codec.config.frame].copy())
        phones = listener.phones(Audio(samples, SAMPLE_RATE))
        if not phones:
            raise VoiceError("no phones are heard in the reference; give a recording of somebody speaking")
        end = len(samples) / SAMPLE_RATE + 0.1
        if not all(
            1 <= heard.phone <= len(PHONES) and 0 <= heard.start <= heard.end <= end for heard in phones
        ):
            raise ConfigError(f"listener: phones are 1 to {len(PHONES)}, at seconds of the recording")
        return lesson_of(self._plain, codes, phones)

    @cached_property
    def _plain(self) -> SpeakerModel:
        """The weights as they are stored: int8 steps have no gradient."""
        return load_weights(self.model.config, self.folder) if self.fused is not None else self.model

    def engine(self, slots: int = 1) -> AlignedSpeaking:
        """Slots of its own: whoever streams shares nothing but weights."""
        return AlignedSpeaking(self.model, slots, fused=self.fused)

    def utterances(
        self, text: str | Iterable[str], voice: Voice, manner: Manner, lexicon: Mapping[str, str] | None
    ) -> Iterator[AlignedUtterance | Pause]:
        """Sentences to be spoken one after the other, and pauses."""
        pronouncer = self.pronouncer.using(lexicon) if lexicon else self.pronouncer
        heard = self.remember(voice).state
        assert heard is not None

        def read(part: str) -> Script:
            return script(part, pronouncer.placed, lexicon)

        engine = self.engine()
        feed = WordFeed.of(text, read) if isinstance(text, str) else WordFeed(text, read)
        sentences = 0
        for sentence in feed:
            if isinstance(sentence, Pause):
                yield sentence
                continue
            engine.open(0, of_sentence(manner, sentences), heard, voice.timbre)
            sentences += 1
            yield AlignedUtterance(engine, sentence)


class AlignedUtterance:
    """A sentence in slot 0 of an engine."""

    def __init__(self, engine: AlignedSpeaking, sentence: Growing) -> None:
        self._engine, self._sentence = engine, sentence
        self._active = torch.ones(1, dtype=torch.bool, device=engine.device)
        self._fed = 0  # tokens that the engine has
        self._starts: list[int] = []  # frames
        self._ends: list[int] = []
        self._told = 0  # words

    @property
    def limit(self) -> int | None:
        """See `Utterance`."""
        sentence = self._sentence
        return FRAMES_A_TOKEN * len(sentence.tokens) + FRAMES_EXTRA if sentence.whole else None

    @property
    def repeats(self) -> bool:
        """See `Utterance`."""
        return repeats([word.text for word in self._sentence.words])

    def frame(self, number: int) -> Tensor:
        """See `Utterance`."""
        while not self._ready():
            self._sentence.more(self._sentence)
        pointer, words = int(self._engine.pointer[0]), self._sentence.words
        starts, ends = self._starts, self._ends
        while len(starts) < len(words) and pointer > words[len(starts)].first:
            starts.append(number)
        # A word is over when what follows it begins: a word, a pause, or the end of the text.
        while len(ends) < len(starts) and pointer > words[len(ends)].last:
            ends.append(number)
        return self._engine.tick(self._active)[0]

    def _ready(self) -> bool:
        """Give the engine what has come; whether the next frame has all that it looks at."""
        sentence, engine = self._sentence, self._engine
        if not engine.text[0].whole:
            more = sentence.tokens[self._fed :]
            self._fed += len(more)
            engine.say(0, [*more, STOP] if sentence.whole else more, whole=sentence.whole)
        return engine.ready(0)

    def over(self, frame: int, *, last: bool) -> list[tuple[TimedWord, int, int]]:
        """See `Utterance`."""
        if last:
            self._ends += [frame] * (len(self._starts) - len(self._ends))  # what was cut off
        told, self._told = self._told, len(self._ends)
        words: list[ScriptWord] = self._sentence.words[told : self._told]
        return list(zip(words, self._starts[told:], self._ends[told:], strict=False))

    def close(self) -> None:
        """See `Utterance`."""
        self._engine.close(0)
