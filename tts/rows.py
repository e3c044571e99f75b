"""Batches for a speaker of our own: a few seconds of a voice, then other clips of it with their texts.

Of people with a single clip, most of some lists, the voice is its begin and the speech what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError
from ..training.pool import HELD_OUT
from .aligned import pointers, steps_of, windows
from .config import END, SPECIAL, AlignedTextConfig
from .speech import Speech, Spoken
from .tokens import FIRST, PAUSE

VOICE_FRAMES = (25, 100)  # of the prefix: two to eight seconds, and no more than half a row
SPOKEN_FRAMES = 15  # that a single clip must have behind its voice
JOINED = 0.7  # of the rows go on with further clips while there is room
EVENNESS = 0.5  # a speaker is drawn by so much of a power of their time
WEIGHTS = {"kathleen": 2.5, "speechocean762": 0.25, "asterisk_allison": 0.3}  # learners; a telephone
CODES_REPLACED, NAMES_REPLACED, FRAMES_EMPTIED = 0.12, 0.08, 0.04  # of what the backbone is fed


@dataclass
class SpeechBatch:
    """Rows of voice, text and speech; int64 but for the masks."""

    codes: Tensor  # [batch, time, 37], with special ids: the frame that each position is fed
    voice: Tensor  # bool [batch, time], frames of the voice
    first: Tensor  # bool [batch, time], the position before the first frame
    tokens: Tensor  # [batch, time, window]
    moved: Tensor  # [batch, time]
    age: Tensor  # [batch, time]
    semantic: Tensor  # [batch, time], what is to be named, -1 where nothing
    advance: Tensor  # [batch, time], tokens that begin in the frame after, -1 where nothing
    acoustic: Tensor  # [batch, time, 36], levels of the frame to be spoken
    picked: Tensor  # [batch, count], positions whose acoustic codes are learned


class SpeechRows:
    """Draws batches from folders that differ in speed.

    Raises:
        ConfigError: no speaker has two clips, or one that is long enough.
    """

    def __init__(
        self,
        speeches: Sequence[Speech],
        text: AlignedTextConfig,
        time: int,
        *,
        picked: int = 96,
        held_out: bool = False,
    ) -> None:
        self.held_out = held_out
        self.speeches, self.text, self.time, self.picked = speeches, text, time, picked
        self.voices: list[dict[str, list[Spoken]]] = []
        for speech in speeches:
            voices: dict[str, list[Spoken]] = {}
            for clip in speech.clips:
                if (clip.corpus in HELD_OUT) == held_out and clip.frames >= 5:
                    voices.setdefault(f"{clip.corpus}/{clip.speaker}", []).append(clip)
            self.voices.append(
                {name: clips for name, clips in voices.items() if len(clips) > 1 or _cuts(clips[0])}
            )
        self.there = all(self.voices)
        if not self.there and not held_out:
            raise ConfigError("no speaker of the speech has two clips, or one that is long enough")
        self.names = [list(voices) for voices in self.voices]
        self.chances = [self._chances(voices) for voices in self.voices]

    @staticmethod
    def _chances(voices: dict[str, list[Spoken]]) -> NDArray[np.float64]:
        each = np.array(
            [
                WEIGHTS.get(clips[0].corpus, 1.0) * sum(clip.frames for clip in clips) ** EVENNESS
                for clips in voices.values()
            ]
        )
        return each / each.sum()

    def draw(self, rows: int, rng: np.random.Generator) -> SpeechBatch:
        """A batch; what the backbone is fed is damaged a little, as what it will say itself is."""
        time, width = self.time, self.speeches[0].codes.shape[1]
        codes = np.zeros((rows, time, width), np.int64)
        semantic, advance = np.full((rows, time), -1), np.full((rows, time), -1)
        voice, first = np.zeros((rows, time), bool), np.zeros((rows, time), bool)
        tokens = np.zeros((rows, time, self.text.window), np.int64)
        moved, age = np.zeros((rows, time), np.int64), np.zeros((rows, time), np.int64)
        acoustic = np.zeros((rows, time, width - 1), np.int64)
        picked = np.zeros((rows, self.picked), np.int64)
        for row in range(rows):
            which = int(rng.integers(len(self.speeches)))
            prefix, (said, named, starts, text, whole) = self._row(which, rng)
            start = len(prefix)
            codes[row, :start] = prefix + SPECIAL
            voice[row, :start] = True
            first[row, start] = True
            room = time - start
            whole = whole and len(said) + 1 <= room
            frames = min(len(said), room - 1)
            said, named = said[:frames], named[:frames]
            codes[row, start + 1 : start + 1 + frames] = said + SPECIAL
            acoustic[row, start : start + frames] = said[:, 1:]
            semantic[row, start : start + frames] = np.where(named >= 0, named + SPECIAL, -1)
            if whole:
                semantic[row, start + frames] = END
            place = pointers(starts, frames + 1, self.text.most)
            tokens[row, start : start + frames + 1] = windows(text, place, self.text)
            moves, ages = steps_of(place)
            moved[row, start : start + frames + 1] = moves
            age[row, start : start + frames + 1] = ages
            advance[row, start : start + frames] = moves[1:]
            picked[row] = (
                start + rng.permutation(np.resize(np.arange(frames), max(frames, self.picked)))[: self.picked]
            )
        if not self.held_out:
            self._damage(codes, voice, rng)
        return SpeechBatch(
            *(
                torch.as_tensor(array)
                for array in (codes, voice, first, tokens, moved, age, semantic, advance, acoustic, picked)
            )
        )

    def _row(
        self, which: int, rng: np.random.Generator
    ) -> tuple[
        NDArray[np.int64],
        tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], bool],
    ]:
        """Frames of a voice; frames, names, starts and tokens of what it says, and whether that ends."""
        speech = self.speeches[which]
        name = self.names[which][int(rng.choice(len(self.names[which]), p=self.chances[which]))]
        clips = self.voices[which][name]
        if len(clips) == 1:
            return self._parted(speech, clips[0], rng)
        shuffled: list[int] = rng.permutation(len(clips)).tolist()
        order = [clips[index] for index in shuffled]
        wanted = self._wanted(rng)
        prefix = np.zeros((0, speech.codes.shape[1]), np.int64)
        while len(prefix) < wanted and len(order) > 1:
            clip = order.pop()
            prefix = np.concatenate(
                [prefix, speech.codes[clip.first : clip.first + clip.frames].astype(np.int64)]
            )
        prefix = prefix[-wanted:] if rng.random() < 0.5 else prefix[:wanted]
        return prefix, self._joined(speech, order, self.time - len(prefix), rng)

    def _wanted(self, rng: np.random.Generator) -> int:
        """Frames of a voice."""
        most = max(VOICE_FRAMES[0], min(VOICE_FRAMES[1], self.time // 2))
        return int(rng.integers(VOICE_FRAMES[0], most + 1))

    def _parted(
        self, speech: Speech, clip: Spoken, rng: np.random.Generator
    ) -> tuple[
        NDArray[np.int64],
        tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], bool],
    ]:
        """A single clip, as `_row` gives it, parted where a word begins."""
        cuts = _cuts(clip)
        token = cuts[int(rng.integers(len(cuts)))]
        at = int(clip.starts[token])
        prefix = speech.codes[clip.first + max(0, at - self._wanted(rng)) : clip.first + at]
        rest = slice(clip.first + at, clip.first + clip.frames)
        said = speech.codes[rest].astype(np.int64), speech.teacher[rest].astype(np.int64)
        starts = np.array(clip.starts[token:]) - at
        whole = clip.frames - at < self.time - len(prefix)
        return prefix.astype(np.int64), (*said, starts, np.array(clip.tokens[token:]), whole)

    def _joined(
        self, speech: Speech, order: list[Spoken], room: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], bool]:
        more = rng.random() < JOINED
        codes: list[NDArray[np.int64]] = []
        named: list[NDArray[np.int64]] = []
        starts: list[float] = []
        tokens: list[int] = []
        length = 0
        for count, clip in enumerate(order, 1):
            span = slice(clip.first, clip.first + clip.frames)
            codes.append(speech.codes[span].astype(np.int64))
            named.append(speech.teacher[span].astype(np.int64))
            if tokens:
                tokens[-1] = PAUSE  # in place of the end
            tokens += clip.tokens
            starts += [length + start for start in clip.starts]
            length += clip.frames
            if not more or length >= room or count == 4:
                break
        return (
            np.concatenate(codes),
            np.concatenate(named),
            np.array(starts),
            np.array(tokens),
            length < room,
        )

    @staticmethod
    def _damage(codes: NDArray[np.int64], voice: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Replace some of what is fed by what stands elsewhere in the batch."""
        rows, time, width = codes.shape
        flat = codes.reshape(-1, width)
        other = flat[rng.permutation(len(flat))]
        chance = np.full(width, CODES_REPLACED)
        chance[0] = NAMES_REPLACED
        # Not every row is damaged alike: some are as they are.
        share = rng.random((rows, 1, 1)) * 2
        hit = (rng.random((rows, time, width)) < chance * share) & ~voice[..., None] & (codes > 0)
        np.copyto(
            codes, np.where(other.reshape(codes.shape) > 0, other.reshape(codes.shape), codes), where=hit
        )
        codes[(rng.random((rows, time)) < FRAMES_EMPTIED) & ~voice] = 0


def _cuts(clip: Spoken) -> list[int]:
    """Tokens that begin a word with enough before them for a voice, and enough behind for a lesson."""
    last = clip.frames - SPOKEN_FRAMES
    return [
        number
        for number, (token, start) in enumerate(zip(clip.tokens, clip.starts, strict=True))
        if FIRST < token < PAUSE and VOICE_FRAMES[0] <= int(start) <= last
    ]
