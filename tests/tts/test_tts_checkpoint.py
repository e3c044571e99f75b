"""Speaker folders: the released names, strict both ways, and the first wrong thing named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_speaker import GOLDEN, golden, write_folder

from rillvox.errors import CheckpointError
from rillvox.tts.checkpoint import load_model, stored_name
from rillvox.tts.config import TTSConfig, voxtral_tts
from rillvox.tts.model import SpeakerModel
from rillvox.tts.params import config_from_params, params_from_config

NAMES: dict[str, Any] = json.loads((GOLDEN.parent / "tts_4b_names.json").read_text())


def test_the_released_names_and_shapes_are_exactly_those_of_the_model() -> None:
    config = config_from_params(NAMES["params_json"], "voxtral-tts")
    assert config == voxtral_tts()
    with torch.device("meta"):
        model = SpeakerModel(config)
    found = {stored_name(name): list(value.shape) for name, value in model.state_dict().items()}
    assert found == NAMES["released"]
    assert len(found) == 386 - 116
    assert sum(p.numel() for p in model.flow.parameters()) == 393_851_904
    assert config.table_rows == 9088
    assert config.semantic_rows == 8320


def test_what_is_written_down_is_read_again() -> None:
    for config in (voxtral_tts(), golden()[0].config):
        assert config_from_params(params_from_config(config), config.name) == TTSConfig(
            config.backbone,
            config.flow,
            config_from_params(params_from_config(config), config.name).codec,
            config.vocab_size,
            config.name,
        )


@pytest.mark.parametrize("change", ["missing", "surplus", "shape", "formula"])
def test_a_tensor_that_does_not_fit_is_named(change: str, tmp_path: Path) -> None:
    write_folder(tmp_path)
    tensors = load_file(tmp_path / "consolidated.safetensors")
    name = "acoustic_transformer.layers.1.attention.wq.weight"
    if change == "missing":
        del tensors[name]
    elif change == "shape":
        tensors[name] = tensors[name][:-1].contiguous()
    elif change == "surplus":
        name = "layers.0.attention.q_norm.weight"
        tensors[name] = torch.ones(4)
    else:
        tensors["acoustic_transformer.time_embedding.inv_freq"] = torch.ones(32)
    save_file(tensors, tmp_path / "consolidated.safetensors")
    if change == "formula":
        load_model(tmp_path, device="meta")
        return
    for device in ("cpu", "meta"):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            load_model(tmp_path, device=device)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("model_type",), "voxtral_asr", "model_type must be"),
        (("n_layers",), 10**9, "asks for 1000000000 layers"),
        (("dim",), 0, "dim must be at least 1"),
        (("multimodal", "audio_model_args", "n_acoustic_codebook"), 35, "must be what the codec has, 36"),
        (
            ("multimodal", "audio_model_args", "acoustic_transformer_args", "input_dim"),
            65,
            "input_dim must be",
        ),
        (("multimodal", "audio_model_args", "acoustic_transformer_args", "dim"), 63, "flow.dim must be even"),
    ],
)
def test_numbers_that_fit_no_model_are_named(
    path: tuple[str, ...], value: object, told: str, tmp_path: Path
) -> None:
    write_folder(tmp_path)
    document: dict[str, Any] = json.loads((tmp_path / "params.json").read_text())
    part = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    (tmp_path / "params.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=told):
        load_model(tmp_path)
