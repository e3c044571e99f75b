"""Positions: rotary angles, ALiBi slopes, an endless sinusoid table. Exact at any position.

Positions are int64. Angles are computed in float64 and reduced modulo 2 pi before the float32
cosine: past 2**24 float32 cannot tell neighbouring positions apart, and from about 2**17 on
its angle error is visible in the logits (they move by 0.006 there, by 0.5 at 1e7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError

TAU = 2 * math.pi
SPLIT = 20  # bits


@dataclass(frozen=True)
class YarnScaling:
    """YaRN frequency scaling (arXiv 2309.00071) as Ministral 3 uses it."""

    factor: float = 16.0
    original_length: int = 16384
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ConfigError(f"rope_scaling.factor must be at least 1, got {self.factor}")


def rope_frequencies(head_dim: int, theta: float, scaling: YarnScaling | None = None) -> Tensor:
    """Angular step of each channel pair, float64 [head_dim / 2]."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    frequencies = theta**-exponent
    if scaling is None:
        return frequencies

    def pair_turning(rotations: float) -> float:
        """Which pair turns `rotations` times over the original length."""
        return head_dim * math.log(scaling.original_length / (rotations * TAU)) / (2 * math.log(theta))

    low = max(math.floor(pair_turning(scaling.beta_fast)), 0)
    high = min(math.ceil(pair_turning(scaling.beta_slow)), head_dim - 1)
    pairs = torch.arange(head_dim // 2, dtype=torch.float64)
    ramp = ((pairs - low) / max(high - low, 1e-3)).clamp(0, 1)
    return frequencies * (1 - ramp) + frequencies / scaling.factor * ramp


def phase(positions: Tensor, frequencies: Tensor) -> Tensor:
    """positions * frequencies modulo 2 pi, float32 [..., n], for int64 [...] and float64 [n]."""
    # In two parts: a product in float64 alone is off by 1e-4 rad at position 2**40. A frequency
    # times a power of two is exact, and so is its remainder.
    step = torch.remainder(frequencies * 2.0**SPLIT, TAU)
    low = (positions & (2**SPLIT - 1)).to(torch.float64).unsqueeze(-1)
    high = (positions >> SPLIT).to(torch.float64).unsqueeze(-1)
    return torch.remainder(low * frequencies + high * step, TAU).float()


def rope_angles(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 [..., head_dim / 2], for int64 positions [...]."""
    angle = phase(positions, frequencies)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor, layout: str) -> Tensor:
    """Rotate channel pairs of x [batch, time, heads, head_dim] by angles [batch, time, head_dim / 2].

    `interleaved` pairs even with odd channels (released native files), `half` pairs channel i
    with i + head_dim / 2 (Hugging Face files).
    """
    cos, sin = cos.unsqueeze(-2).to(x.dtype), sin.unsqueeze(-2).to(x.dtype)
    if layout == "half":
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


def query_scale(positions: Tensor, beta: float, length: int) -> Tensor:
    """1 + beta ln(1 + floor(position / length)), float32 [...]: Ministral 3's growing query scale."""
    return 1 + beta * torch.log1p((positions // length).float())


def alibi_slopes(n_heads: int) -> Tensor:
    """Slope per head, float32 [n_heads]: a geometric series that starts at 1 (Voxtral Codec).

    For a head count that is no power of two the series of the next lower power is filled up
    with every other element of the series of twice that power.
    """
    power = 2 ** int(math.log2(n_heads))
    slopes = [2 ** (-8 * h / power) for h in range(power)]
    slopes += [2 ** (-8 * h / (2 * power)) for h in range(0, 2 * power, 2)][: n_heads - power]
    return torch.tensor(slopes)


def sinusoids(positions: Tensor, dim: int, longest_period: float) -> Tensor:
    """Whisper's sinusoidal embedding without an end, float32 [..., dim].

    Channels i and dim / 2 + i are sin and cos of position * 10000^(-i / (dim / 2 - 1)). Waves
    longer than `longest_period` positions stand still at phase 0: over any one stream they
    would tell how old the session is, which nothing in the training data can teach.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float64, device=positions.device)
    frequencies = torch.exp(-math.log(10000.0) / (half - 1) * steps)
    frequencies = torch.where(TAU / frequencies > longest_period, 0.0, frequencies)
    angle = phase(positions, frequencies)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
