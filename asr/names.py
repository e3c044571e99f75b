"""Tensor names and row orders of the released checkpoints, in both formats, and ours.

Ours follow the modules; native names are nearly the same with other prefixes. Traps:
- Hugging Face calls the encoder's feed-forward norm `final_layer_norm`; its last norm is `norm`;
- native files keep the embedding under `mm_streams_embeddings` and have no output head;
- the rows of q and k (and of the encoder's q bias) are in another order in each format.
"""

from __future__ import annotations

import re
from typing import Literal

from torch import Tensor

RopeLayout = Literal["interleaved", "half"]

_EMBEDDINGS = "mm_streams_embeddings.embedding_module."
_NATIVE = (
    ("encoder.conv1.", f"{_EMBEDDINGS}whisper_encoder.conv_layers.0.conv."),
    ("encoder.conv2.", f"{_EMBEDDINGS}whisper_encoder.conv_layers.1.conv."),
    ("encoder.transformer.", f"{_EMBEDDINGS}whisper_encoder.transformer."),
    ("adapter.", f"{_EMBEDDINGS}audio_language_projection."),
    ("decoder.tok_embeddings.", f"{_EMBEDDINGS}tok_embeddings."),
    ("decoder.transformer.", ""),
)
_HUGGING_FACE = (
    ("encoder.conv1.", "audio_tower.embedder.conv1."),
    ("encoder.conv2.", "audio_tower.embedder.conv2."),
    ("encoder.transformer.", "audio_tower."),
    ("adapter.0.", "multi_modal_projector.linear_1."),
    ("adapter.2.", "multi_modal_projector.linear_2."),
    ("decoder.tok_embeddings.", "language_model.model.embed_tokens."),
    ("decoder.transformer.", "language_model.model."),
)
_LAYER_PARTS = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "ada_rms_norm_t_cond.0": "ada_rms_norm.linear1",
    "ada_rms_norm_t_cond.2": "ada_rms_norm.linear2",
}
_ENCODER_NORMS = {"attention_norm": "self_attn_layer_norm", "ffn_norm": "final_layer_norm"}
_DECODER_NORMS = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}

# A file may repeat the tied output head under one of these; it has to equal the embedding.
HEADS = ("output.weight", "language_model.lm_head.weight", "lm_head.weight")


def native_name(name: str) -> str:
    """Name of one of our tensors in consolidated.safetensors."""
    return _replace_prefix(name, _NATIVE)


def hugging_face_name(name: str) -> str:
    """Name of one of our tensors in a Hugging Face model.safetensors."""
    spelled = _replace_prefix(name, _HUGGING_FACE)
    layer = re.fullmatch(r"(.*layers\.\d+\.)(.*)\.(weight|bias)", spelled)
    if layer is None:
        return spelled
    place, part, kind = layer.groups()
    norms = _ENCODER_NORMS if name.startswith("encoder.") else _DECODER_NORMS
    return f"{place}{(_LAYER_PARTS | norms).get(part, part)}.{kind}"


def has_rope_rows(name: str) -> bool:
    """Whether the rows of one of our tensors are rotated, so that their order is a matter of layout."""
    return re.search(r"\.attention\.w[qk]\.(weight|bias)$", name) is not None


def reorder_rope_rows(rows: Tensor, head_dim: int, to: RopeLayout) -> Tensor:
    """Rows of a q or k projection (weight or bias) in the other layout, head by head.

    Interleaved (native, ours): pair i of a head is rows 2i and 2i + 1. Half (Hugging Face): rows
    i and head_dim / 2 + i. [n_heads * head_dim, ...] -> the same shape.
    """
    split = (2, head_dim // 2) if to == "interleaved" else (head_dim // 2, 2)
    return rows.reshape(-1, *split, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def _replace_prefix(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in table:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise KeyError(f"{name} is no tensor of a listener")
