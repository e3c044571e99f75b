"""`TTS`: text in, speech out, in a voice.

    tts = TTS.load()
    audio = tts.synthesize("Hello there.", voice="kathleen").audio

Text is cut into sentences (`chunks.py`), each spoken after the voice alone, and every frame of 80 ms is given
out as soon as it is there. What a model reads and how it is asked for frames is up to its kind: one of
rillvox's own (`aligned_speaker.py`), or one that is laid out as the released Voxtral TTS
(`prompted_speaker.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..audio import Audio, Source, read_audio
from ..codec.checkpoint import PARAMS
from ..codec.config import SAMPLE_RATE
from ..codec.stream import Codec
from ..errors import CheckpointError, ConfigError, TextError, VoiceError
from ..kernels.section import read_json
from .aligned_speaker import FRAMES_A_TOKEN, FRAMES_EXTRA, AlignedSpeaker
from .checkpoint import load_model
from .model import SpeakerModel
from .own import folder_of, is_own, load_own
from .params import MODEL_TYPE
from .pieces import Finish, Pause, Piece, SpokenWord, Synthesis, worst
from .prompted_speaker import PromptedSpeaker
from .reference import prepare_reference
from .speaking import Manner
from .telling import Cancel, Utterance, tell, until
from .timbre import TIMBRES, PhoneListener
from .voices import Voice

DEFAULT_MODEL = "tts-en"
DEFAULT_VOICE = "kathleen"
DEFAULT_VOICES = (DEFAULT_VOICE, "casual_female")  # of the default model, of the released one; else the first
STORED = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # weights of the released layout


class Speaker(Protocol):
    """What `TTS` asks of a kind of model."""

    hears: float
    manner: Manner

    @property
    def fingerprint(self) -> str: ...
    @property
    def voices(self) -> dict[str, Path]: ...
    def preset(self, name: str) -> Voice: ...
    def remember(self, voice: Voice) -> Voice: ...
    @property
    def can_tune(self) -> bool: ...
    @property
    def stored(self) -> str: ...
    def tune(self, audio: Audio, listener: PhoneListener) -> Tensor: ...
    def utterances(
        self, text: str | Iterable[str], voice: Voice, manner: Manner, lexicon: Mapping[str, str] | None
    ) -> Iterator[Utterance | Pause]: ...


class TTS:
    """A speaker with its codec, ready to use; see the module's text.

    `manner` is how it speaks where nobody asks for anything else.
    """

    def __init__(self, model: SpeakerModel, codec: Codec, folder: Path) -> None:
        """`folder`: where the model's voices are, and what it reads text with."""
        self.model, self.codec, self.folder = model, codec, folder
        kind = PromptedSpeaker if model.config.text is None else AlignedSpeaker
        self.speaker: Speaker = kind(model, codec, folder)
        self.manner = self.speaker.manner

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        weights: str | None = None,
        device: torch.device | str = "cpu",
    ) -> TTS:
        """Load a speaker that comes along by name, or the one in a model folder.

        Args:
            model: also the folder of a Voxtral TTS as it was released.
            weights: of rillvox's own speakers "int8", their default, or "float32"; of the released layout
                "bfloat16" or "float32", by default as they are stored on a GPU, and float32 on a CPU.
            device: where a model of the released layout runs; rillvox's own run on a CPU.

        Raises:
            CheckpointError: there is no such model, or its files are not whole.
            ConfigError: weights or a device that there are not.
        """
        folder = folder_of(model)
        document = read_json(folder / PARAMS)
        if is_own(document):
            return cls._own(folder, weights, device)
        if document.get("model_type") != MODEL_TYPE:
            raise CheckpointError(
                f"{folder}: is no speaker; {PARAMS} has the model_type {document.get('model_type')!r}"
            )
        if weights is not None and weights not in STORED:
            raise ConfigError(f"weights of {folder.name} may be {' or '.join(STORED)}, got {weights!r}")
        dtype = None if weights is None else STORED[weights]
        speaker, codec = load_model(folder, dtype=dtype, device=_device(device))
        return cls(speaker, Codec(codec), folder)

    @classmethod
    def _own(cls, folder: Path, weights: str | None, device: torch.device | str) -> TTS:
        if weights not in (None, "int8", "float32"):
            raise ConfigError(f"weights of {folder.name} may be int8 or float32, got {weights!r}")
        if _device(device).type != "cpu":
            raise ConfigError(f"device: {folder.name} runs on a CPU, got {device}; leave it out")
        tts = cls(*load_own(folder, weights=weights), folder)
        if weights != "float32" and isinstance(tts.speaker, AlignedSpeaker):
            tts.speaker.pack()
        return tts

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of the model that a voice belongs to."""
        return self.speaker.fingerprint

    @property
    def voices(self) -> list[str]:
        """Names of the voices that come along."""
        return sorted(self.speaker.voices)

    def voice(self, voice: Voice | str | Path | None = None) -> Voice:
        """A voice by its name, or from its file: of `rillvox clone`, or codes `.rvc` with their record.

        Args:
            voice: None: "kathleen" of the default model, "casual_female" of the released one, else the first.

        Raises:
            VoiceError: there is none of that name, or the file is no voice of this model.
        """
        found = self._voice(self._default() if voice is None else voice)
        found.check(self.model.config)
        if found.timbre is not None and found.record.get("tuned") != self.speaker.stored:
            raise VoiceError(f"{found.name}: was tuned to other weights than these; clone it again")
        return found

    def _voice(self, voice: Voice | str | Path) -> Voice:
        if isinstance(voice, Voice):
            if voice.model != self.fingerprint:
                raise VoiceError(f"{voice.name}: is a voice of another model; clone it again with this one")
            return voice
        if isinstance(voice, str) and voice in self.voices:
            return self.speaker.preset(voice)
        path = Path(voice)
        if not path.is_file():
            raise VoiceError(
                f"{voice}: no such voice; there are {', '.join(self.voices)}, and files of `rillvox clone`"
            )
        if path.suffix == ".rvc":
            return Voice.of_codes(path, self.fingerprint, self.codec.fingerprint)
        return Voice.load(path, self.fingerprint)

    def _default(self) -> str:
        voices = self.voices
        if not voices:
            raise VoiceError("no voice comes along with this model; name the file of one of `rillvox clone`")
        return next((name for name in DEFAULT_VOICES if name in voices), voices[0])

    def clone(
        self,
        source: Audio | Source,
        *,
        consent: str,
        name: str | None = None,
        record: Mapping[str, Any] | None = None,
        listener: PhoneListener | None = None,
    ) -> Voice:
        """A voice of 3 to 30 seconds of somebody speaking.

        Args:
            listener: an `ASR`: hear which phones are said, and seek what makes the voice its own
                (`timbre.py`). It takes 10 to 30 s once, sounds more like the person, and is
                understood a little worse; None: the voice is what the model makes of it at once.
            consent: who speaks, and that they allow it; kept in the voice.
            name: of the voice; None: the file's.
            record: more to be kept, such as when it was made.

        Raises:
            VoiceError: no consent, a recording that is too short, too long or holds no speech, or a codec
                that can't hear, as the one that was released with Voxtral TTS.
            ConfigError: a listener for a model that can't be tuned, see `can_tune`.
            AudioError: a recording that can't be read.
        """
        if not consent.strip():
            raise VoiceError(
                "consent is missing: say who speaks in the reference, and that they allow their voice "
                "to be cloned"
            )
        if not self.codec.can_encode:
            raise VoiceError(
                "this model's codec has no encoder, as the one released with Voxtral TTS: seek the codes "
                "with `rillvox clone RECORDING -o NAME.rvc --enrol optimise --model FOLDER` and speak with "
                "NAME.rvc, or clone with the default model"
            )
        if listener is not None:
            self._check_listener(listener)
        audio = source if isinstance(source, Audio) else read_audio(source)
        reference = prepare_reference(audio, self.speaker.hears)
        codes = self.codec.encode(reference.samples).values
        codes = codes[: max(1, len(reference.samples) // self.codec.config.frame)]
        kept: dict[str, Any] = {
            "consent": consent.strip(),
            "source": Path(source).name if isinstance(source, str | Path) else "audio",
            "sha256": hashlib.sha256(audio.samples.tobytes()).hexdigest(),
            "seconds": round(reference.seconds_given, 2),
            "used_seconds": round(len(reference.samples) / SAMPLE_RATE, 2),
            "warnings": reference.warnings,
            "tuned": None if listener is None else self.speaker.stored,
        }
        kept = {**(record or {}), **kept}  # whatever else is kept, this is as it was
        timbre = None if listener is None else self.speaker.tune(audio, listener)
        if name is None:
            name = Path(source).stem if isinstance(source, str | Path) else "voice"
        voice = Voice(name, self.fingerprint, torch.as_tensor(codes.copy()), record=kept, timbre=timbre)
        return self.remember(voice)

    def _check_listener(self, listener: object) -> None:
        if isinstance(listener, type) or not callable(getattr(listener, "phones", None)):
            raise ConfigError(f"listener must be an ASR, such as ASR.load(), got {listener!r}")
        if not self.can_tune:
            raise ConfigError(
                f"{self.folder.name} has no {TIMBRES}: clone without a listener, or make it, for one of "
                "rillvox's own speakers, with `rillvox train timbres`"
            )

    @property
    def can_tune(self) -> bool:
        """Whether `clone` takes a listener."""
        return self.speaker.can_tune

    def remember(self, voice: Voice) -> Voice:
        """The voice with what the model knows once it has heard it, if it is of a kind that can keep that."""
        return self.speaker.remember(voice)

    def synthesize(
        self,
        text: str,
        voice: Voice | str | Path | None = None,
        *,
        seed: int = 0,
        manner: Manner | None = None,
        lexicon: Mapping[str, str] | None = None,
        cancel: Cancel | None = None,
    ) -> Synthesis:
        """Speak a text.

        A sentence that runs away is cut off, told in `finish_reason`, and the next one spoken.

        Args:
            voice: see `voice`.
            seed: the same one gives the same audio.
            manner: temperature, steps, pace and more; its seed is `seed`.
            lexicon: written forms and how to say them, see `spoken_lexicon`.
            cancel: see `stream`.

        Raises:
            TextError: nothing in the text can be said.
            VoiceError: no such voice.
            ConfigError: a pace for a model that has none.
        """
        samples: list[NDArray[np.float32]] = [np.zeros(0, np.float32)]
        words: list[SpokenWord] = []
        finishes: list[Finish] = []
        for piece in self.stream(text, voice, seed=seed, manner=manner, lexicon=lexicon, cancel=cancel):
            samples.append(piece.samples)
            words += piece.words
            if piece.finish is not None:
                finishes.append(piece.finish)
        audio = Audio(np.concatenate(samples), SAMPLE_RATE)
        return Synthesis(audio, words, worst(finishes), seed)

    def stream(
        self,
        text: str | Iterable[str],
        voice: Voice | str | Path | None = None,
        *,
        seed: int = 0,
        manner: Manner | None = None,
        lexicon: Mapping[str, str] | None = None,
        cancel: Cancel | None = None,
    ) -> Generator[Piece, None, None]:
        """Speak a text piece by piece; see `synthesize`. Nothing is spoken ahead.

        Args:
            text: or an iterable of its parts, as an LLM writes it. rillvox's own models then begin as soon as
                the words of a sentence are certain that a frame looks at, some four, and wait for more where
                they run out; the audio is the same as for the whole text. Others wait for sentences.
            cancel: a `threading.Event` or `asyncio.Event`; after it is set, from wherever, at most one more
                frame is computed, and the last piece says "cancelled". While a part of the text is waited
                for it shows with the next part. Leaving the loop, or `close`, cancels as well.
        """
        if not isinstance(text, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TextError(f"the text is {type(text).__name__}; give str, or an iterable of str")
        asked = manner or self.manner
        if asked.pace != 1 and isinstance(self.speaker, PromptedSpeaker):
            raise ConfigError(
                "manner.pace is for rillvox's own speakers; this model speaks as fast as it will"
            )
        parts = text if isinstance(text, str) else until(text, cancel)
        chosen = self.voice(voice)
        utterances = self.speaker.utterances(parts, chosen, replace(asked, seed=seed), lexicon)
        return tell(utterances, self.codec, cancel)


def _device(device: torch.device | str) -> torch.device:
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: {device!r} is none; give cpu or cuda") from error


__all__ = ["FRAMES_A_TOKEN", "FRAMES_EXTRA", "TTS", "Piece", "SpokenWord", "Synthesis"]
