"""`audio_tokenizer_args` of params.json <-> `CodecConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from ..errors import CheckpointError, ConfigError
from ..kernels.section import Section
from .config import SAMPLE_RATE, CodecConfig

# What this family of codecs has in common; anything else would be another network.
FIXED: dict[str, object] = {
    "channels": 1,
    "sampling_rate": SAMPLE_RATE,
    "causal": True,
    "half_attn_window_upon_downsampling": True,
    "qk_norm": True,
    "use_biases": False,
    "layer_scale": True,
}
_RELEASED = CodecConfig()


def config_from_params(document: Mapping[str, object], name: str) -> CodecConfig:
    """The codec that a params.json speaks of.

    Keys other than the sizes may be missing, as they may in the released file.

    Raises:
        CheckpointError: no codec in it, or a value that none can have; the message names the key.
    """
    multimodal = document.get("multimodal", document)
    if not isinstance(multimodal, dict) or "audio_tokenizer_args" not in multimodal:
        raise CheckpointError("multimodal.audio_tokenizer_args is missing: this is no model with a codec")
    section = Section(cast("dict[str, object]", multimodal), "multimodal.").section("audio_tokenizer_args")
    for key, value in FIXED.items():
        section.expect(key, value)
    n_heads = section.integer("n_heads")
    section.expect("n_kv_heads", n_heads)
    released = _RELEASED
    try:
        return CodecConfig(
            patch=section.integer("pretransform_patch_size", released.patch),
            patch_kernel=section.integer("patch_proj_kernel_size", released.patch_kernel),
            dim=section.integer("dim"),
            hidden_dim=section.integer("hidden_dim"),
            n_heads=n_heads,
            head_dim=section.integer("head_dim"),
            window=section.integer("attn_sliding_window_size", released.window),
            norm_eps=section.positive("norm_eps", released.norm_eps),
            qk_norm_eps=section.positive("qk_norm_eps", released.qk_norm_eps),
            layer_scale=section.positive("layer_scale_init", released.layer_scale),
            semantic_codes=section.integer("semantic_codebook_size"),
            semantic_dim=section.integer("semantic_dim"),
            acoustic_levels=section.integer("acoustic_codebook_size"),
            acoustic_dim=section.integer("acoustic_dim"),
            encoder_layers=_numbers(section, "encoder_transformer_lengths_str", released.encoder_layers),
            encoder_kernels=_numbers(section, "encoder_convs_kernels_str", released.encoder_kernels),
            encoder_strides=_numbers(section, "encoder_convs_strides_str", released.encoder_strides),
            decoder_layers=_numbers(section, "decoder_transformer_lengths_str", released.decoder_layers),
            decoder_kernels=_numbers(section, "decoder_convs_kernels_str", released.decoder_kernels),
            decoder_strides=_numbers(section, "decoder_convs_strides_str", released.decoder_strides),
            conv_weight_norm=section.flag("conv_weight_norm", True),
            encoder_input=cast(
                'Literal["patch", "logspec"]', section.choice("encoder_input", ("patch", "logspec"), "patch")
            ),
            head=cast(
                'Literal["patch", "istft", "source"]',
                section.choice("head", ("patch", "istft", "source"), "patch"),
            ),
            output_delay=section.integer("output_delay", 0, minimum=0),
            cpu_weights=cast(
                'Literal["float32", "int8"]', section.choice("cpu_weights", ("float32", "int8"), "float32")
            ),
            name=name,
        )
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def params_from_config(config: CodecConfig) -> dict[str, Any]:
    """A params.json of a codec by itself, in the released file's words."""
    return {
        "model_type": "voxtral_codec",
        "multimodal": {
            "audio_tokenizer_args": {
                **FIXED,
                "pretransform_patch_size": config.patch,
                "patch_proj_kernel_size": config.patch_kernel,
                "semantic_codebook_size": config.semantic_codes,
                "semantic_dim": config.semantic_dim,
                "acoustic_codebook_size": config.acoustic_levels,
                "acoustic_dim": config.acoustic_dim,
                "conv_weight_norm": config.conv_weight_norm,
                "attn_sliding_window_size": config.window,
                "dim": config.dim,
                "hidden_dim": config.hidden_dim,
                "head_dim": config.head_dim,
                "n_heads": config.n_heads,
                "n_kv_heads": config.n_heads,
                "qk_norm_eps": config.qk_norm_eps,
                "norm_eps": config.norm_eps,
                "layer_scale_init": config.layer_scale,
                "encoder_transformer_lengths_str": _text(config.encoder_layers),
                "encoder_convs_kernels_str": _text(config.encoder_kernels),
                "encoder_convs_strides_str": _text(config.encoder_strides),
                "decoder_transformer_lengths_str": _text(config.decoder_layers),
                "decoder_convs_kernels_str": _text(config.decoder_kernels),
                "decoder_convs_strides_str": _text(config.decoder_strides),
                "encoder_input": config.encoder_input,
                "head": config.head,
                "output_delay": config.output_delay,
                "cpu_weights": config.cpu_weights,
            }
        },
    }


def _numbers(section: Section, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Whole numbers with commas between, as the released file writes lists."""
    value = section.values.get(key, _text(default))
    parts = value.split(",") if isinstance(value, str) else []
    if not parts or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise section.error(key, f"must be whole numbers with commas between, in a string, got {value!r}")
    return tuple(int(part) for part in parts)


def _text(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
