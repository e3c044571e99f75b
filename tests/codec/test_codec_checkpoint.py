"""Codec folders: released names strict both ways, a missing encoder named, writes that harm nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_codec import GOLDEN, KINDS, made, sound

from rillvox.codec.checkpoint import load_model, save_model, stored_names
from rillvox.codec.config import CodecConfig, voxtral_codec
from rillvox.codec.model import CodecModel
from rillvox.codec.params import config_from_params, params_from_config
from rillvox.codec.stream import Codec
from rillvox.errors import CheckpointError, ConfigError

NAMES: dict[str, Any] = json.loads((GOLDEN.parent / "codec_names.json").read_text())


def folder_of(tmp_path: Path, tensors: dict[str, torch.Tensor], params: object | None = None) -> Path:
    tmp_path.mkdir(exist_ok=True)
    if params is None:
        params = json.loads((GOLDEN / "params.json").read_text())
    (tmp_path / "params.json").write_text(json.dumps(params))
    save_file(tensors, tmp_path / "consolidated.safetensors")
    return tmp_path


def golden_tensors() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "consolidated.safetensors")


def released_shapes(with_encoder: bool) -> dict[str, list[int]]:
    return NAMES["released"] | (NAMES["encoder_not_released"] if with_encoder else {})


@pytest.mark.parametrize("with_encoder", [False, True])
def test_the_released_names_and_shapes_are_exactly_those_of_the_model(with_encoder: bool) -> None:
    config = config_from_params(NAMES["params_json"], "codec")
    assert config == CodecConfig(name="codec")
    assert config == CodecConfig(**{**voxtral_codec().__dict__, "name": "codec"})
    with torch.device("meta"):
        model = CodecModel(config, with_encoder=with_encoder)
    found: dict[str, list[int]] = {}
    for name, value in model.state_dict().items():
        stored = stored_names(name, config)
        if len(stored) == 2:
            found[stored[0]] = [value.shape[0], 1, 1]
        found[stored[-1]] = list(value.shape)
    assert found == released_shapes(with_encoder)
    assert len(found) == 116 + 114 * with_encoder
    sizes = {side: sum(p.numel() for p in getattr(model, side).parameters()) for side in ("decoder",)}
    # Weight norm stores a length for each slice beside its direction.
    assert sizes["decoder"] + 4 * 1024 + 240 == 149_471_472


def test_the_bit_rate_of_the_release() -> None:
    config = voxtral_codec()
    assert config.frame == 1920
    assert config.frame_rate == 12.5
    assert config.bits_per_second == pytest.approx(2139, abs=1)
    assert config.latent_dim == 292


@pytest.mark.parametrize("change", ["missing", "surplus", "shape", "integers"])
def test_a_tensor_that_does_not_fit_is_named(change: str, tmp_path: Path) -> None:
    tensors = golden_tensors()
    name = "audio_tokenizer.decoder_blocks.3.layers.1.attention.wq.weight"
    if change == "missing":
        del tensors[name]
    elif change == "surplus":
        name = "audio_tokenizer.decoder_blocks.9.weight"
        tensors[name] = torch.zeros(2)
    elif change == "shape":
        tensors[name] = torch.zeros(64, 63)
    else:
        tensors[name] = torch.zeros(64, 64, dtype=torch.int64)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_model(folder_of(tmp_path / "m", tensors))


def test_tensors_of_the_rest_of_a_model_are_left_alone(tmp_path: Path) -> None:
    tensors = golden_tensors() | {"layers.0.attention.wq.weight": torch.zeros(3)}
    load_model(folder_of(tmp_path / "m", tensors))


def test_without_an_encoder_it_decodes_and_says_why_it_does_not_encode(tmp_path: Path) -> None:
    bare = {k: v for k, v in golden_tensors().items() if "encoder_blocks" not in k and "input_proj" not in k}
    codec = Codec.load(folder_of(tmp_path / "m", bare))
    assert not codec.can_encode
    codes = Codec(load_model(GOLDEN)).encode(sound(1000).numpy())
    assert len(codec.decode(codes).samples) == 1000
    with pytest.raises(CheckpointError, match=r"no encoder.*decodes only.*rillvox train codec"):
        codec.encode(sound(1000).numpy())


def test_half_an_encoder_is_a_broken_file(tmp_path: Path) -> None:
    tensors = golden_tensors()
    del tensors["audio_tokenizer.encoder_blocks.7.conv.parametrizations.weight.original0"]
    with pytest.raises(CheckpointError, match=r"encoder_blocks\.7\.conv"):
        load_model(folder_of(tmp_path / "m", tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": None}, "dim is missing"),
        ({"decoder_transformer_lengths_str": [2, 2, 2, 2]}, "decoder_transformer_lengths_str must be whole"),
        ({"decoder_transformer_lengths_str": "2,2,2,1000000000"}, "asks for 1000000000 layers"),
        ({"n_kv_heads": 4}, "n_kv_heads must be 8"),
        ({"causal": False}, "causal must be true"),
        ({"sampling_rate": 16000}, "sampling_rate must be 24000"),
        ({"decoder_convs_strides_str": "1,2,2,1"}, "decoder_strides must lead back"),
        ({"head": "vocoder"}, "head must be one of patch, istft, source"),
    ],
)
def test_params_that_no_codec_has(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    params = json.loads((GOLDEN / "params.json").read_text())
    params["multimodal"]["audio_tokenizer_args"] |= change
    with pytest.raises(CheckpointError, match=message):
        load_model(folder_of(tmp_path / "m", golden_tensors(), params))


def test_keys_that_the_release_may_lack(tmp_path: Path) -> None:
    params = json.loads((GOLDEN / "params.json").read_text())
    args = params["multimodal"]["audio_tokenizer_args"]
    for key in [key for key in args if key.endswith("_str")]:
        del args[key]
    load_model(folder_of(tmp_path / "m", golden_tensors(), params))


def test_files_that_are_no_codec(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"params\.json: is missing"):
        load_model(tmp_path)
    (tmp_path / "params.json").write_text('{"dim": 3}')
    (tmp_path / "consolidated.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no model with a codec"):
        load_model(tmp_path)
    (tmp_path / "params.json").write_bytes((GOLDEN / "params.json").read_bytes())
    with pytest.raises(CheckpointError, match="no whole safetensors file"):
        load_model(tmp_path)
    pickle = tmp_path / "codec.pt"
    pickle.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="a pickle can run code"):
        load_model(pickle)
    with pytest.raises(CheckpointError, match="no such codec"):
        Codec.load("codec-of-dreams")


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_saved_is_what_is_loaded(kind: str, tmp_path: Path) -> None:
    codec = made(kind)
    save_model(codec.model, tmp_path / "m")
    again = Codec.load(tmp_path / "m")
    for name, value in again.model.state_dict().items():
        torch.testing.assert_close(value, codec.model.state_dict()[name], rtol=0, atol=0)
    assert again.fingerprint == codec.fingerprint
    document = params_from_config(again.config)
    assert config_from_params(document, again.config.name) == again.config
    half = Codec.load(tmp_path / "m", dtype=torch.bfloat16)
    assert half.fingerprint == codec.fingerprint


def test_a_failed_save_leaves_what_was_there(tmp_path: Path) -> None:
    codec = made("released")
    save_model(codec.model, tmp_path / "m")
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    broken = CodecModel(codec.config)
    broken.load_state_dict(codec.model.state_dict())
    with torch.no_grad():
        next(broken.parameters())[0] = float("nan")
    with pytest.raises(CheckpointError, match="not finite"):
        save_model(broken, tmp_path / "m")
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dim", 0),
        ("encoder_kernels", (4, 4, 4)),
        ("encoder_strides", (2, 2, 2, 4)),
        ("patch_kernel", 9),
        ("acoustic_levels", 1),
        ("output_delay", 10),
        ("decoder_strides", (2, 2, 2, 1)),
    ],
)
def test_a_config_that_cannot_be_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=r"codec\..*"):
        CodecConfig(**{field: value})  # pyright: ignore[reportArgumentType]
