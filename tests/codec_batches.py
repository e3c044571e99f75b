"""What a codec learns from, made up for tests."""

from __future__ import annotations

from dataclasses import replace

import torch

from rillvox.codec.config import CodecConfig, small_codec
from rillvox.codec.tasks import WaveBatch

CODES, DIM = 8, 256


def tiny(codes: int = CODES) -> CodecConfig:
    """The default codec, made narrow and shallow."""
    return replace(
        small_codec(codes),
        dim=32,
        hidden_dim=48,
        n_heads=2,
        head_dim=16,
        encoder_layers=(1,) * 4,
        decoder_layers=(1,) * 4,
    )


def batch(rows: int = 4, frames: int = 6) -> WaveBatch:
    """Noise, half of it known up to the top; the same every time."""
    generator = torch.Generator().manual_seed(2)
    wave = torch.randn(rows, frames * 1920, generator=generator) * 0.1
    return WaveBatch(
        wave,
        wave,
        torch.randint(-1, CODES, (rows, frames), generator=generator),
        torch.tensor([24000.0] * (rows // 2) + [7500.0] * (rows // 2)),
        torch.rand(rows, 2, generator=generator),
        torch.rand(rows, frames, 36, generator=generator) * 2 - 1,
        deceit=torch.tensor(1.0),
        fade=torch.tensor(1.0),
        wide=rows // 2,
        pitch=torch.randint(0, 2, (rows, frames * 8), generator=generator) * 170.0,
        begin=torch.randint(0, 256, (rows,), generator=generator),
    )
