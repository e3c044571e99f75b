"""Discriminators over spectra of several resolutions: what a waveform must look like to pass for real.

Voxtral Codec (arXiv 2603.25551) has eight, of 256 channels; their depth, kernels and hops are not published.
A few slim ones are what a CPU can afford.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .losses import spectrum

PUBLISHED_SIZES = (2296, 1418, 876, 542, 334, 206, 126, 76)
SLIM_SIZES = (1024, 512, 256)


class SpectrumDiscriminator(nn.Module):
    """One resolution: log-magnitudes through strided 2-D convolutions, a verdict for every patch of them."""

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size = size
        widths = [1, channels, channels, channels, channels]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, (5, 3), stride=(2, 1) if index == 0 else (2, 2), padding=(2, 1))
            for index, (a, b) in enumerate(pairwise(widths))
        )
        self.verdict = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, wave: Tensor) -> list[Tensor]:
        """[batch, samples] -> the activations of every layer, the verdict last."""
        x = torch.log(spectrum(wave, self.size) + 1e-3)[:, None]
        kept: list[Tensor] = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            kept.append(x)
        return [*kept, self.verdict(x)]


class Discriminators(nn.Module):
    """All resolutions."""

    def __init__(self, sizes: tuple[int, ...] = SLIM_SIZES, channels: int = 16) -> None:
        super().__init__()
        self.each = nn.ModuleList(SpectrumDiscriminator(size, channels) for size in sizes)

    def forward(self, wave: Tensor) -> list[list[Tensor]]:
        """[batch, samples] -> activations of every discriminator."""
        return [cast("SpectrumDiscriminator", each)(wave) for each in self.each]


def feature_distance(real: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference of the activations, each relative to those of the real wave."""
    terms = [
        (a.detach() - b).abs().mean() / (a.detach().abs().mean() + 1e-3)
        for one, other in zip(real, made, strict=True)
        for a, b in zip(one[:-1], other[:-1], strict=True)
    ]
    return torch.stack(terms).mean()


def hinge(real: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """What the discriminators lose: real ones below 1, made ones above -1."""
    terms = [
        F.relu(1 - one[-1]).mean() + F.relu(1 + other[-1]).mean()
        for one, other in zip(real, made, strict=True)
    ]
    return torch.stack(terms).mean()


def deceive(made: list[list[Tensor]]) -> Tensor:
    """What the codec loses to verdicts on what it made."""
    return torch.stack([-one[-1].mean() for one in made]).mean()
