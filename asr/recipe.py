"""How training batches of the listener are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..tekken import Tekken
from ..training.augment import Augment, AugmentConfig, mask_spectrogram
from ..training.noises import Noises
from ..training.pool import Pool
from .config import small_decoder, small_english
from .delays import DelayClock
from .frontend import LogMel, LogMelConfig
from .rows import AudioRows, TimedWords
from .targets import input_tokens, target_tokens
from .tasks import AudioBatch
from .teacher import WhisperTeacher

MAIN_DELAY = 3  # tokens; 480 ms with block 16
OTHER_DELAYS = (1, 2)
OTHERS_FROM = 0.2  # of the run; a decoder learns where to look at one delay first
OTHERS_SHARE = 0.3
# How often a clip of a corpus is drawn beside one of the others: texts that are prompts with words
# missing, and telephone prompts.
SHARES = {"speechocean762": 0.5, "asterisk_allison": 0.3}
PROMPTS = ("asterisk_allison",)  # no sentences that anybody says: their words are not counted
AUGMENT = AugmentConfig(speed=(0.84, 1.2), noise_share=0.2, room_share=0.08, snr_db=(8.0, 30.0))
QUIET_SHARE = 0.06  # of the rows of sound; nobody speaks in them
WIDE_BLOCKS = 0.15  # of the run: blocks are wide and positions start at 0
FAR = 100_000  # frames; positions of a row start anywhere up to here, so they never run out


class Recipe:
    """What the stages share: data, vocabulary, and how batches are drawn."""

    def __init__(self, pool: Path, tokenizer: Path, noise: Path | None, min_score: float = -2.5) -> None:
        self.pool = Pool.open(pool)
        self.tokenizer = Tekken.load(tokenizer)
        self.config = small_english(self.tokenizer.vocab_size, small_decoder())
        self.clips = self.pool.training(min_score)
        self.dev = [clip for clip in self.pool.clips if clip.corpus == "human_dev" and clip.spans]
        self.mel = LogMel(LogMelConfig(n_mels=self.config.encoder.n_mels))
        augment = Augment(AUGMENT, Noises(noise) if noise is not None else None)
        shares = [SHARES.get(clip.corpus, 1.0) for clip in self.clips]
        self.rows = AudioRows(self.pool, self.clips, augment, shares, QUIET_SHARE)
        self._pieces: dict[str, list[int]] = {}

    def pieces(self, word: str) -> list[int]:
        """Token ids of a word with the space before it."""
        if word not in self._pieces:
            self._pieces[word] = self.tokenizer.encode(" " + word)
        return self._pieces[word]

    def tokens(self, words: TimedWords, delay: int, steps: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """Input and output tokens of a row; some inputs are disturbed, never those of the prompt."""
        clock = DelayClock(delay)
        pad, word = self.tokenizer.pad, self.tokenizer.word
        timed = [(self.pieces(text), end) for text, end in words]
        out = target_tokens(clock, timed, steps, pad, word)
        tokens = input_tokens(clock, out, self.tokenizer.bos, pad)
        # The model will read its own mistakes: let it see some.
        wrong = rng.random(steps) < 0.08
        wrong[: clock.prompt_length] = False
        noise = rng.integers(self.tokenizer.n_special + 256, self.tokenizer.vocab_size, steps)
        tokens = np.where(wrong, np.where(rng.random(steps) < 0.5, pad, noise), tokens)
        return tokens, out

    def draw_delay(self, rng: np.random.Generator, done: float) -> int:
        """A delay in tokens."""
        if done < OTHERS_FROM or rng.random() >= OTHERS_SHARE:
            return MAIN_DELAY
        return int(OTHER_DELAYS[int(rng.integers(len(OTHER_DELAYS)))])

    def audio_batch(
        self,
        rows: int,
        seconds: float,
        rng: np.random.Generator,
        done: float,
        *,
        words: bool,
        teacher: WhisperTeacher | None = None,
    ) -> AudioBatch:
        """Rows of sound; with `words`, with the left padding and the tokens as well."""
        drawn = [self.rows.draw(seconds, rng) for _ in range(rows)]
        lead = self.config.left_pad_tokens if words else 0
        waves = np.stack([np.concatenate([np.zeros(lead * 1280, np.float32), row.wave]) for row in drawn])
        phones = np.stack([np.concatenate([np.zeros(lead * 4, np.int64), row.phones]) for row in drawn])
        mel = mask_spectrogram(
            self.mel(torch.as_tensor(waves)), rng, widest_band=8, longest=20, seconds_per_mask=2.5
        )
        block = int(draw_block(rng, done))
        start = np.where(rng.random(rows) < 0.3, 0, rng.integers(0, FAR, rows) // 64 * 64)
        if not words and done < WIDE_BLOCKS:
            start[:] = 0
        batch = AudioBatch(mel, torch.as_tensor(phones), block, torch.as_tensor(start))
        if teacher is not None:
            batch.taught = teacher.targets(torch.as_tensor(np.stack([row.clean for row in drawn])))
        if words:
            delays = [self.draw_delay(rng, done) for _ in drawn]
            steps = phones.shape[1] // 4
            pairs = [
                self.tokens(row.words, delay, steps, rng) for row, delay in zip(drawn, delays, strict=True)
            ]
            batch.token_in = torch.as_tensor(np.stack([pair[0] for pair in pairs]))
            batch.token_out = torch.as_tensor(np.stack([pair[1] for pair in pairs]))
            batch.delay = torch.tensor(delays)
        return batch


def draw_block(rng: np.random.Generator, done: float) -> int:
    """Attention block of a batch: wide at first, then mostly what sessions use."""
    if done < WIDE_BLOCKS:
        return int(rng.choice([64, 16]))
    return int(rng.choice([64, 32, 16, 8, 4], p=[0.08, 0.12, 0.5, 0.12, 0.18]))
