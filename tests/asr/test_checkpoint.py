"""Model folders: what is read, what is refused and by which name, and what is written."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_listener import (
    FORMATS,
    assert_same_weights,
    byte_tokenizer,
    golden_folder,
    random_listener,
    small_config,
)
from torch import Tensor

from rillvox.asr import checkpoint
from rillvox.asr.checkpoint import load_listener, load_model, save_native
from rillvox.asr.names import reorder_rope_rows
from rillvox.errors import CheckpointError, ConfigError
from rillvox.kernels import tensors

EMBEDDING = {
    "native": "mm_streams_embeddings.embedding_module.tok_embeddings.weight",
    "hugging_face": "language_model.model.embed_tokens.weight",
}
HEAD = {"native": "output.weight", "hugging_face": "language_model.lm_head.weight"}


@pytest.fixture(params=list(FORMATS))
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(form: str, tmp_path: Path) -> Path:
    return golden_folder(form, tmp_path)


def weights_of(form: str) -> str:
    return FORMATS[form][1]


def change(folder: Path, form: str, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Rewrite the weights of a folder."""
    path = folder / weights_of(form)
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def refusal(folder: Path, **options: Any) -> str:
    """The one line that a folder is refused with."""
    with pytest.raises(CheckpointError) as caught:
        load_model(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_both_formats_give_the_same_model(tmp_path: Path) -> None:
    native, other = (load_model(golden_folder(form, tmp_path)) for form in FORMATS)
    assert_same_weights(native, other)
    assert not native.training


def test_the_formats_differ_in_the_order_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "reorder_rope_rows", lambda rows, head_dim, to: rows)
    native, other = (dict(load_model(golden_folder(form, tmp_path)).named_parameters()) for form in FORMATS)
    differing = {name for name in native if not torch.equal(native[name], other[name])}
    layers = [f"encoder.transformer.layers.{i}.attention" for i in range(3)]
    expected = {f"{layer}.{part}" for layer in layers for part in ("wq.weight", "wq.bias", "wk.weight")}
    layers = [f"decoder.transformer.layers.{i}.attention" for i in range(3)]
    expected |= {f"{layer}.{part}" for layer in layers for part in ("wq.weight", "wk.weight")}
    assert differing == expected


@given(heads=st.integers(1, 5), half=st.integers(1, 8), width=st.none() | st.integers(1, 3))
def test_reordering_rows_follows_the_definition_and_undoes_itself(
    heads: int, half: int, width: int | None
) -> None:
    shape = (heads, 2 * half) if width is None else (heads, 2 * half, width)
    native = torch.randn(shape)
    flat = native.flatten(0, 1)
    other = reorder_rope_rows(flat, 2 * half, "half")
    for h in range(heads):
        for i in range(half):
            assert torch.equal(other.view(shape)[h, i], native[h, 2 * i])
            assert torch.equal(other.view(shape)[h, half + i], native[h, 2 * i + 1])
    assert torch.equal(reorder_rope_rows(other, 2 * half, "interleaved"), flat)


