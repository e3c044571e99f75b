"""Small listeners for tests: the golden one, and new ones with seeded random weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor

from rillvox.asr.config import ASRConfig, AudioEncoderConfig
from rillvox.asr.model import RealtimeASR
from rillvox.kernels.transformer import TransformerConfig
from rillvox.tekken import STREAMING_PAD, STREAMING_WORD, Tekken

GOLDEN = Path(__file__).resolve().parent / "golden" / "asr_tiny"
BOS, EOS, PAD, WORD, LEFT_PAD = 1, 2, 32, 33, 32
FORMATS = {
    "native": ("params.json", "consolidated.safetensors"),
    "hugging_face": ("config.json", "model.safetensors"),
}


def golden_folder(form: str, parent: Path) -> Path:
    """A copy of the golden model in one format, free to be broken."""
    folder = parent / form
    folder.mkdir()
    for name in FORMATS[form]:
        shutil.copy(GOLDEN / name, folder / name)
    return folder


def golden_config(vocab_size: int = 200) -> ASRConfig:
    """Geometry of the golden model, by hand."""
    encoder = TransformerConfig(
        dim=32,
        n_layers=3,
        n_heads=4,
        head_dim=16,
        hidden_dim=128,
        window=20,
        biases=("wq", "wv", "wo", "w2"),
    )
    decoder = TransformerConfig(
        dim=48, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=16, hidden_dim=80, window=12, ada_dim=32
    )
    return ASRConfig(AudioEncoderConfig(encoder), decoder, vocab_size)


def small_config(vocab_size: int = 300) -> ASRConfig:
    """The habits of the default model (LayerNorm, GELU, blocks, sinusoids) at a toy size."""
    encoder = TransformerConfig(
        dim=16,
        n_layers=2,
        n_heads=2,
        head_dim=8,
        hidden_dim=24,
        window=32,
        block=16,
        norm="layer",
        mlp="gelu",
        position="none",
        biases=("wq", "wv", "wo", "w1", "w2"),
    )
    decoder = TransformerConfig(
        dim=12, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=8, hidden_dim=20, window=16, ada_dim=4
    )
    return ASRConfig(
        AudioEncoderConfig(encoder, n_mels=80, position_table="sinusoid", blocks=(4, 8, 16)),
        decoder,
        vocab_size=vocab_size,
        adapter_dim=18,
        block_delays_ms=(0, 160, 320),
        name="toy",
    )


def random_listener(config: ASRConfig, seed: int = 0) -> RealtimeASR:
    """A listener in eval mode whose weights are large enough that no part of it can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    model = RealtimeASR(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm.weight" in name:
                weight.copy_(1 + 0.2 * noise)
            elif weight.dim() == 1:
                weight.copy_(0.2 * noise)
            else:
                weight.copy_(1.3 * noise / weight[0].numel() ** 0.5)
    return model


def byte_tokenizer(vocab_size: int, *, n_special: int = 36, audio: dict[str, object] | None = None) -> Tekken:
    """Single bytes and made-up pieces, as many as a model of that size needs."""
    extra = [b"~%04d" % i for i in range(vocab_size - n_special - 256)]
    pieces = [bytes([byte]) for byte in range(256)] + extra
    specials = {"<unk>": 0, "<s>": BOS, "</s>": EOS, STREAMING_PAD: PAD, STREAMING_WORD: WORD}
    return Tekken.build(pieces, r"\p{L}+|.", specials, audio, n_special)


def prompt(delay: int, length: int) -> Tensor:
    """BOS and pads up to the first free position, then random text: int64 [length]."""
    head = [BOS] + [PAD] * (LEFT_PAD + delay)
    generator = torch.Generator().manual_seed(delay)
    tail = torch.randint(3, 200, (length,), generator=generator).tolist()
    return torch.tensor((head + tail)[:length])


def assert_same_weights(one: RealtimeASR, other: RealtimeASR) -> None:
    """The same names with the same numbers, to the bit."""
    ours, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    assert list(ours) == list(theirs)
    for name, weight in ours.items():
        assert torch.equal(weight, theirs[name]), name
