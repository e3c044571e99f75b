"""Log-mel front end: 16 kHz waveform to 100 frames a second, whole or step by step.

Voxtral Realtime's (Whisper's, with a fixed floor). Unusual:
- the floor is a constant, `floor_max - 8` in log10 power, never the clip's own maximum, so a frame depends
  on its 400 samples alone and a stream needs no second pass; digital silence is exactly -0.625;
- the window is the periodic Hann; the bank is Slaney in scale and in area, built in float64;
- all of it runs in float32, whatever the dtype of the model around it and also under autocast.

Frame m covers samples 160 m - 200 to 160 m + 200. The reference reflects the signal at both ends; a padded
stream begins and ends with zeros, whose reflection is zeros, so zeros stand there here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..kernels.state import StateTree, active_rows, leaf, put, spread, take
from .delays import HOP_SAMPLES, RATE, WINDOW_SAMPLES

# What a frame reaches back before the samples of its own step: 240 of the 400.
PAST_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES

# Frames whose spectra are held at once (under 100 MB); an hour of audio is transformed in bounded memory.
FRAMES_AT_ONCE = 16_384

_rfft = cast("Callable[[Tensor], Tensor]", torch.fft.rfft)  # pyright: ignore[reportUnknownMemberType]


@dataclass(frozen=True)
class LogMelConfig:
    """What differs between models; rate, hop and window are those of the delay clock."""

    n_mels: int = 128
    floor_max: float = 1.5  # log10 power; called `global_log_mel_max` in params.json
    floor_range: float = 8.0

    def __post_init__(self) -> None:
        if self.n_mels < 1:
            raise ConfigError(f"n_mels must be at least 1, got {self.n_mels}")
        if not self.floor_range > 0:
            raise ConfigError(f"floor_range must be positive, got {self.floor_range}")


class LogMel(nn.Module):
    """Waveform to normalised log-mel frames, (log10(max(power, floor)) + 4) / 4.

    The bank and the window are constants: they are in no checkpoint and stay float32 when the model is cast.
    """

    bank: Tensor  # [201, n_mels]
    window: Tensor  # [400]

    def __init__(self, config: LogMelConfig | None = None) -> None:
        super().__init__()
        self.config = config or LogMelConfig()
        self.register_buffer("bank", mel_filters(self.config.n_mels), persistent=False)
        self.register_buffer("window", hann(WINDOW_SAMPLES), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Every move or cast of a model passes here: follow the device, refuse the dtype. Made anew and not
        # cast back, since bfloat16 has lost the values, and a module that comes from `meta` never had them.
        super()._apply(fn, recurse)  # pyright: ignore[reportUnknownMemberType]
        self.bank = mel_filters(self.config.n_mels).to(self.bank.device)
        self.window = hann(WINDOW_SAMPLES).to(self.window.device)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Frames of a whole signal.

        Args:
            x: [batch, n], n >= 0; 16 kHz in [-1, 1], with the clock's padding if it has any.

        Returns:
            [batch, n_mels, n // 160] float32.
        """
        n_frames = x.shape[-1] // HOP_SAMPLES
        x = F.pad(x.float(), (WINDOW_SAMPLES // 2, WINDOW_SAMPLES // 2))
        return self._frames(x, n_frames)

    def initial_state(
        self, slots: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StateTree:
        """The last 240 samples of each slot: zeros, as every stream starts with silence.

        `dtype` is taken for the convention's sake; the samples are float32.
        """
        del dtype
        return {"past": torch.zeros((slots, PAST_SAMPLES), dtype=torch.float32, device=device)}

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """Frames of the next chunk.

        The chunks are cut from the padded stream 40 samples late: the k-th sample given here is sample k + 40
        of the stream, since the last frame of a step reaches 40 samples past it. The 40 left out are the
        stream's first, and zeros.

        Args:
            x: [slots, time], time a multiple of 160; 1280 for one step of the clock.
            state: from `initial_state`; updated in place.
            active: [slots] bool; other slots keep their state bit for bit.

        Returns:
            [slots, n_mels, time / 160] float32; zero for slots that are not active.

        Raises:
            ValueError: time is zero or not a multiple of 160.
        """
        slots, time = x.shape
        if time == 0 or time % HOP_SAMPLES:
            raise ValueError(f"a step takes a multiple of {HOP_SAMPLES} samples, got {time}")
        if not bool(active.any()):
            return self.bank.new_zeros(slots, self.config.n_mels, time // HOP_SAMPLES)
        rows = active_rows(active)
        x = torch.cat([take(leaf(state, "past"), rows), take(x, rows).float()], dim=-1)
        put(leaf(state, "past"), rows, x[:, -PAST_SAMPLES:])
        return spread(self._frames(x, time // HOP_SAMPLES), rows, slots)

    def _frames(self, x: Tensor, n_frames: int) -> Tensor:
        """[batch, at least 160 (n_frames - 1) + 400] -> [batch, n_mels, n_frames]."""
        frames = x.unfold(-1, WINDOW_SAMPLES, HOP_SAMPLES)[:, :n_frames]  # a view: [batch, n_frames, 400]
        at_once = max(1, FRAMES_AT_ONCE // max(1, x.shape[0]))
        if n_frames == 0:  # the transform of nothing is an error in some builds
            return self.bank.new_zeros(x.shape[0], self.config.n_mels, 0)
        if n_frames <= at_once:
            return self._log_mel(frames).transpose(1, 2)
        parts = [self._log_mel(frames[:, i : i + at_once]) for i in range(0, n_frames, at_once)]
        return torch.cat(parts, dim=1).transpose(1, 2)

    def _log_mel(self, frames: Tensor) -> Tensor:
        """[batch, frames, 400] -> [batch, frames, n_mels]."""
        # In float64: neighbours in a transform then move no float32, and the log amplifies nothing.
        frames = frames.double() * self.window.double()
        power = torch.view_as_real(_rfft(frames)).square().sum(-1)
        # Autocast would multiply in bfloat16, an error of 0.4 % in power that no floor hides.
        with torch.autocast(power.device.type, enabled=False):
            mel = power @ self.bank.double()
        floor = self.config.floor_max - self.config.floor_range
        return ((mel.clamp(min=1e-10).log10().clamp(min=floor) + 4) / 4).float()


def hann(n: int) -> Tensor:
    """Periodic Hann window, [n] float32: 0.5 - 0.5 cos(2 pi i / n)."""
    return torch.hann_window(n, periodic=True, dtype=torch.float32, device="cpu")


def mel_filters(n_mels: int, rate: int = RATE, n_fft: int = WINDOW_SAMPLES) -> Tensor:
    """Triangular filters from 0 Hz to half the rate, [n_fft / 2 + 1, n_mels] float32.

    Slaney's scale, linear below 1000 Hz and logarithmic above, and Slaney's norm: every triangle has the same
    area. Equals `librosa.filters.mel` transposed.
    """
    if rate <= 2000:
        raise ConfigError(f"the mel scale is taken past its bend at 1000 Hz, a rate of {rate} Hz ends below")
    log_step = math.log(6.4) / 27
    top = 15 + math.log(rate / 2000) / log_step
    mels = torch.linspace(0, top, n_mels + 2, dtype=torch.float64, device="cpu")
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp(log_step * (mels - 15)))
    bins = torch.linspace(0, rate / 2, n_fft // 2 + 1, dtype=torch.float64, device="cpu")
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - low) / (centre - low)
    falling = (high - bins[:, None]) / (high - centre)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * 2 / (high - low)).float()
