"""What pairs of takes are made of: texts, and voices of training speakers, never of the held-out corpora."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..training.pool import HELD_OUT
from .rows import EVENNESS, VOICE_FRAMES, WEIGHTS
from .script import Placed, script
from .speech import Speech, Spoken
from .tokens import FIRST, PAUSE, STOP

TOKENS = (8, 120)  # of a text, at least and at most: what is said in one breath


def phones_of(tokens: Sequence[int]) -> list[str]:
    """The phones that tokens stand for, as judges name them."""
    return [str((token - 1) % FIRST + 1) for token in tokens if 0 < token < PAUSE]


class Texts:
    """Texts and voices to speak: `job(number)` gives the same for the same number."""

    def __init__(self, speeches: Sequence[Speech], texts: Sequence[Sequence[int]] | None, seed: int) -> None:
        """`texts`: tokens without `STOP`; None: those of the training clips.

        Raises:
            ConfigError: no clip may be used, or no text is left that no held-out clip says.
        """
        self.speeches, self.seed = speeches, seed
        self.voices: list[tuple[Speech, str, list[Spoken]]] = []
        for speech in speeches:
            clips: dict[str, list[Spoken]] = {}
            for clip in speech.training():
                clips.setdefault(f"{clip.corpus}/{clip.speaker}", []).append(clip)
            self.voices += [
                (speech, name, own)
                for name, own in clips.items()
                if sum(clip.frames for clip in own) >= VOICE_FRAMES[0]
            ]
        if not self.voices:
            raise ConfigError(f"no speaker to train on has {VOICE_FRAMES[0]} frames of speech")
        # As often as they are trained on: voices of learners, who are many, teach a judge's errors.
        chances = np.array(
            [
                WEIGHTS.get(clips[0].corpus, 1.0) * sum(clip.frames for clip in clips) ** EVENNESS
                for _, _, clips in self.voices
            ]
        )
        self.chances = chances / chances.sum()
        kept_out = {
            tuple(phones_of(clip.tokens))
            for speech in speeches
            for clip in speech.clips
            if clip.corpus in HELD_OUT
        }
        found: Sequence[Sequence[int]] = (
            [clip.tokens[:-1] for clip in speeches[0].training()] if texts is None else texts
        )
        self.texts = [
            [*text, STOP]
            for text in found
            if TOKENS[0] <= len(text) <= TOKENS[1] and tuple(phones_of(text)) not in kept_out
        ]
        if not self.texts:
            raise ConfigError(f"no text of {TOKENS[0]} to {TOKENS[1]} phones that may be used")

    def job(self, number: int) -> tuple[str, NDArray[np.int16], list[int]]:
        """A voice's name and its codes [frames, 37], and the tokens of a text, `STOP` last."""
        rng = np.random.default_rng([self.seed, number])
        tokens = self.texts[int(rng.integers(len(self.texts)))]
        speech, name, clips = self.voices[int(rng.choice(len(self.voices), p=self.chances))]
        wanted = int(rng.integers(VOICE_FRAMES[0], VOICE_FRAMES[1] + 1))
        order: list[int] = rng.permutation(len(clips)).tolist()
        parts: list[NDArray[np.int16]] = []
        for clip in (clips[index] for index in order):
            # A voice that reads the text already would teach to copy.
            if clip.tokens[:-1] == tuple(tokens[:-1]):
                continue
            parts.append(np.asarray(speech.codes[clip.first : clip.first + clip.frames]))
            if sum(map(len, parts)) >= wanted:
                break
        voice = np.concatenate(parts)[:wanted] if parts else np.zeros((0, speech.codes.shape[1]), np.int16)
        return name, voice, tokens


def read_texts(path: Path, placed: Placed) -> list[list[int]]:
    """Tokens of the lines of a text file, read as `TTS` reads them; lists write in capitals, users don't.

    Raises:
        ConfigError: the file can't be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no text: {error}") from error
    return [script(line.lower() if line.isupper() else line, placed).tokens for line in lines if line.strip()]
