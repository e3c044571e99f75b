"""The released 4B checkpoint by its names and shapes alone: 711 tensors, in both formats.

The files made here have the whole header and no content: they are as long as the real ones, but
sparse, and nothing reads them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rillvox.asr.checkpoint import load_model
from rillvox.asr.config import voxtral_realtime_4b
from rillvox.asr.names import has_rope_rows, hugging_face_name, native_name
from rillvox.errors import CheckpointError

RELEASED = json.loads((Path(__file__).parents[1] / "golden" / "asr_4b_names.json").read_text("utf-8"))
FILES = {
    "native": ("params.json", "params_json", "consolidated.safetensors"),
    "hugging_face": ("config.json", "config_json", "model.safetensors"),
}
Shapes = dict[str, list[int]]


def shapes(form: str) -> Shapes:
    """Every released name with its shape."""
    every: Shapes = {}
    for pattern, (count, shape) in RELEASED[form].items():
        every.update({pattern.replace("#", str(i)): shape for i in range(count)})
    return every


def write(folder: Path, form: str, tensors: Shapes) -> None:
    """A model folder whose weights are all hole."""
    config, facts, weights = FILES[form]
    (folder / config).write_text(json.dumps(RELEASED[facts]))
    header: dict[str, Any] = {}
    end = 0
    for name, shape in tensors.items():
        begin, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / weights).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


@pytest.fixture(params=list(FILES))
def form(request: pytest.FixtureRequest) -> str:
    return request.param


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(folder, device="meta")
    return str(caught.value)


def test_exactly_the_released_tensors_are_accepted(tmp_path: Path, form: str) -> None:
    released = shapes(form)
    assert len(released) == 711
    write(tmp_path, form, released)
    model = load_model(tmp_path, device="meta")
    assert all(weight.is_meta for weight in model.parameters())
    assert sum(weight.numel() for weight in model.parameters()) == RELEASED["parameters"] == 4_429_679_360
    spell = native_name if form == "native" else hugging_face_name
    ours = {spell(name): list(weight.shape) for name, weight in model.named_parameters()}
    assert ours == released


@pytest.mark.parametrize("place", [17, 400])
def test_one_missing_tensor_of_711_is_named(tmp_path: Path, form: str, place: int) -> None:
    released = shapes(form)
    name = list(released)[place]
    del released[name]
    write(tmp_path, form, released)
    assert f"{name} is missing" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name", ["layers.26.attention_norm.weight", "audio_tower.layers.0.self_attn.k_proj.bias"]
)
def test_one_surplus_tensor_is_named(tmp_path: Path, form: str, name: str) -> None:
    write(tmp_path, form, {**shapes(form), name: [7]})
    assert f"{name} [7] is surplus" in refusal(tmp_path)


@pytest.mark.parametrize("place", [3, 600])
def test_one_misshapen_tensor_is_named_with_both_shapes(tmp_path: Path, form: str, place: int) -> None:
    released = shapes(form)
    name = list(released)[place]
    odd = [*released[name][:-1], released[name][-1] + 1]
    write(tmp_path, form, {**released, name: odd})
    assert f"{name}: expected {released[name]}, found {odd}" in refusal(tmp_path)


def test_both_configs_are_the_released_geometry(tmp_path: Path, form: str) -> None:
    write(tmp_path, form, shapes(form))
    config = load_model(tmp_path, device="meta").config
    for field in ("encoder", "decoder", "vocab_size", "adapter_dim", "left_pad_tokens", "buffer_tokens"):
        assert getattr(config, field) == getattr(voxtral_realtime_4b(), field)


def test_rope_rows_are_those_of_queries_and_keys() -> None:
    rotated = [name for name in shapes("native") if has_rope_rows(f"decoder.transformer.{name}")]
    assert len(rotated) == 32 * 3 + 26 * 2  # the encoder's queries have a bias, its keys have none
    assert not [name for name in rotated if "wv" in name or "wo" in name]


def test_a_name_that_is_no_part_of_a_listener_has_no_spelling() -> None:
    with pytest.raises(KeyError, match="lm_head"):
        native_name("lm_head.weight")
