"""What may happen to speech on its way to a recogniser: other speeds, rooms, noises, lines and levels.

Every draw comes from the `numpy.random.Generator` that is handed in, in a fixed order: the same generator
gives the same sound. Speech is float32 mono at 16 kHz; times are seconds, and move with the sound.

Why level is not optional: the front end's floor is a constant, so a model that has only heard one level has
never seen where a quiet voice falls below it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..audio import active_power, set_level
from ..errors import ConfigError
from .noises import RATE, Noises, Samples

TELEPHONE_RATE = 8000
MEL_FRAMES_PER_SECOND = 100

Times = NDArray[np.float64]


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges are drawn from uniformly; shares are the part of the clips to which something happens."""

    speed: tuple[float, float] = (0.88, 1.12)
    room_share: float = 0.2
    noise_share: float = 0.4
    snr_db: tuple[float, float] = (5.0, 30.0)
    telephone_share: float = 0.1
    level_dbfs: tuple[float, float] = (-32.0, -16.0)
    white_dbfs: tuple[float, float] = (-80.0, -60.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ConfigError(f"augment.{field.name}: {value[0]} is above {value[1]}")
            if isinstance(value, float) and not 0 <= value <= 1:
                raise ConfigError(f"augment.{field.name} must be between 0 and 1, got {value}")
        if self.speed[0] <= 0:
            raise ConfigError(f"augment.speed must be positive, got {self.speed[0]}")


class Augment:
    """All of it, in the order of the real chain: voice, room, noise, line, level, converter."""

    def __init__(self, config: AugmentConfig | None = None, noises: Noises | None = None) -> None:
        self.config = config or AugmentConfig()
        self.noises = noises

    def __call__(self, x: Samples, times: Times, generator: np.random.Generator) -> tuple[Samples, Times]:
        """A clip as it might have come.

        Args:
            x: [n] float32 at 16 kHz.
            times: seconds, any shape; scaled as the sound is.
        """
        x, times = self.voice(x, times, generator)
        return self.way(x, generator), times

    def voice(self, x: Samples, times: Times, generator: np.random.Generator) -> tuple[Samples, Times]:
        """The first half: what changes the voice, and moves times."""
        return change_speed(x, times, float(generator.uniform(*self.config.speed)))

    def way(self, x: Samples, generator: np.random.Generator) -> Samples:
        """The second half: what happens between the mouth and the samples; nothing moves in time."""
        config = self.config
        # All chances are drawn first, so that one share does not move the chances of another.
        in_room, in_noise, on_telephone = generator.random(3) < (
            config.room_share, config.noise_share, config.telephone_share,
        )  # fmt: skip
        if in_room and self.noises and (room := self.noises.draw_room(generator)):
            x = reverberate(x, *room)
        if in_noise and self.noises and (noise := self.noises.draw_noise(len(x), generator)) is not None:
            x = add_noise(x, noise, float(generator.uniform(*config.snr_db)))
        if on_telephone:
            x = telephone(x)
        x = set_level(x, float(generator.uniform(*config.level_dbfs)))
        white = generator.standard_normal(len(x), dtype=np.float32)
        faint = np.float32(10 ** (generator.uniform(*config.white_dbfs) / 20))
        return np.asarray(x + white * faint, np.float32)


def change_speed(x: Samples, times: Times, factor: float) -> tuple[Samples, Times]:
    """Faster by `factor`, pitch and all, by linear interpolation; times shrink by the same factor."""
    if len(x) == 0 or factor == 1.0:
        return x, times
    at = np.arange(max(1, round(len(x) / factor))) * factor
    return np.interp(at, np.arange(len(x)), x).astype(np.float32), times / factor


def add_noise(x: Samples, noise: Samples, snr_db: float) -> Samples:
    """`x` and `noise` at a signal-to-noise ratio: active speech against the noise where it sounds.

    Args:
        noise: as long as `x`; stretches of exact zeros (before and behind an event) do not count as noise.
    """
    sounding = noise[noise != 0].astype(np.float64)
    speech = active_power(x)
    if len(sounding) == 0 or speech == 0:
        return x
    gain = np.sqrt(speech / np.square(sounding).mean() / 10 ** (snr_db / 10))
    return np.asarray(x + noise * np.float32(gain), np.float32)


def reverberate(x: Samples, response: Samples, direct_index: int) -> Samples:
    """`x` in a room, as long as before; the direct sound stays where it was, so times stay true."""
    size = len(x) + len(response) - 1
    fast = 1 << (size - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(x, fast) * np.fft.rfft(response, fast), fast)
    return wet[direct_index : direct_index + len(x)].astype(np.float32)


def telephone(x: Samples) -> Samples:
    """`x` through a line of 8000 samples a second: nothing above 4 kHz is left, nothing moves in time."""
    narrow = soxr.resample(x, RATE, TELEPHONE_RATE)
    wide = np.asarray(soxr.resample(narrow, TELEPHONE_RATE, RATE), np.float32)
    return np.pad(wide, (0, max(0, len(x) - len(wide))))[: len(x)]


def mask_spectrogram(
    mel: Tensor,
    generator: np.random.Generator,
    *,
    band_masks: int = 2,
    widest_band: int = 15,
    longest: int = 25,
    seconds_per_mask: float = 1.5,
) -> Tensor:
    """SpecAugment (arXiv 1904.08779): bands and stretches of a spectrogram replaced by its mean.

    Args:
        mel: [batch, n_mels, frames] at 100 frames per second; left as it is.
        band_masks: masks of 0 to `widest_band` bands over the whole clip.
        longest: frames; one mask of 0 to `longest` for every `seconds_per_mask`.

    Returns:
        A new tensor of the same shape.
    """
    rows, n_mels, frames = mel.shape
    hide = np.zeros((rows, n_mels, frames), bool)
    for row in range(rows):
        for _ in range(band_masks):
            start, stop = _mask(n_mels, widest_band, generator)
            hide[row, start:stop] = True
        for _ in range(int(frames / MEL_FRAMES_PER_SECOND / seconds_per_mask)):
            start, stop = _mask(frames, longest, generator)
            hide[row, :, start:stop] = True
    mean = mel.mean(dim=(1, 2), keepdim=True)
    return torch.where(torch.from_numpy(hide).to(mel.device), mean, mel)


def _mask(size: int, widest: int, generator: np.random.Generator) -> tuple[int, int]:
    width = int(generator.integers(0, min(widest, size) + 1))
    start = int(generator.integers(0, size - width + 1))
    return start, start + width
