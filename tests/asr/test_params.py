"""params.json and config.json to a config and back; the key that is wrong is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_listener import GOLDEN, golden_config, small_config

from rillvox.asr.config import ASRConfig, small_decoder, small_english, voxtral_realtime_4b
from rillvox.asr.params import config_from_hf, load_config, params_from_config
from rillvox.errors import CheckpointError, ConfigError

RELEASED = json.loads((Path(__file__).parents[1] / "golden" / "asr_4b_names.json").read_text("utf-8"))
NATIVE = json.loads((GOLDEN / "params.json").read_text("utf-8"))
HF = json.loads((GOLDEN / "config.json").read_text("utf-8"))
ENCODER = ("multimodal", "whisper_model_args", "encoder_args")
AUDIO = (*ENCODER, "audio_encoding_args")


def read(document: dict[str, Any]) -> ASRConfig:
    return load_config(document) if "n_layers" in document else config_from_hf(document)


def changed(document: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    """A copy with another value at `path`; None takes the key out."""
    document = copy.deepcopy(document)
    node = document
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return document


def paths(node: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in node.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from paths(value, (*prefix, key))


def test_the_released_params_are_the_released_geometry() -> None:
    config = voxtral_realtime_4b()
    assert load_config(RELEASED["params_json"], name=config.name) == config
    assert config_from_hf(RELEASED["config_json"], name=config.name) == config


def test_the_released_config_is_written_with_the_released_keys_and_no_others() -> None:
    params = params_from_config(voxtral_realtime_4b())
    assert params.pop("name") == "voxtral-mini-4b-realtime"
    assert params == RELEASED["params_json"]


@pytest.mark.parametrize(
    "config",
    [
        golden_config(),
        small_config(),
        small_english(1100),
        small_english(1100, small_decoder()),
        voxtral_realtime_4b(),
        replace(golden_config(), time_embedding_dtype="bfloat16", buffer_tokens=4),
    ],
    ids=["golden", "small", "default", "writer", "4b", "odd"],
)
def test_a_config_survives_the_file(config: ASRConfig) -> None:
    text = json.dumps(params_from_config(config))
    assert load_config(json.loads(text)) == config


def test_both_golden_files_say_the_same() -> None:
    assert read(NATIVE) == read(HF) == golden_config()


def test_a_window_may_be_written_as_a_string() -> None:
    written = changed(NATIVE, ("sliding_window",), "12")
    assert read(changed(written, (*ENCODER, "sliding_window"), "20")) == golden_config()


@pytest.mark.parametrize("document", [NATIVE, HF], ids=["native", "hugging_face"])
def test_a_key_that_is_taken_out_is_named_or_was_not_needed(document: dict[str, Any]) -> None:
    reader = load_config if document is NATIVE else config_from_hf
    named: set[str] = set()
    for path in paths(document):
        try:
            config = reader(changed(document, path, None))
        except CheckpointError as error:
            message = str(error)
            named.add(path[-1])
        else:
            # The one key with a default of its own, which is not the golden model's.
            assert config == golden_config() or path == ("text_config", "vocab_size")
            continue
        assert message == f"{'.'.join(path)} is missing"
    if document is NATIVE:
        needed = {"dim", "n_layers", "n_kv_heads", "rope_theta", "norm_eps", "num_mel_bins", "vocab_size"}
    else:
        needed = {"model_type", "hidden_size", "num_hidden_layers", "rms_norm_eps", "rope_theta"}
    assert named >= needed | {"sliding_window", "head_dim"}


WRONG: list[tuple[dict[str, Any], tuple[str, ...], object, str]] = [
    (NATIVE, ("dim",), 0, "dim must be at least 1, got 0"),
    (NATIVE, ("dim",), -48, "dim must be at least 1"),
    (NATIVE, ("dim",), 48.5, "dim must be a whole number, got 48.5"),
    (NATIVE, ("dim",), True, "dim must be a whole number, got True"),
    (NATIVE, ("dim",), [48], "dim must be a whole number"),
    (NATIVE, ("sliding_window",), "wide", "sliding_window must be a whole number, got 'wide'"),
    (NATIVE, ("n_kv_heads",), 3, "n_kv_heads must divide n_heads"),
    (NATIVE, ("norm_eps",), 0, "norm_eps must be above 0"),
    (NATIVE, ("rope_theta",), float("inf"), "rope_theta must be above 0 and finite"),
    (NATIVE, ("rope_theta",), "1e6", "rope_theta must be a number"),
    (NATIVE, ("vocab_size",), 3, "vocab_size must be at least 4"),
    (NATIVE, ("tied_embeddings",), False, "tied_embeddings must be true, got False"),
    (NATIVE, ("causal",), False, "causal must be true"),
    (NATIVE, ("ada_rms_norm_t_cond",), False, "ada_rms_norm_t_cond must be true"),
    (NATIVE, ("use_biases",), "no", "use_biases must be true or false"),
    (NATIVE, ("yarn",), {"factor": 16}, "yarn is not supported"),
    (NATIVE, ("quantization",), "fp8", "quantization is not supported"),
    (NATIVE, ("name",), 7, "name must be a string"),
    (NATIVE, ("block_delays_ms",), [0, 80], "block_delays_ms needs one entry for each"),
    (NATIVE, ("block_delays_ms",), [0.5], "block_delays_ms must be a list of whole numbers"),
    (NATIVE, ("buffer_tokens",), -1, "buffer_tokens must be at least 0"),
    (NATIVE, ("time_embedding_dtype",), "float16", "time_embedding_dtype must be one of float32, bfloat16"),
    (NATIVE, ("most_delay_tokens",), 31, "most_delay_tokens must be 1 to 30, got 31"),
    (NATIVE, ("cpu_weights",), "int4", "cpu_weights must be one of float32, int8"),
    (NATIVE, ("multimodal",), [], "multimodal must be an object"),
    (NATIVE, (*ENCODER, "head_dim"), 15, "head_dim must be even for rope"),
    (NATIVE, (*ENCODER, "pos_embed"), "learned", "encoder_args.pos_embed must be one of"),
    (NATIVE, (*ENCODER, "ffn_type"), "relu", "encoder_args.ffn_type must be one of swiglu, gelu"),
    (NATIVE, (*ENCODER, "norm_type"), "batch", "encoder_args.norm_type must be one of"),
    (NATIVE, (*ENCODER, "biases"), ["wx"], "biases names no linear: 'wx'"),
    (NATIVE, (*ENCODER, "attention_blocks"), [6], "6 is no multiple of 4"),
    (NATIVE, (*AUDIO, "sampling_rate"), 24000, "audio_encoding_args.sampling_rate must be 16000, got 24000"),
    (NATIVE, (*AUDIO, "hop_length"), 320, "audio_encoding_args.hop_length must be 160"),
    (NATIVE, (*AUDIO, "frame_rate"), 25, "audio_encoding_args.frame_rate must be 12.5"),
    (HF, ("model_type",), "whisper", "model_type must be one of voxtral_realtime, got 'whisper'"),
    (HF, ("downsample_factor",), 8, "downsample_factor must be 4"),
    (HF, ("tie_word_embeddings",), False, "tie_word_embeddings must be true"),
    (HF, ("audio_config", "hidden_act"), "relu", "audio_config.hidden_act must be \"silu\", got 'relu'"),
    (HF, ("text_config", "rope_parameters", "rope_type"), "yarn", "rope_parameters.rope_type must be"),
    (HF, ("text_config", "rope_parameters"), 3, "text_config.rope_parameters must be an object"),
    (HF, ("text_config", "num_key_value_heads"), 0, "num_key_value_heads must be at least 1"),
]


@pytest.mark.parametrize(("document", "path", "value", "message"), WRONG)
def test_a_value_out_of_range_is_named(
    document: dict[str, Any], path: tuple[str, ...], value: object, message: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(changed(document, path, value))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("stack", "habit"),
    [
        ("decoder", {"window_includes_self": False}),
        ("decoder", {"layer_scale": 0.1}),
        ("decoder", {"rope_layout": "half"}),
        ("decoder", {"qk_norm_eps": 1e-6}),
        ("encoder.stack", {"query_scale_beta": 0.1}),
        ("encoder.stack", {"final_norm": False}),
    ],
)
def test_a_habit_that_the_file_cannot_say_is_not_lost_in_silence(stack: str, habit: dict[str, Any]) -> None:
    config = golden_config()
    if stack == "decoder":
        config = replace(config, decoder=replace(config.decoder, **habit))
    else:
        encoder = replace(config.encoder, stack=replace(config.encoder.stack, **habit))
        config = replace(config, encoder=encoder)
    with pytest.raises(ConfigError, match=rf"{stack}\.{next(iter(habit))}: a params\.json cannot say"):
        params_from_config(config)
