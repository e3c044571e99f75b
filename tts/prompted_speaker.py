"""A speaker that reads its whole text before it says anything: the released Voxtral TTS, and its like.

A model folder with `params.json`, `consolidated.safetensors`, `tekken.json`, and the voices that come along
in `voice_embedding/`: pickles of one tensor, read without running what else is in them, or safetensors.

Text goes in as it was typed, numbers too: the model was trained on both forms (Voxtral TTS, arXiv 2603.25551,
section 3). Only runs of white space become one space. There are no times of words: the model does not know
when it says what.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ..audio import Audio
from ..codec.stream import Codec
from ..errors import CheckpointError, ConfigError, TextError, VoiceError
from ..tekken import Tekken
from .chunks import Chunk, Chunker
from .guards import repeats
from .model import SpeakerModel
from .pieces import Pause
from .prompt import LONGEST_FRAMES, SYMBOLS, embed_prompt
from .speaking import Manner, Speaking, of_sentence
from .spoken_lexicon import said_in, settled
from .telling import TimedWord
from .timbre import PhoneListener
from .voices import Voice, is_voice

VOICES = "voice_embedding"
COUNTS = "voice_num_audio_tokens"  # of tekken.json: rows of each voice

# Speech has 10 to 25 characters a second in the nine languages, 0.5 to 1.25 frames each; a digit is a word.
FRAMES_A_CHARACTER, FRAMES_A_DIGIT, FRAMES_EXTRA = 2, 8, 40  # no more for a text
LEAST_A_CHARACTER = 0.2  # nor less: whoever ends before that has not said half of it


class PromptedSpeaker:
    """See the module's text; it speaks through `telling.py`.

    Raises:
        CheckpointError: no tekken.json with the symbols of prompts, or one of another model.
    """

    hears = 25.0  # seconds of a reference; the paper has 3 to 25 as best
    manner = Manner()

    def __init__(self, model: SpeakerModel, codec: Codec, folder: Path) -> None:
        self.model, self.codec, self.folder = model, codec, folder
        path = folder / "tekken.json"
        self.tekken = Tekken.load(path, require=SYMBOLS)
        if self.tekken.vocab_size > model.config.vocab_size:
            raise CheckpointError(
                f"{path}: has {self.tekken.vocab_size} tokens, the model {model.config.vocab_size}; take "
                "both from one release"
            )

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits of the model that a voice belongs to: its table of codes, and its codec."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        table = self.model.kind.detach().to("cpu", torch.bfloat16).view(torch.int16)
        digest = hashlib.sha256(table.numpy().tobytes())
        digest.update(self.codec.fingerprint.encode())
        return digest.hexdigest()[:32]

    @property
    def voices(self) -> dict[str, Path]:
        """Files of the voices that come along, by name; of two forms of one voice the safetensors."""
        folder = self.folder / VOICES
        return {path.stem: path for ending in ("pt", "safetensors") for path in folder.glob(f"*.{ending}")}

    def preset(self, name: str) -> Voice:
        """A voice that comes along.

        Raises:
            VoiceError: its file is damaged, or holds anything but rows [rows, dim] for this model.
        """
        path = self.voices[name]
        if path.suffix == ".safetensors" and is_voice(path):
            return Voice.load(path, self.fingerprint)
        rows, dim = _tensor(path), self.model.config.backbone.dim
        if rows.dim() != 2 or rows.shape[1] != dim or not len(rows) or not rows.is_floating_point():
            raise VoiceError(
                f"{path}: expected numbers [rows, {dim}], found {rows.dtype} {list(rows.shape)}; is it a "
                "voice of another model?"
            )
        counts = self.tekken.audio.get(COUNTS)
        count = counts.get(name) if isinstance(counts, dict) else None  # pyright: ignore
        if count is not None and count != len(rows):
            raise VoiceError(
                f"{path}: has {len(rows)} rows, tekken.json says {count}; take both from one release"
            )
        record = {"consent": "comes with the model, under its licence", "source": f"{VOICES}/{path.name}"}
        return Voice(name, self.fingerprint, rows=rows, record=record)

    can_tune = False
    stored = ""

    def tune(self, audio: Audio, listener: PhoneListener) -> Tensor:  # noqa: ARG002
        """See `AlignedSpeaker.tune`.

        Raises:
            ConfigError: always; this kind of model hears a voice as it is.
        """
        raise ConfigError(
            f"{self.folder.name} clones without a listener; only rillvox's own speakers take one"
        )

    def remember(self, voice: Voice) -> Voice:
        """The voice itself: it is read with every sentence."""
        return voice

    def utterances(
        self, text: str | Iterable[str], voice: Voice, manner: Manner, lexicon: Mapping[str, str] | None
    ) -> Iterator[PromptedUtterance | Pause]:
        """Sentences to be spoken one after the other, each when all of it is there, and pauses."""
        engine = Speaking(self.model)
        sentences = 0
        for chunk in chunks_of(text):
            if chunk.pause is not None:
                yield Pause(chunk.pause)
                continue
            sentence = " ".join(respelled(chunk.text, lexicon or {}).split())
            if not any(map(str.isalnum, sentence)):
                continue
            prompt = embed_prompt(self.model, self.tekken, voice, sentence)
            context = self.model.config.backbone.window
            assert context is not None
            least = max(1, manner.min_frames, int(LEAST_A_CHARACTER * len(sentence)))
            engine.open(0, prompt, replace(of_sentence(manner, sentences), min_frames=least))
            sentences += 1
            limit = min(most_frames(sentence), context - len(prompt))
            yield PromptedUtterance(engine, limit, repeats(sentence.split()))


class PromptedUtterance:
    """A sentence in slot 0 of an engine."""

    def __init__(self, engine: Speaking, limit: int, repeats: bool) -> None:
        self._engine, self._limit, self._repeats = engine, limit, repeats
        self._active = torch.ones(1, dtype=torch.bool, device=engine.device)

    @property
    def limit(self) -> int:
        """See `Utterance`."""
        return self._limit

    @property
    def repeats(self) -> bool:
        """See `Utterance`."""
        return self._repeats

    def frame(self, number: int) -> Tensor:  # noqa: ARG002
        """See `Utterance`."""
        return self._engine.tick(self._active)[0]

    def over(self, frame: int, *, last: bool) -> list[tuple[TimedWord, int, int]]:  # noqa: ARG002
        """None: it does not know."""
        return []

    def close(self) -> None:
        """See `Utterance`."""
        self._engine.close(0)


def most_frames(sentence: str) -> int:
    """Frames of which it has run away; Voxtral TTS itself sets no bound but `LONGEST_FRAMES`."""
    digits = sum(map(str.isdigit, sentence))
    most = FRAMES_A_CHARACTER * (len(sentence) - digits) + FRAMES_A_DIGIT * digits + FRAMES_EXTRA
    return min(most, LONGEST_FRAMES)


def chunks_of(text: str | Iterable[str]) -> Iterator[Chunk]:
    """The chunks of a text, or of one that comes in parts, each as soon as it is certain.

    Raises:
        TextError: a part is no text.
    """
    chunker = Chunker()
    for part in [text] if isinstance(text, str) else text:
        if not isinstance(part, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TextError(f"a part of the text is {type(part).__name__}; give str, or an iterable of str")
        yield from chunker.feed(part)
    yield from chunker.finish()


def respelled(text: str, lexicon: Mapping[str, str]) -> str:
    """The text with the spoken forms of a lexicon in place of the written ones.

    Raises:
        TextError: a form in phones, which this model does not read, or an empty one.
    """
    for written, spoken in lexicon.items():
        if said_in(written, spoken) is not None:
            raise TextError(
                f"{written!r}: phones are for rillvox's own speakers; write {spoken} as it sounds, in letters"
            )
    forms, found = settled(text, lexicon)
    spoken_of = dict(zip(dict.fromkeys(place for _, _, place in found), forms, strict=True))
    parts: list[str] = []
    at = 0
    for start, end, place in found:
        parts += text[at:start], spoken_of[place]
        at = end
    return "".join(parts) + text[at:]


def _tensor(path: Path) -> Tensor:
    """The one tensor in a file."""
    try:
        if path.suffix == ".safetensors":
            (found,) = load_file(path).values()
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise VoiceError(f"{path}: holds no single tensor, or is damaged ({_line(error)})") from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        # What a damaged pickle makes its reader stumble over.
        raise VoiceError(f"{path}: is damaged ({_line(error)})") from error
    if not isinstance(found, Tensor):
        raise VoiceError(f"{path}: holds no tensor; a voice that comes along is one tensor [rows, dim]")
    return found


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
