"""What a decoded waveform is worth: distances of spectra at several resolutions.

All take waveforms [batch, samples] and `known` [batch], the frequency in Hz up to which the original has
something to say: recordings of telephone or 16 kHz rate are silent above, and must not teach a muffled voice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import SAMPLE_RATE
from .spectrum import rfft

WINDOWS = (2048, 1024, 512, 256, 128)
BANDS = (160, 120, 80, 40, 20)
FLOOR = 1e-4
TINY = 1e-9  # of power
POWER_BANDS, POWER_FLOOR = 160, 1e-4
_stft = cast("Callable[..., Tensor]", torch.stft)  # pyright: ignore[reportUnknownMemberType]


@cache
def hann(size: int, device: torch.device) -> Tensor:
    """A Hann window."""
    return torch.hann_window(size, device=device)


class _Magnitude(torch.autograd.Function):
    """Magnitudes of complex numbers, with a gradient at zero; far faster than the operations apart."""

    @staticmethod
    def forward(ctx: Any, spec: Tensor) -> Tensor:
        parts = torch.view_as_real(spec)
        real, imaginary = parts[..., 0], parts[..., 1]
        magnitude = torch.addcmul(real * real, imaginary, imaginary).add_(TINY).sqrt_()
        ctx.save_for_backward(spec, magnitude)
        return magnitude

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        spec, magnitude = ctx.saved_tensors
        return spec * (gradients[0] / magnitude)


_magnitude = cast(
    "Callable[[Tensor], Tensor]",
    _Magnitude.apply,  # pyright: ignore[reportUnknownMemberType]
)


def spectrum(wave: Tensor, size: int, hop: int | None = None) -> Tensor:
    """Magnitudes [batch, size / 2 + 1, frames] of windows a quarter apart, gradients finite at zero."""
    hop = hop or size // 4
    spec = _stft(
        wave, size, hop, window=hann(size, wave.device), center=True, pad_mode="constant", return_complex=True
    )
    return _magnitude(spec)


@cache
def mel_filters(size: int, bands: int, device: torch.device) -> Tensor:
    """Triangles [bands, size / 2 + 1] on the Slaney scale from 0 to 12 kHz, each with a sum of one."""

    def to_mel(hz: float) -> float:
        return hz * 3 / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)

    top = to_mel(SAMPLE_RATE / 2)
    mels = torch.linspace(0, top, bands + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))
    hz = torch.linspace(0, SAMPLE_RATE / 2, size // 2 + 1, dtype=torch.float64)
    rise = (hz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hz) / (edges[2:] - edges[1:-1])[:, None]
    triangles = torch.minimum(rise, fall).clamp(min=0)
    # A band narrower than a bin would be empty: it takes the bin nearest to its middle.
    empty = triangles.sum(1) == 0
    middle = (hz[None] - edges[1:-1, None]).abs().argmin(1)
    triangles[empty, middle[empty]] = 1
    return (triangles / triangles.sum(1, keepdim=True)).float().to(device)


@cache
def band_centres(bands: int, device: torch.device) -> Tensor:
    """Hz [bands] of the middles of `mel_filters`."""
    top = 15 + 27 * math.log(SAMPLE_RATE / 2000) / math.log(6.4)
    mels = torch.linspace(0, top, bands + 2, dtype=torch.float64)[1:-1]
    return torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27)).to(
        device
    )


def spectral_distances(
    found: Tensor, wanted: Tensor, known: Tensor, finest: int = WINDOWS[-1]
) -> tuple[Tensor, Tensor]:
    """`mel_distance` and `stft_distance` of the same two waves at the cost of one.

    `finest` samples has the shortest window.
    """
    mel, stft = found.new_zeros(()), found.new_zeros(())
    used = [(size, bands) for size, bands in zip(WINDOWS, BANDS, strict=True) if size >= finest]
    for size, bands in used:
        a, b = spectrum(found, size), spectrum(wanted, size)
        mel = mel + _mel_part(a, b, size, bands, known)
        stft = stft + _stft_part(a, b, known)
    return mel / len(used), stft / len(used)


def mel_distance(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Mean absolute difference of log10 mel magnitudes, over windows of 2048 to 128 samples."""
    return spectral_distances(found, wanted, known)[0]


def stft_distance(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Sum of absolute differences of magnitudes, relative to those of the original, over the same windows."""
    return spectral_distances(found, wanted, known)[1]


def power_distance(power: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Mean absolute difference of log10 magnitudes of mel bands: of expected power, and of what is there.

    Args:
        power: [batch, windows, bins] of Hann windows of four patches, which end with patch 0, 1, 2 ...
    """
    size = 2 * (power.shape[-1] - 1)
    hop = size // 4
    windows = F.pad(wanted, (size - hop, 0)).unfold(-1, size, hop) * hann(size, wanted.device)
    real = torch.view_as_real(rfft(windows)).square().sum(-1)
    filters = mel_filters(size, POWER_BANDS, power.device).T
    difference = torch.log10(power @ filters + POWER_FLOOR) - torch.log10(real @ filters + POWER_FLOOR)
    counts = (band_centres(POWER_BANDS, power.device)[None] < known[:, None]).to(power.dtype)[:, None]
    return 0.5 * (difference.abs() * counts).sum() / (counts.sum() * power.shape[1]).clamp(min=1)


def _mel_part(a: Tensor, b: Tensor, size: int, bands: int, known: Tensor) -> Tensor:
    filters = mel_filters(size, bands, a.device)
    difference = torch.log10(filters @ a + FLOOR) - torch.log10(filters @ b + FLOOR)
    counts = (band_centres(bands, a.device)[None] < known[:, None]).to(a.dtype)[:, :, None]
    return (difference.abs() * counts).sum() / (counts.sum() * a.shape[-1]).clamp(min=1)


def _stft_part(a: Tensor, b: Tensor, known: Tensor) -> Tensor:
    hz = torch.linspace(0, SAMPLE_RATE / 2, a.shape[1], device=a.device)
    counts = (hz[None] < known[:, None]).to(a.dtype)[:, :, None]
    return ((a - b).abs() * counts).sum() / ((b * counts).sum() + 1e-3)


def wave_distance(found: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """Mean absolute difference of the samples of what is known up to the top; 0 where nothing is."""
    full = (known >= SAMPLE_RATE / 2).to(found.dtype)
    return ((found - wanted).abs().mean(1) * full).sum() / full.sum().clamp(min=1)
