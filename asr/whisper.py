"""Start a causal encoder from Whisper's.

The weights of Whisper's encoder (MIT, openai's own names) fit `small_english` one to one. What
differs is what they are used for: both stem convolutions pad on the left only (the first is
then 10 ms late), frames see their own block and the past, the floor of the log-mel is fixed,
and sinusoids slower than 30 s stand still so that positions never run out.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ..errors import CheckpointError
from .model import AudioEncoder

BLOCK_PARTS = {
    "attn_ln": "attention_norm",
    "mlp_ln": "ffn_norm",
    "attn.query": "attention.wq",
    "attn.key": "attention.wk",
    "attn.value": "attention.wv",
    "attn.out": "attention.wo",
    "mlp.0": "feed_forward.w1",
    "mlp.2": "feed_forward.w2",
}


def load_whisper_encoder(encoder: AudioEncoder, path: str | Path) -> None:
    """Fill `encoder` in place from a safetensors file with openai's `encoder.*` names.

    Raises:
        CheckpointError: the file can't be read, or a tensor is missing or misshapen.
    """
    try:
        stored: dict[str, Tensor] = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file of a Whisper encoder ({error})"
        ) from error
    targets = dict(encoder.named_parameters())
    with torch.no_grad():
        for name, target in targets.items():
            source = _whisper_name(name)
            if source not in stored:
                raise CheckpointError(f"{path}: {source} is missing")
            if stored[source].shape != target.shape:
                raise CheckpointError(
                    f"{path}: {source}: expected {list(target.shape)}, found {list(stored[source].shape)}"
                )
            target.copy_(stored[source])


def _whisper_name(name: str) -> str:
    """`transformer.layers.3.attention.wq.bias` -> `encoder.blocks.3.attn.query.bias`."""
    if name.startswith("transformer.norm."):
        return "encoder.ln_post." + name.rsplit(".", 1)[1]
    if not name.startswith("transformer.layers."):
        return "encoder." + name
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    theirs = {ours: whisper for whisper, ours in BLOCK_PARTS.items()}
    return f"encoder.blocks.{layer}.{theirs[part]}.{kind}"
