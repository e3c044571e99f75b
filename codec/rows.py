"""Batches of speech for the codec's training: crops, each drawn anew in loudness, start, speed and width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import fftconvolve  # pyright: ignore
from torch import Tensor

from ..audio import Audio
from ..errors import ConfigError
from ..training.augment import change_speed
from ..training.noises import RATE as NOISE_RATE
from ..training.noises import Noises
from ..training.sounds import RATE, STEP, Sound, Sounds
from ..training.sounds_text import Texts
from ..training.sounds_words import Words
from .config import CodecConfig
from .source import NOISE_PATCHES
from .tasks import WIDE, WaveBatch

TOP = 0.94  # of half the native rate: resamplers and coders leave nothing above
GAIN_DB = (-8.0, 4.0)
SPEED = (0.85, 1.18)
SPEED_SHARE = 0.3  # of the items; they have no teacher
NARROW_SHARE = 0.2  # of the 24 kHz items: heard through a narrow line, wanted as they were
WIDE_SHARE = 0.5  # of the items, of recordings of 22 kHz and more
NOISE_SHARE, NOISE_DB = 0.08, (8.0, 30.0)  # of the items: heard and wanted with noise, so far below them
ROOM_SHARE = 0.05  # of the items: heard and wanted in a room


class WaveRows:
    """Batches of speech: half of them wide, each drawn anew in loudness, start and speed."""

    def __init__(
        self,
        sounds: Sounds,
        config: CodecConfig,
        frames: int,
        noises: Noises | None = None,
        texts: Texts | None = None,
        words: Words | None = None,
    ) -> None:
        self.sounds, self.config, self.frames, self.noises = sounds, config, frames, noises
        self.texts, self.words = texts, words
        self.length = frames * config.frame
        self.judged: int | None = (
            None  # of how many items discriminators are to judge; None: of all wide ones
        )
        long = [clip for clip in sounds.training() if clip.samples >= self.length * SPEED[1] + STEP]
        if not long:
            raise ConfigError(f"no clip of {self.length / RATE:.1f} s or more to train on")
        self.wide = [clip for clip in long if clip.native >= 22000] or long
        self.narrow = [clip for clip in long if clip.native < 22000] or long
        self.chances = {id(part): self._chances(part) for part in (self.wide, self.narrow)}

    @staticmethod
    def _chances(clips: list[Sound]) -> NDArray[np.float64]:
        """By the root of a speaker's time, so that one voice does not drown the rest."""
        time: dict[str, float] = {}
        for clip in clips:
            time[clip.speaker] = time.get(clip.speaker, 0.0) + clip.seconds
        each = np.array([clip.seconds / time[clip.speaker] ** 0.5 for clip in clips])
        return each / each.sum()

    def draw(self, rows: int, rng: np.random.Generator, done: float, tries: int = 100) -> WaveBatch:
        """A batch; `done` is how far the adversarial stage is, whose terms come in by and by.

        Raises:
            ConfigError: in so many tries, none had as many wide items as are to be judged.
        """
        heard = np.zeros((rows, self.length), np.float32)
        wanted = np.zeros_like(heard)
        ids = np.full((rows, self.frames), -1, np.int64)
        known = np.zeros(rows, np.float32)
        places = self.frames * self.config.positions
        pitch = np.zeros((rows, places), np.float32)
        texts = self.texts
        vectors = None if texts is None else np.zeros((rows, self.frames, texts.width), np.float32)
        words = np.full((rows, self.frames), -1, np.int64)
        said: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        for row in range(rows):
            part = self.wide if rng.random() < WIDE_SHARE else self.narrow
            clip = part[int(rng.choice(len(part), p=self.chances[id(part)]))]
            speed = float(rng.uniform(*SPEED)) if rng.random() < SPEED_SHARE else 1.0
            need = int(self.length * speed) + 2
            begin = int(rng.integers(0, (clip.samples - need) // STEP + 1)) * STEP
            wave = self.sounds.samples(clip, begin, need)
            if speed == 1.0:
                ids[row] = self.sounds.codes(clip, begin, self.frames)
                if texts is not None and vectors is not None:
                    vectors[row], words[row] = texts.crop(clip, begin, self.frames)
                if self.words is not None:
                    said[row] = self.words.crop(clip, begin, self.frames)
            else:
                wave, _ = change_speed(wave, np.zeros(0), speed)
            pitch[row] = self.sounds.hertz(clip, begin, places, speed)
            wave = wave[: self.length]
            known[row] = TOP * clip.native / 2 * speed
            if clip.native >= RATE and speed >= 1.0:  # played slower, the top is empty
                known[row] = RATE
            if self.noises is not None:
                wave, known[row] = self._place(wave, float(known[row]), rng)
            wave = wave * np.float32(10 ** (rng.uniform(*GAIN_DB) / 20))
            heard[row, : len(wave)] = wanted[row, : len(wave)] = wave
            if known[row] == RATE and rng.random() < NARROW_SHARE:
                heard[row] = low_pass(heard[row], float(rng.uniform(3500, 9000)))
        wide = int((known >= WIDE).sum())
        if self.judged is not None and wide < self.judged:
            if tries == 0:
                raise ConfigError(
                    f"fewer than {self.judged} of {rows} items reach {WIDE} Hz, again and again: give more "
                    "wide recordings, or leave out --graph"
                )
            return self.draw(rows, rng, done, tries - 1)
        peak = np.maximum(1.0, np.abs(wanted).max(1, keepdims=True))
        acoustic = self.config.acoustic_dim
        batch = WaveBatch(
            torch.as_tensor(heard / peak),
            torch.as_tensor(wanted / peak),
            torch.as_tensor(ids),
            torch.as_tensor(known),
            torch.as_tensor(rng.random((rows, 2), np.float32)),
            torch.as_tensor(rng.uniform(-1, 1, (rows, self.frames, acoustic)).astype(np.float32)),
            deceit=torch.tensor(float(np.clip((done - 0.02) / 0.1, 0.0, 1.0))),
            fade=torch.tensor(1.0),
            wide=wide if self.judged is None else self.judged,
            pitch=torch.as_tensor(pitch),
            begin=torch.as_tensor(rng.integers(0, NOISE_PATCHES, rows)),
        )
        if vectors is not None:
            batch.vectors, batch.words = torch.as_tensor(vectors), torch.as_tensor(words)
        if self.words is not None:
            batch.hidden, batch.alignment = self._pack(rows, said, self.words.width)
        order = torch.as_tensor(np.argsort(-known, kind="stable"))
        tensors = {k: v for k, v in vars(batch).items() if isinstance(v, Tensor) and v.dim()}
        return replace(batch, **{name: value[order] for name, value in tensors.items()})

    def _pack(
        self, rows: int, said: Mapping[int, tuple[NDArray[np.float32], NDArray[np.float32]]], width: int
    ) -> tuple[Tensor, Tensor]:
        """States and weights of all rows at one length; zeros where a row has no more tokens."""
        most = max((len(states) for states, _ in said.values()), default=0)
        hidden, alignment = torch.zeros(rows, most, width), torch.zeros(rows, most, self.frames)
        for row, (states, weights) in said.items():
            hidden[row, : len(states)] = torch.as_tensor(states)
            alignment[row, : len(states)] = torch.as_tensor(weights)
        return hidden, alignment

    def _place(
        self, wave: NDArray[np.float32], known: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], float]:
        """The wave in a room or in noise, now and then; rooms and noises end at 8 kHz."""
        assert self.noises is not None
        chance = rng.random()
        if chance < ROOM_SHARE and (room := self.noises.draw_room(rng)) is not None:
            response, direct = room
            response = at_rate(response / max(1e-6, float(np.abs(response).max())))
            direct = direct * RATE // NOISE_RATE
            wet = fftconvolve(wave, response)[direct : direct + len(wave)].astype(np.float32)
            level = float(wave.std()) / max(1e-6, float(wet.std()))
            return wet * np.float32(level), min(known, TOP * NOISE_RATE / 2)
        if chance < ROOM_SHARE + NOISE_SHARE:
            noise = self.noises.draw_noise(len(wave) * NOISE_RATE // RATE + 1, rng)
            if noise is not None and float(noise.std()) > 1e-5:
                noise = at_rate(noise)[: len(wave)]
                noise = np.pad(noise, (0, len(wave) - len(noise)))
                level = float(wave.std() / noise.std()) * 10 ** (-rng.uniform(*NOISE_DB) / 20)
                return (wave + noise * level).astype(np.float32), known
        return wave, known


def at_rate(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """A noise or a room's response at the rate of the codec."""
    return Audio(np.asarray(wave, np.float32), NOISE_RATE).resample(RATE).samples


def low_pass(wave: NDArray[np.float32], hz: float) -> NDArray[np.float32]:
    """Without what lies above `hz`."""
    spectrum = np.fft.rfft(wave)
    spectrum[int(hz / (RATE / 2) * (len(spectrum) - 1)) :] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)
