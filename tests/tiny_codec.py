"""Tiny codecs for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from rillvox.codec.checkpoint import load_model
from rillvox.codec.config import CodecConfig
from rillvox.codec.model import CodecModel
from rillvox.codec.stream import Codec

GOLDEN = Path(__file__).parent / "golden" / "codec_tiny"

TINY = CodecConfig(
    patch=24, dim=32, hidden_dim=48, n_heads=2, head_dim=16, layer_scale=0.4,
    semantic_codes=64, semantic_dim=16, encoder_layers=(1, 1, 1, 1), decoder_layers=(1, 1, 1, 1), name="tiny",
)  # fmt: skip
KINDS = {
    "released": TINY,
    "spectral": replace(TINY, encoder_input="logspec", head="istft", output_delay=48),
    "source": replace(TINY, encoder_input="logspec", head="source", output_delay=72),
    "spectral, three strides": replace(
        TINY, encoder_input="logspec", head="istft", output_delay=24, encoder_layers=(1, 2, 1),
        encoder_kernels=(4, 8, 3), encoder_strides=(2, 4, 1), decoder_layers=(1, 1), decoder_kernels=(3, 8),
        decoder_strides=(1, 8),
    ),
}  # fmt: skip

FULL_FRAMES = replace(TINY, patch=240, encoder_input="logspec", head="source", output_delay=720)


@cache
def golden() -> Codec:
    """The codec of the golden vectors."""
    return Codec(load_model(GOLDEN))


@cache
def made(kind: str) -> Codec:
    """A codec with random weights, alike every time; "80 ms" has frames as long as the released one."""
    torch.manual_seed(7)
    model = CodecModel(KINDS.get(kind, FULL_FRAMES)).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith(("_scale", "norm.weight")):
            weight += 0.2 * torch.randn_like(weight)
    codebook = model.quantizer.semantic_codebook
    codebook.embedding_sum.normal_()
    codebook.cluster_usage.uniform_(0.5, 2)
    return Codec(model)


def sound(samples: int, seed: int = 0) -> torch.Tensor:
    """[samples] of something."""
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.3


def frames_of_codes(codec: Codec, frames: int, seed: int = 0) -> torch.Tensor:
    """int64 [frames, codes] within their alphabets."""
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(0, values, (frames,), generator=generator) for values in codec.config.alphabets]
    return torch.stack(columns, 1)