def test_a_cpu_model_is_float32_whatever_the_file_holds(folder: Path, form: str) -> None:
    change(folder, form, lambda t: t.update({k: v.bfloat16() for k, v in t.items()}))
    assert {weight.dtype for weight in load_model(folder).parameters()} == {torch.float32}
    assert {w.dtype for w in load_model(folder, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def test_tensors_are_read_one_at_a_time(folder: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(folder, form, lambda t: t.update({k: v.half() for k, v in t.items()}))
    read = tensors.TensorFiles.read
    living: list[weakref.ref[Tensor]] = []
    most = 0

    def watched(self: tensors.TensorFiles, name: str) -> Tensor:
        nonlocal most
        most = max(most, sum(reference() is not None for reference in living))
        tensor = read(self, name)
        living.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(tensors.TensorFiles, "read", watched)
    load_model(folder)
    assert len(living) == 81
    assert most <= 1  # the one that the loop variable still holds


def test_changing_a_loaded_weight_leaves_the_file_alone(folder: Path, form: str) -> None:
    before = (folder / weights_of(form)).read_bytes()
    model = load_model(folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert (folder / weights_of(form)).read_bytes() == before


def test_an_equal_output_head_is_accepted(folder: Path, form: str) -> None:
    change(folder, form, lambda t: t.update({HEAD[form]: t[EMBEDDING[form]].clone()}))
    load_model(folder)


def test_an_output_head_of_its_own_is_refused(folder: Path, form: str) -> None:
    change(folder, form, lambda t: t.update({HEAD[form]: t[EMBEDDING[form]] + 1e-3}))
    assert f"{HEAD[form]} differs from {EMBEDDING[form]}" in refusal(folder)
    change(folder, form, lambda t: t.update({HEAD[form]: t[HEAD[form]][:-1].clone()}))
    assert f"{HEAD[form]}: expected [200, 48], found [199, 48]" in refusal(folder)


def test_the_left_padding_comes_from_tekken_json(folder: Path) -> None:
    assert load_model(folder).config.left_pad_tokens == 32
    byte_tokenizer(292).save(folder / "tekken.json")
    assert "has 292 tokens, but the model has 200" in refusal(folder)


def test_a_listener_needs_its_tokenizer(tmp_path: Path) -> None:
    model = random_listener(small_config())
    save_native(model, byte_tokenizer(300, audio={"streaming_n_left_pad_tokens": 32}), tmp_path / "m")
    (tmp_path / "m" / "tekken.json").unlink()
    load_model(tmp_path / "m")
    with pytest.raises(CheckpointError, match=r"tekken\.json"):
        load_listener(tmp_path / "m")


# Strict both ways: the first tensor that is wrong is named, with both shapes.


def one_of_each(whole: dict[str, Tensor]) -> list[str]:
    """The names outside of layers, and those of layer 1 of either stack."""
    return [name for name in whole if ".1." in name or ("layers.0" not in name and "layers.2" not in name)]


def test_every_kind_of_missing_tensor_is_named(folder: Path, form: str) -> None:
    whole = load_file(folder / weights_of(form))
    for name in one_of_each(whole):
        save_file({k: v for k, v in whole.items() if k != name}, folder / weights_of(form))
        assert f"{name} is missing" in refusal(folder)


def test_every_kind_of_misshapen_tensor_is_named(folder: Path, form: str) -> None:
    whole = load_file(folder / weights_of(form))
    for name in one_of_each(whole):
        tensor = whole[name]
        grown = torch.cat([tensor, tensor[:1]])
        save_file({**whole, name: grown}, folder / weights_of(form))
        expected = f"{name}: expected {list(tensor.shape)}, found {list(grown.shape)}"
        assert expected in refusal(folder)


def test_a_transposed_tensor_is_called_so(folder: Path, form: str) -> None:
    name = EMBEDDING[form]
    change(folder, form, lambda t: t.update({name: t[name].T.contiguous()}))
    assert "expected [200, 48], found [48, 200]; was it transposed?" in refusal(folder)


@pytest.mark.parametrize("name", ["extra.weight", "layers.3.attention.wq.weight", "audio_tower.layers.0.x"])
def test_a_surplus_tensor_is_named(folder: Path, form: str, name: str) -> None:
    change(folder, form, lambda t: t.update({name: torch.zeros(2, 3)}))
    assert f"{name} [2, 3] is surplus" in refusal(folder)


def test_quantised_weights_are_refused_by_name(folder: Path, form: str) -> None:
    change(folder, form, lambda t: t.update({EMBEDDING[form]: t[EMBEDDING[form]].to(torch.int8)}))
    assert f"{EMBEDDING[form]}: expected one of F64, F32, BF16, F16, found I8" in refusal(folder)


def test_a_billion_layers_are_refused_before_they_are_built(tmp_path: Path) -> None:
    folder = golden_folder("native", tmp_path)
    params = json.loads((folder / "params.json").read_text())
    params["n_layers"] = 10**9
    (folder / "params.json").write_text(json.dumps(params))
    assert "layers.999999999.attention_norm.weight is missing" in refusal(folder)
    params["n_layers"], params["dim"], params["vocab_size"] = 3, 10**12, 10**12
    (folder / "params.json").write_text(json.dumps(params))
    assert "sizes that no tensor can have" in refusal(folder)


# Broken folders.


@pytest.mark.parametrize("keep", [0, 4, 8, 9, 200, 0.3, 0.99, -1])
def test_a_file_that_was_cut_short_is_refused(folder: Path, form: str, keep: float) -> None:
    path = folder / weights_of(form)
    data = path.read_bytes()
    size = int(keep * len(data)) if 0 < keep < 1 else int(keep)
    path.write_bytes(data[:size])
    message = refusal(folder)
    assert weights_of(form) in message
    assert "cut short" in message


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_broken_header_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = golden_folder("native", tmp_path_factory.mktemp("broken"))
    path = folder / "consolidated.safetensors"
    raw = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    message = str(path)
    try:
        load_model(folder)
    except CheckpointError as error:
        message = str(error)
    finally:
        shutil.rmtree(folder.parent)
    assert str(path) in message


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"dim": 1e', "\x00", '"' * 9, "[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, form: str, text: str) -> None:
    config = FORMATS[form][0]
    (folder / config).write_text(text)
    assert config in refusal(folder)


def test_missing_files_are_named(folder: Path, form: str, tmp_path: Path) -> None:
    for gone in FORMATS[form]:
        (folder / gone).rename(tmp_path / gone)
        assert f"{folder / gone}: is missing beside" in refusal(folder)
        (tmp_path / gone).rename(folder / gone)
    assert "is no model folder" in refusal(tmp_path)
    assert "is no folder" in refusal(tmp_path / "absent")
    assert "is no folder" in refusal(folder / FORMATS[form][0])


@pytest.mark.parametrize("name", ["consolidated.00.pth", "pytorch_model.bin", "model.pt"])
def test_pickles_are_refused_unread(tmp_path: Path, name: str) -> None:
    folder = golden_folder("native", tmp_path)
    (folder / "consolidated.safetensors").unlink()
    (folder / name).write_bytes(b"not even a pickle")
    assert "a pickle can run code" in refusal(folder)
    assert "a pickle can run code" in refusal(folder / name)


def test_a_device_that_is_not_there_is_a_setting_out_of_range(folder: Path) -> None:
    with pytest.raises(ConfigError, match="none that torch knows"):
        load_model(folder, device="toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no CUDA device"):
            load_model(folder, device="cuda")


# Shards.


def shard(folder: Path, edit: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """Split the weights of a Hugging Face folder over two files and an index."""
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    table: dict[str, str] = {}
    for i, names in enumerate((list(whole)[::2], list(whole)[1::2]), 1):
        file = f"model-0000{i}-of-00002.safetensors"
        save_file({name: whole[name] for name in names}, folder / file)
        table.update(dict.fromkeys(names, file))
    index: dict[str, Any] = {"weight_map": table}
    edit(index)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_are_read_as_one_file(tmp_path: Path) -> None:
    folder = golden_folder("hugging_face", tmp_path)
    whole = load_model(folder)
    shard(folder)
    assert_same_weights(load_model(folder), whole)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors: is missing" in refusal(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = golden_folder("hugging_face", tmp_path)
    shard(folder)
    second = folder / "model-00002-of-00002.safetensors"
    first = load_file(folder / "model-00001-of-00002.safetensors")
    name = next(iter(first))
    save_file({**load_file(second), name: first[name]}, second)
    assert f"{name} is in model-00001-of-00002.safetensors already" in refusal(folder)


@pytest.mark.parametrize("place", ["../model-00001-of-00002.safetensors", "/etc/passwd", "x.bin", "", 7])
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, place: object) -> None:
    folder = golden_folder("hugging_face", tmp_path)
    shard(folder, lambda index: index["weight_map"].update({EMBEDDING["hugging_face"]: place}))
    assert "is no safetensors file beside the index" in refusal(folder)


def test_an_index_without_a_table_is_refused(tmp_path: Path) -> None:
    folder = golden_folder("hugging_face", tmp_path)
    shard(folder, lambda index: index.pop("weight_map"))
    assert "weight_map" in refusal(folder)
