"""params.json of a Voxtral TTS <-> `TTSConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..codec.params import config_from_params as codec_from_params
from ..codec.params import params_from_config as codec_params
from ..errors import CheckpointError, ConfigError
from ..kernels.section import Section
from .config import CONTEXT, FlowConfig, TTSConfig, backbone

MODEL_TYPE = "voxtral_tts"


def config_from_params(document: Mapping[str, object], name: str) -> TTSConfig:
    """The model that a params.json speaks of.

    Raises:
        CheckpointError: no speech model, or a value that none can have; the message names the key.
    """
    top = Section(document)
    top.expect("model_type", MODEL_TYPE)
    for key, value in (("use_biases", False), ("causal", True), ("tied_embeddings", True)):
        top.expect(key, value)
    audio = top.section("multimodal").section("audio_model_args")
    args = audio.section("acoustic_transformer_args")
    args.expect("use_biases", False)
    audio_encoding = audio.values.get("audio_encoding_args")
    if isinstance(audio_encoding, dict):
        audio.section("audio_encoding_args").expect("codebook_pattern", "parallel")
    audio.expect("input_embedding_concat_type", "sum")
    codec = codec_from_params(document, name)
    for key, wanted in (
        ("semantic_codebook_size", codec.semantic_codes),
        ("acoustic_codebook_size", codec.acoustic_levels),
        ("n_acoustic_codebook", codec.acoustic_dim),
    ):
        if audio.integer(key) != wanted:
            raise audio.error(key, f"must be what the codec has, {wanted}, got {audio.integer(key)}")
    dim = top.integer("dim")
    args.expect("input_dim", dim)
    try:
        return TTSConfig(
            backbone(
                dim,
                top.integer("n_layers"),
                top.integer("n_heads"),
                top.integer("n_kv_heads"),
                top.integer("head_dim"),
                top.integer("hidden_dim"),
                rope_theta=top.positive("rope_theta", 1e6),
                norm_eps=top.positive("norm_eps", 1e-5),
                # What the reference serves; the file's own lengths are those of the text model.
                context=min(CONTEXT, top.integer("max_seq_len", CONTEXT)),
            ),
            FlowConfig(
                args.integer("dim"),
                args.integer("n_layers"),
                args.integer("n_heads"),
                args.integer("n_kv_heads"),
                args.integer("head_dim"),
                args.integer("hidden_dim"),
                args.positive("norm_eps", 1e-5),
                args.integer("n_decoding_steps", 7),
                args.number("cfg_alpha", 1.2),
            ),
            codec,
            top.integer("vocab_size"),
            name,
        )
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def params_from_config(config: TTSConfig) -> dict[str, Any]:
    """A params.json in the released file's words."""
    body, flow = config.backbone, config.flow
    codec = codec_params(replace(config.codec, conv_weight_norm=False))
    return {
        "model_type": MODEL_TYPE,
        "dim": body.dim,
        "n_layers": body.n_layers,
        "head_dim": body.head_dim,
        "hidden_dim": body.hidden_dim,
        "n_heads": body.n_heads,
        "n_kv_heads": body.kv_heads,
        "use_biases": False,
        "causal": True,
        "rope_theta": body.rope_theta,
        "norm_eps": body.norm_eps,
        "vocab_size": config.vocab_size,
        "tied_embeddings": True,
        "max_seq_len": body.window,
        "multimodal": {
            "audio_model_args": {
                "semantic_codebook_size": config.codec.semantic_codes,
                "acoustic_codebook_size": config.codec.acoustic_levels,
                "n_acoustic_codebook": config.codec.acoustic_dim,
                "input_embedding_concat_type": "sum",
                "acoustic_transformer_args": {
                    "input_dim": body.dim,
                    "dim": flow.dim,
                    "n_layers": flow.n_layers,
                    "head_dim": flow.head_dim,
                    "hidden_dim": flow.hidden_dim,
                    "n_heads": flow.n_heads,
                    "n_kv_heads": flow.n_kv_heads,
                    "use_biases": False,
                    "norm_eps": flow.norm_eps,
                    "n_decoding_steps": flow.steps,
                    "cfg_alpha": flow.guidance,
                },
            },
            **codec["multimodal"],
        },
    }
