"""Training rows: several utterances one after another, as in a stream, with what is said and when.

`AudioRows` lays augmented recordings into one waveform. `FeatureRows` does the same with cached
encoder frames, where part of the utterances are spliced from text that nobody has read aloud
(`training/splice.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ..audio import set_level
from ..errors import ConfigError
from ..training.augment import Augment
from ..training.noises import draw_quiet
from ..training.pool import Clip, Pool
from ..training.splice import PhoneBank, pronounce
from .delays import ENCODER_PER_STEP, RATE

FRAME_SAMPLES = 320  # one encoder frame, 20 ms
FRAME_MS = 20
CLEAN_DBFS = -24.0  # all voices of a clean row are alike loud
LONGEST_TEXT = 30  # words of one spliced utterance

TimedWords = list[tuple[str, int]]  # (word, its end in ms from the start of the row)


@dataclass(frozen=True)
class AudioRow:
    """A waveform [n], its phone at every 20 ms [n / 320] (0: none), and its words.

    `clean` is the wave without room, noise and line, silent where nobody speaks: what a teacher hears.
    """

    wave: NDArray[np.float32]
    clean: NDArray[np.float32]
    phones: NDArray[np.int64]
    words: TimedWords


class AudioRows:
    """Rows of recordings, augmented anew each time."""

    def __init__(
        self,
        pool: Pool,
        clips: Sequence[Clip],
        augment: Augment | None = None,
        shares: Sequence[float] | None = None,
        quiet_share: float = 0.0,
    ) -> None:
        """`shares`: how often each clip is drawn beside the others; None: all alike.

        `quiet_share`: part of the rows in which nobody speaks, so that noise is told from speech.
        """
        if not clips:
            raise ConfigError("no clips to train on")
        if not 0 <= quiet_share <= 1:
            raise ConfigError(f"quiet_share must be between 0 and 1, got {quiet_share}")
        self.quiet_share = quiet_share
        self.pool, self.clips, self.augment = pool, list(clips), augment
        each = np.ones(len(clips)) if shares is None else np.asarray(shares, np.float64)
        self.chances = each / each.sum()

    def draw(self, seconds: float, rng: np.random.Generator) -> AudioRow:
        """A row of exactly `seconds` (a multiple of 20 ms); its last utterance may be cut off."""
        length = round(seconds * RATE) // FRAME_SAMPLES * FRAME_SAMPLES
        wave, clean = np.zeros((2, length), np.float32)
        phones = np.zeros(length // FRAME_SAMPLES, np.int64)
        words: TimedWords = []
        noises = None if self.augment is None else self.augment.noises
        if rng.random() < self.quiet_share:
            return AudioRow(draw_quiet(length, noises, rng), clean, phones, words)
        frame = int(rng.uniform(0.1, 0.8) * 50)
        while frame < len(phones):
            clip = self.clips[int(rng.choice(len(self.clips), p=self.chances))]
            x = self.pool.samples(clip)
            times = np.asarray(clip.spans, np.float64) * FRAME_MS / 1000
            begin = frame * FRAME_SAMPLES
            if self.augment is not None:
                x, times = self.augment.voice(x, times, rng)
                clean[begin : begin + len(x)] = set_level(x, CLEAN_DBFS)[: length - begin]
                x = self.augment.way(x, rng)
            else:
                clean[begin : begin + len(x)] = x[: length - begin]
            x = x[: length - begin]
            wave[begin : begin + len(x)] = x
            spans = frame + np.rint(times * 50).astype(int)
            for phone, (start, end) in zip(clip.phones, spans, strict=True):
                phones[start:end] = phone
            ends = [int(spans[k - 1][1]) for k in accumulate(clip.phones_per_word)]
            words += [
                (word, end * FRAME_MS)
                for word, end in zip(clip.words, ends, strict=True)
                if end <= len(phones)
            ]
            frame += -(-len(x) // FRAME_SAMPLES)
            gap = int(rng.uniform(0.0, 0.5) * 50)
            if rng.random() < self.quiet_share:  # or a long pause, with its own noise
                gap = int(rng.uniform(0.5, 4.0) * 50)
                end = min(length, (frame + gap) * FRAME_SAMPLES)
                if end > frame * FRAME_SAMPLES:
                    wave[frame * FRAME_SAMPLES : end] = draw_quiet(end - frame * FRAME_SAMPLES, noises, rng)
            frame += gap
        return AudioRow(wave, clean, phones, words)


@dataclass(frozen=True)
class FeatureCache:
    """Frozen encoder frames of recordings: `frames` [n, dim] float16, (first, count) of each clip id.

    `silence` are frames of long silences of several kinds.
    """

    frames: NDArray[np.float16]
    places: Mapping[str, tuple[int, int]]
    silence: NDArray[np.float16]

    def quiet(self, frames: int, rng: np.random.Generator) -> NDArray[np.float16]:
        """A stretch of silence."""
        begin = int(rng.integers(0, max(1, len(self.silence) - frames)))
        return self.silence[begin : begin + frames]


class FeatureRows:
    """Rows of cached frames, part of them spliced to new sentences."""

    def __init__(
        self,
        cache: FeatureCache,
        clips: Sequence[Clip],
        bank: PhoneBank,
        texts: Sequence[Sequence[str]],
        lexicon: Mapping[str, Sequence[int]],
        text_share: float = 0.6,
    ) -> None:
        if not 0 <= text_share <= 1:
            raise ConfigError(f"text_share must be between 0 and 1, got {text_share}")
        self.cache, self.clips, self.bank = cache, list(clips), bank
        self.texts, self.lexicon = texts, lexicon
        self.text_share = text_share if texts else 0.0

    def draw(self, steps: int, lead: int, rng: np.random.Generator) -> tuple[NDArray[np.float16], TimedWords]:
        """Frames [4 (lead + steps), dim] that begin with `lead` silent steps; word ends count from there."""
        total = ENCODER_PER_STEP * steps
        parts = [self.cache.quiet(int(rng.integers(2, 40)), rng)]
        words: TimedWords = []
        filled = len(parts[0])
        while filled < total - 40:
            frames, spoken = self._utterance(rng)
            parts.append(frames)
            words += [(word, (filled + end) * FRAME_MS) for word, end in spoken]
            parts.append(self.cache.quiet(int(rng.integers(0, 30)), rng))
            filled += len(frames) + len(parts[-1])
        if filled < total:
            parts.append(self.cache.quiet(total - filled, rng))
        row = np.concatenate(parts)[:total]
        lead_in = self.cache.quiet(ENCODER_PER_STEP * lead, rng)
        return np.concatenate([lead_in, row]), [word for word in words if word[1] <= total * FRAME_MS]

    def _utterance(self, rng: np.random.Generator) -> tuple[NDArray[np.float16], list[tuple[str, int]]]:
        if rng.random() < self.text_share:
            text = self.texts[int(rng.integers(len(self.texts)))]
            if len(text) > LONGEST_TEXT:
                begin = int(rng.integers(0, len(text) - LONGEST_TEXT + 1))
                text = text[begin : begin + LONGEST_TEXT]
            phones = pronounce(text, self.lexicon)
            if phones:
                frames, ends = self.bank.say(phones, rng, lambda count: self.cache.quiet(count, rng))
                return frames, list(zip(text, ends, strict=True))
        clip = self.clips[int(rng.integers(len(self.clips)))]
        first, count = self.cache.places[clip.id]
        ends = [clip.spans[k - 1][1] for k in accumulate(clip.phones_per_word)]
        return self.cache.frames[first : first + count], list(zip(clip.words, ends, strict=True))
