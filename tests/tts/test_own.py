"""Folders of speakers of our own, and voices that remember: what goes in comes out, what is wrong, told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_speaker import (
    made_voice,
    random_speaker,
    small,
    speaker,
    text_tokens,
    voice_codes,
    write_speaker,
)
from tiny_codec import made

from rillvox.asr.stream import find_model
from rillvox.codec.checkpoint import save_model
from rillvox.codec.stream import Codec
from rillvox.errors import CheckpointError, VoiceError
from rillvox.tts import voices
from rillvox.tts.aligned_speaking import AlignedSpeaking
from rillvox.tts.own import LEAST, SCALE, folder_of, is_own, load_own, params_of, save_own
from rillvox.tts.speaker import TTS
from rillvox.tts.speaking import Manner
from rillvox.tts.voices import Voice

WEIGHTS, PARAMS = "consolidated.safetensors", "params.json"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaker(tmp_path_factory.mktemp("speaker") / "small")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "small", symlinks=True)


def test_what_is_saved_is_loaded_as_near_as_eight_bits_allow(original: Path) -> None:
    codec = made("80 ms")
    config = replace(small(codec.config), backbone=replace(small().backbone, window=256))
    model = random_speaker(config)
    found, its_codec = load_own(original)
    assert found.config == replace(config, codec=its_codec.config)
    assert not found.training
    assert its_codec.config.frame == 1920
    stored = load_file(original / WEIGHTS)
    rounded = 0
    for name, value in model.state_dict().items():
        other = found.state_dict()[name]
        assert other.dtype == torch.float32
        if stored[name].dtype == torch.int8:
            rounded += 1
            assert value.dim() == 2
            # Half a step, and 63 times what float16 loses of one; but for what is clipped.
            step = stored[name + SCALE].float()[:, None]
            off = (other - value).abs()
            inside = value.abs() <= 63 * step
            assert bool((off <= 0.54 * step)[inside].all())
            assert off.square().mean() < value.square().mean() * 4e-4
        else:
            assert value.dim() != 2 or value.numel() < LEAST
            torch.testing.assert_close(other, value, atol=1e-6, rtol=1e-3)
    assert rounded > 3
    assert stored["frame_embedding.embeddings.weight"].dtype == torch.int8


def test_what_was_loaded_may_be_saved_again(original: Path, tmp_path: Path) -> None:
    model, codec = load_own(original)
    save_own(model, tmp_path / "again", "codec", codec.fingerprint)
    assert (tmp_path / "again" / PARAMS).read_text() == (original / PARAMS).read_text()
    assert {path.name for path in (tmp_path / "again").iterdir()} == {WEIGHTS, PARAMS}
    shutil.copytree(original / "codec", tmp_path / "again" / "codec")
    again, _ = load_own(tmp_path / "again")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-2, rtol=2e-2)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS)


def rewrite(folder: Path, stored: dict[str, torch.Tensor]) -> None:
    save_file(stored, folder / WEIGHTS)


NAME = "backbone.layers.1.attention.wq.weight"
EMBEDDING = "frame_embedding.embeddings.weight"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("missing", rf"{NAME} is missing; expected \[32, 32\]"),
        ("surplus", "backbone.layers.9.x is surplus"),
        ("shape", rf"{NAME}: expected \[32, 32\], found \[31, 32\]"),
        ("no scale", rf"{EMBEDDING}{SCALE} is missing"),
        ("short scale", rf"{EMBEDDING}{SCALE} is missing or of another shape"),
        ("cut", "is no safetensors file, or damaged"),
        ("foreign", "is no safetensors file, or damaged"),
        ("no weights", "is no safetensors file, or damaged"),
    ],
)
def test_weights_that_do_not_fit_are_named(damage: str, told: str, folder: Path) -> None:
    stored = tensors(folder)
    if damage == "missing":
        del stored[NAME]
    elif damage == "surplus":
        stored["backbone.layers.9.x"] = torch.ones(2)
    elif damage == "shape":
        stored[NAME] = stored[NAME][:-1].contiguous()
    elif damage == "no scale":
        del stored[EMBEDDING + SCALE]
    elif damage == "short scale":
        stored[EMBEDDING + SCALE] = stored[EMBEDDING + SCALE][:-1].contiguous()
    rewrite(folder, stored)
    if damage == "cut":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9])
    elif damage == "foreign":
        (folder / WEIGHTS).write_text("hello")
    elif damage == "no weights":
        (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=told) as caught:
        load_own(folder)
    assert str(folder / WEIGHTS) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("text", "tokens"), 80, "text.tokens: must be 81, got 80|text.tokens must be 81, got 80"),
        (("backbone", "dim"), 0, "dim"),
        (("flow", "dim"), 33, "flow.dim must be even"),
        (("flow", "named"), 1, "named must be true or false"),
        (("flow", "steps"), 0, "steps"),
        (("text", "ahead"), -1, "ahead"),
        (("codec", "model"), 7, "model must be text"),
        (("codec", "model"), "nowhere", "nowhere"),
        (("codec", "fingerprint"), "f" * 32, "is not the one that this speaker learned with"),
        (("model_type",), "voxtral_tts", "model_type must be"),
        (("flow", "spans"), True, "flow.span_projection.weight is missing"),
        (("backbone", "n_layers"), 3, r"backbone.layers.2.* is missing"),
    ],
)
def test_numbers_that_fit_no_speaker_are_named(
    path: tuple[str, ...], value: object, told: str, folder: Path
) -> None:
    document: dict[str, Any] = json.loads((folder / PARAMS).read_text())
    part = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    (folder / PARAMS).write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=told) as caught:
        load_own(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("part", ["codec", "backbone", "flow", "text"])
def test_a_part_of_the_numbers_that_is_missing_is_named(part: str, folder: Path) -> None:
    document: dict[str, Any] = json.loads((folder / PARAMS).read_text())
    del document[part]
    (folder / PARAMS).write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=part):
        load_own(folder)


def test_a_codec_that_was_trained_on_is_another_one(folder: Path) -> None:
    codec = made("80 ms")
    weights = {name: value.clone() for name, value in codec.model.state_dict().items()}
    try:
        with torch.no_grad():
            for weight in codec.model.decoder.parameters():
                weight.mul_(1.1)
        save_model(codec.model, folder / "codec")
    finally:
        codec.model.load_state_dict(weights)
    with pytest.raises(CheckpointError, match="not the one that this speaker learned with"):
        load_own(folder)


def test_weights_that_are_no_numbers_are_not_saved_and_nothing_is_lost(folder: Path) -> None:
    model, codec = load_own(folder)
    before = (folder / WEIGHTS).read_bytes()
    for value in (float("nan"), 1e6):
        broken = random_speaker(model.config)
        with torch.no_grad():
            broken.text.begin[3] = value
        with pytest.raises(CheckpointError, match=r"text.begin: .*not finite as float16"):
            save_own(broken, folder, "codec", codec.fingerprint)
    assert (folder / WEIGHTS).read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_other_kinds_of_models_are_told_apart() -> None:
    assert is_own(params_of(speaker().config, "c", "f"))
    assert not is_own({"model_type": "voxtral_tts"})
    assert not is_own({})


def heard(frames: int = 40) -> Voice:
    """A voice of the tiny speaker that it has heard."""
    model = speaker()
    codes = voice_codes(model, frames, 2)
    speaking = AlignedSpeaking(model)
    speaking.read(0, model.frame_embedding(codes + 2))
    record = {"consent": "Ana allows it", "seconds": 3.2}
    state = speaking.heard(0, frames)
    return Voice("ana", "f" * 32, codes.to(torch.int16), record=record, state=state)


def says(voice: Voice) -> torch.Tensor:
    speaking = AlignedSpeaking(speaker())
    speaking.open(0, Manner(seed=3), voice.state)
    speaking.say(0, text_tokens(12), whole=True)
    everyone = torch.ones(1, dtype=torch.bool)
    return torch.stack([speaking.tick(everyone)[0] for _ in range(12)])


def test_a_voice_remembers_what_the_model_heard_of_it(tmp_path: Path) -> None:
    voice = heard()
    voice.save(tmp_path / "ana.safetensors")
    again = Voice.load(tmp_path / "ana.safetensors", "f" * 32)
    assert (again.name, again.model, again.record) == (voice.name, voice.model, dict(voice.record))
    assert voice.codes is not None
    assert again.codes is not None
    assert torch.equal(again.codes, voice.codes)
    assert again.state is not None
    assert voice.state is not None
    assert set(again.state) == set(voice.state)
    assert all(torch.equal(again.state[name], value) for name, value in voice.state.items())
    assert torch.equal(says(again), says(voice))
    with pytest.raises(VoiceError, match="another model"):
        Voice.load(tmp_path / "ana.safetensors", "e" * 32)


def test_a_voice_without_memory_has_none(tmp_path: Path) -> None:
    replace(heard(), state=None).save(tmp_path / "ana.safetensors")
    assert Voice.load(tmp_path / "ana.safetensors").state is None


def test_a_voice_that_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ana.safetensors"
    heard(8).save(path)
    before = path.read_bytes()
    real = save_file

    def full(tensors: dict[str, torch.Tensor], to: Path, **more: Any) -> None:
        real(tensors, to, **more)
        to.write_bytes(to.read_bytes()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(voices, "save_file", full)
    with pytest.raises(VoiceError, match="cannot be written: no space left"):
        heard(20).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["ana.safetensors"]
    monkeypatch.undo()
    with pytest.raises(VoiceError, match=r"cannot be written: there is no folder .*none$"):
        heard(8).save(tmp_path / "none" / "ana.safetensors")


def test_a_voice_of_one_speaker_is_none_of_another(original: Path, tmp_path: Path) -> None:
    tts = TTS.load(original)
    voice = made_voice(tts)
    voice.save(tmp_path / "ana.safetensors")
    assert tts.voice(tmp_path / "ana.safetensors").name == "ana"
    other = TTS(random_speaker(tts.model.config, seed=4), tts.codec, original)
    assert other.fingerprint != tts.fingerprint
    for asked in (voice, tmp_path / "ana.safetensors", str(tmp_path / "ana.safetensors")):
        with pytest.raises(VoiceError, match=r"voice of another model.*clone it again"):
            other.voice(asked)


def test_a_voice_is_the_same_models_whatever_its_head_does(original: Path) -> None:
    plain, packed = TTS.load(original, weights="float32"), TTS.load(original, weights="int8")
    assert plain.fingerprint == packed.fingerprint
    assert len(plain.fingerprint) == 32


def test_a_name_is_what_comes_along_whatever_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tts-en", "codec-24k", "asr-en", "mine"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    shipped = folder_of("tts-en")
    assert (shipped / "params.json").is_file()
    assert folder_of("./tts-en") == folder_of(Path("tts-en")) == Path("tts-en")
    assert folder_of("mine") == Path("mine")
    assert (find_model("asr-en") / "params.json").is_file()
    assert find_model("./asr-en") == find_model(Path("asr-en")) == Path("asr-en")
    (tmp_path / "asr-en").rmdir()
    assert find_model(Path("asr-en")) == find_model("asr-en")
    assert Codec.load("codec-24k").model.encoder is not None
    with pytest.raises(CheckpointError):
        Codec.load("./codec-24k")
