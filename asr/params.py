"""params.json to a config and back: the numbers beside a native checkpoint.

Keys are those of the released Voxtral Realtime files. What those files never say has a key of
its own that is written only where it differs from them, so the small default model uses the
same file and the same reader:

- top level: `name`, `adapter_dim`, `buffer_tokens`, `block_delays_ms`, `most_delay_tokens`,
  `time_embedding_dtype`, `cpu_weights`;
- either stack: `norm_type` "rms_norm" | "layer_norm", `ffn_type` "swiglu" | "gelu", `pos_embed`
  "rope" | "alibi" | "none" (encoder also "sinusoid"), `biases` (linears that have one),
  `attention_block`;
- encoder: `attention_blocks`, `longest_period`;
- `search` in place of a decoder's keys: the numbers of `SearchConfig`.

The delay and the left padding are not here: tekken.json has them, under `audio`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, cast

from ..errors import CheckpointError, ConfigError
from ..kernels.section import Section
from ..kernels.transformer import TransformerConfig
from .config import FRAMES_PER_TOKEN, ASRConfig, AudioEncoderConfig
from .delays import MAX_DELAY_TOKENS
from .search import SearchConfig

# `use_biases` of the released encoder is true, and still wk, w1 and w3 have none.
RELEASED_BIASES = ("wq", "wv", "wo", "w2")
NORMS: dict[str, Literal["rms", "layer"]] = {"rms_norm": "rms", "layer_norm": "layer"}
# What a file may ask for that would change every number, and no model of this family has.
UNKNOWN_HABITS = ("yarn", "rope_scaling", "llama_4_scaling", "moe", "quantization", "lora")
AUDIO_FACTS: dict[str, object] = {
    "sampling_rate": 16000,
    "frame_rate": 12.5,
    "hop_length": 160,
    "window_size": 400,
}


def load_config(params: Mapping[str, object], *, left_pad_tokens: int = 32, name: str = "asr") -> ASRConfig:
    """The config that a params.json describes; `name` is used where the file has none.

    Raises:
        CheckpointError: the key that is missing, or has a value outside its range.
    """
    top = Section(params)
    searches = "search" in params
    if not searches:
        top.expect("tied_embeddings", True)
        top.expect("ada_rms_norm_t_cond", True)
    whisper = top.section("multimodal").section("whisper_model_args")
    whisper.section("downsample_args").expect("downsample_factor", FRAMES_PER_TOKEN)
    encoder = whisper.section("encoder_args")
    audio = encoder.section("audio_encoding_args")
    for key, value in AUDIO_FACTS.items():
        audio.expect(key, value)
    sinusoid = encoder.choice("pos_embed", ("rope", "alibi", "none", "sinusoid")) == "sinusoid"
    blocks = _integers(encoder, "attention_blocks", (encoder.integer("attention_block", 1),))
    try:
        return ASRConfig(
            AudioEncoderConfig(
                _stack(encoder),
                n_mels=audio.integer("num_mel_bins"),
                global_log_mel_max=audio.positive("global_log_mel_max"),
                position_table="sinusoid" if sinusoid else "none",
                longest_period=encoder.positive("longest_period", 1500.0),
                blocks=blocks,
            ),
            _search(top) if searches else _stack(top, ada_dim=top.integer("ada_rms_norm_t_cond_dim")),
            vocab_size=top.integer("vocab_size"),
            adapter_dim=top.integer("adapter_dim") if "adapter_dim" in params else None,
            left_pad_tokens=left_pad_tokens,
            buffer_tokens=top.integer("buffer_tokens", 10, minimum=0),
            block_delays_ms=_integers(top, "block_delays_ms", (0,) * len(blocks)),
            most_delay_tokens=top.integer("most_delay_tokens", MAX_DELAY_TOKENS),
            name=_name(top, name),
            time_embedding_dtype=_time_dtype(top),
            cpu_weights=_cpu_weights(top),
        )
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def config_from_hf(
    document: Mapping[str, object], *, left_pad_tokens: int = 32, name: str = "asr"
) -> ASRConfig:
    """The config that a Hugging Face config.json describes.

    Raises:
        CheckpointError: the key that is missing, or has a value outside its range.
    """
    top = Section(document)
    top.choice("model_type", ("voxtral_realtime",))
    top.expect("downsample_factor", FRAMES_PER_TOKEN)
    top.expect("audio_length_per_tok", 2 * FRAMES_PER_TOKEN)
    top.expect("projector_hidden_act", "gelu")
    top.expect("tie_word_embeddings", True)
    encoder, decoder = top.section("audio_config"), top.section("text_config")
    encoder.expect("activation_function", "gelu")
    try:
        return ASRConfig(
            AudioEncoderConfig(_hf_stack(encoder, RELEASED_BIASES), n_mels=encoder.integer("num_mel_bins")),
            # The inner width of the Ada scale is no key of the file: the family has but one.
            _hf_stack(decoder, (), ada_dim=32),
            # The released file leaves it to the default of its config class.
            vocab_size=decoder.integer("vocab_size", 131072),
            left_pad_tokens=left_pad_tokens,
            name=name,
        )
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def params_from_config(config: ASRConfig) -> dict[str, object]:
    """The params.json of a config: `load_config` gives the config back.

    Raises:
        ConfigError: the config has a habit that the file cannot say.
    """
    encoder, decoder = config.encoder, config.decoder
    sinusoid = encoder.position_table == "sinusoid"
    encoder_args: dict[str, object] = {
        "audio_encoding_args": {
            **AUDIO_FACTS,
            "num_mel_bins": encoder.n_mels,
            "chunk_length_s": None,
            "global_log_mel_max": encoder.global_log_mel_max,
            "transcription_format": "streaming",
        },
        "vocab_size": config.vocab_size,
        "use_cache": False,
        "max_source_positions": None,
        "pos_embed": "sinusoid" if sinusoid else encoder.stack.position,
        "ffn_type": encoder.stack.mlp,
        "norm_type": f"{encoder.stack.norm}_norm",
        **_stack_params(encoder.stack),
    }
    _unless(encoder_args, "attention_blocks", list(encoder.blocks), [encoder.stack.block])
    _unless(encoder_args, "longest_period", encoder.longest_period, 1500.0)
    multimodal: dict[str, object] = {
        "whisper_model_args": {
            "encoder_args": encoder_args,
            "downsample_args": {"downsample_factor": FRAMES_PER_TOKEN},
        }
    }
    if isinstance(decoder, SearchConfig):
        params: dict[str, object] = {
            "name": config.name,
            "search": dataclasses.asdict(decoder),
            "vocab_size": config.vocab_size,
            "multimodal": multimodal,
        }
    else:
        params = {
            "name": config.name,
            **_stack_params(decoder),
            "vocab_size": config.vocab_size,
            "model_parallel": 1,
            "tied_embeddings": True,
            "model_max_length": 131072,
            "multimodal": multimodal,
            "ada_rms_norm_t_cond": True,
            "ada_rms_norm_t_cond_dim": decoder.ada_dim,
        }
        _unless(params, "pos_embed", decoder.position, "rope")
        _unless(params, "ffn_type", decoder.mlp, "swiglu")
        _unless(params, "norm_type", f"{decoder.norm}_norm", "rms_norm")
    _unless(params, "adapter_dim", config.adapter_dim, None)
    _unless(params, "buffer_tokens", config.buffer_tokens, 10)
    _unless(params, "block_delays_ms", list(config.block_delays_ms), [0] * len(encoder.blocks))
    _unless(params, "most_delay_tokens", config.most_delay_tokens, MAX_DELAY_TOKENS)
    _unless(params, "time_embedding_dtype", config.time_embedding_dtype, "float32")
    _unless(params, "cpu_weights", config.cpu_weights, "float32")
    _refuse_lossy(config, load_config(params, left_pad_tokens=config.left_pad_tokens))
    return params


def _stack(section: Section, ada_dim: int = 0) -> TransformerConfig:
    section.expect("causal", True)
    section.refuse(UNKNOWN_HABITS)
    position = section.choice("pos_embed", ("rope", "alibi", "none", "sinusoid"), "rope")
    biases = RELEASED_BIASES if section.flag("use_biases") else ()
    if "biases" in section.values:
        biases = tuple(str(name) for name in section.items("biases", str))
    n_heads, n_kv_heads = section.integer("n_heads"), section.integer("n_kv_heads")
    return TransformerConfig(
        dim=section.integer("dim"),
        n_layers=section.integer("n_layers"),
        n_heads=n_heads,
        head_dim=section.integer("head_dim"),
        hidden_dim=section.integer("hidden_dim"),
        n_kv_heads=None if n_kv_heads == n_heads else n_kv_heads,
        window=section.integer("sliding_window"),
        block=section.integer("attention_block", 1),
        norm=NORMS[section.choice("norm_type", tuple(NORMS), "rms_norm")],
        norm_eps=section.positive("norm_eps"),
        mlp="gelu" if section.choice("ffn_type", ("swiglu", "gelu"), "swiglu") == "gelu" else "swiglu",
        position="rope" if position == "rope" else "alibi" if position == "alibi" else "none",
        rope_theta=section.positive("rope_theta"),
        biases=biases,
        ada_dim=ada_dim,
    )


def _search(top: Section) -> SearchConfig:
    search = top.section("search")
    usual = SearchConfig()
    names = {field.name for field in dataclasses.fields(usual)}
    if surplus := sorted(set(search.values) - names):
        raise search.error(surplus[0], "is no number of a search")
    return SearchConfig(
        tokens=search.integer("tokens", usual.tokens),
        history=search.integer("history", usual.history),
        language=search.positive("language", usual.language),
        word=search.number("word", usual.word),
        phone=search.number("phone", usual.phone),
        noise=search.number("noise", usual.noise),
        beam=search.positive("beam", usual.beam),
        sharpness=search.positive("sharpness", usual.sharpness),
        sure=search.positive("sure", usual.sure),
    )


def _hf_stack(section: Section, biases: tuple[str, ...], ada_dim: int = 0) -> TransformerConfig:
    section.expect("hidden_act", "silu")
    rope = section.section("rope_parameters")
    rope.expect("rope_type", "default")
    rope.expect("partial_rotary_factor", 1.0)
    n_heads = section.integer("num_attention_heads")
    # An encoder file may leave the key heads out: its config class says they are the query heads.
    n_kv_heads = section.integer("num_key_value_heads", None if ada_dim else n_heads)
    return TransformerConfig(
        dim=section.integer("hidden_size"),
        n_layers=section.integer("num_hidden_layers"),
        n_heads=n_heads,
        head_dim=section.integer("head_dim"),
        hidden_dim=section.integer("intermediate_size"),
        n_kv_heads=None if n_kv_heads == n_heads else n_kv_heads,
        window=section.integer("sliding_window"),
        norm_eps=section.positive("rms_norm_eps"),
        rope_theta=rope.positive("rope_theta"),
        biases=biases,
        ada_dim=ada_dim,
    )


def _stack_params(stack: TransformerConfig) -> dict[str, object]:
    params: dict[str, object] = {
        "dim": stack.dim,
        "n_layers": stack.n_layers,
        "head_dim": stack.head_dim,
        "hidden_dim": stack.hidden_dim,
        "n_heads": stack.n_heads,
        "n_kv_heads": stack.kv_heads,
        "use_biases": bool(stack.biases),
        "causal": stack.causal,
        "rope_theta": stack.rope_theta,
        "norm_eps": stack.norm_eps,
        "sliding_window": stack.window,
    }
    _unless(params, "biases", list(stack.biases), list(RELEASED_BIASES) if stack.biases else [])
    _unless(params, "attention_block", stack.block, 1)
    return params


def _unless(params: dict[str, object], key: str, value: object, usual: object) -> None:
    if value != usual:
        params[key] = value


def _integers(section: Section, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
    if key not in section.values:
        return default
    return tuple(cast("list[int]", section.items(key, int)))


def _name(top: Section, default: str) -> str:
    value = top.values.get("name", default)
    if not isinstance(value, str):
        raise top.error("name", f"must be a string, got {value!r}")
    return value


def _time_dtype(top: Section) -> Literal["float32", "bfloat16"]:
    found = top.choice("time_embedding_dtype", ("float32", "bfloat16"), "float32")
    return "bfloat16" if found == "bfloat16" else "float32"


def _cpu_weights(top: Section) -> Literal["float32", "int8"]:
    return "int8" if top.choice("cpu_weights", ("float32", "int8"), "float32") == "int8" else "float32"


def _refuse_lossy(config: ASRConfig, read: ASRConfig) -> None:
    """Name the first field that would come back from the file as something else."""
    pairs = [
        ("encoder.stack", config.encoder.stack, read.encoder.stack),
        ("encoder", config.encoder, read.encoder),
        ("decoder", config.decoder, read.decoder),
        ("", config, read),
    ]
    for place, kept, found in pairs:
        for field in dataclasses.fields(kept):
            here, there = getattr(kept, field.name), getattr(found, field.name)
            if field.name == "n_kv_heads" or dataclasses.is_dataclass(here) or here == there:
                continue
            where = f"{place}.{field.name}".lstrip(".")
            raise ConfigError(f"{where}: a params.json cannot say {here!r}")
