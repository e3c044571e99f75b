"""The codec as people call it: files, arrays, streams of any cut, and what it refuses."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
import torch
from tiny_codec import KINDS, made, sound

from rillvox.audio import Audio, read_audio
from rillvox.codec.checkpoint import save_model
from rillvox.codec.codes import Codes
from rillvox.codec.measures import aligned, mel_db
from rillvox.codec.model import CodecModel
from rillvox.codec.stream import Codec
from rillvox.errors import AudioError, ConfigError
from rillvox.kernels.fused_stage import FusedStage

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "recordings"


def cut(total: int, longest: int, seed: int) -> list[int]:
    rng, cuts = random.Random(seed), [0]
    while cuts[-1] < total:
        cuts.append(min(total, cuts[-1] + rng.randint(1, longest)))
    return cuts


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("samples", [1, 23, 24, 150, 192, 193, 192 * 7 - 1, 192 * 60 + 77])
def test_any_cut_gives_the_codes_and_the_sound_of_the_whole(kind: str, samples: int) -> None:
    codec = made(kind)
    assert codec.model.encoder is not None
    x = sound(samples, samples)
    with torch.inference_mode():
        whole = codec.model.quantizer.encode(codec.model.encoder(x[None]))[0].numpy()
        wave = codec.model.decoder(codec.model.quantizer.decode(torch.from_numpy(whole))[None])[0].numpy()
    assert len(whole) == codec.config.frames_of(samples)
    assert np.array_equal(codec.encode(x.numpy()).values, whole)
    for seed in range(2):
        ear = codec.stream_encode()
        cuts = cut(samples, 700, seed)
        frames = [ear.feed(x[a:b].numpy()) for a, b in pairwise(cuts)]
        assert [len(f) for f in frames] == [b // 192 - a // 192 for a, b in pairwise(cuts)]
        streamed = np.concatenate([*frames, ear.finish()])
        assert np.array_equal(streamed, whole)
        assert ear.samples == samples
        mouth = codec.stream_decode()
        cuts = cut(len(whole), 9, seed)
        parts = [mouth.feed(whole[a:b]) for a, b in pairwise(cuts)]
        out = np.concatenate([*parts, mouth.finish()])
        assert out.shape == wave.shape
        assert np.abs(out - wave).max() <= 1e-5 * np.abs(wave).max()
        assert len(parts[0]) == (cuts[1] - cuts[0]) * 192 - codec.config.output_delay
        assert not len(ear.finish())
        assert not len(mouth.finish())


def packed(kind: str = "spectral") -> Codec:
    model = CodecModel(made(kind).config).eval().requires_grad_(False)
    model.load_state_dict(made(kind).model.state_dict())
    codec = Codec(model)
    assert codec.fingerprint == made(kind).fingerprint  # of the weights as they were
    model.pack()
    return codec


@pytest.mark.parametrize("kind", list(KINDS))
def test_packed_weights_give_the_same_bits_for_any_cut(kind: str) -> None:
    codec = packed(kind)
    x = sound(192 * 40 + 77).numpy()
    whole = codec.encode(x)
    wave = codec.decode(whole).samples
    plain = made(kind).encode(x)
    assert (whole.values == plain.values).mean() > 0.8
    near = made(kind).decode(whole).samples
    assert np.square(wave - near).mean() < 0.01 * np.square(near).mean()
    for seed in range(2):
        ear, mouth = codec.stream_encode(), codec.stream_decode()
        frames = [ear.feed(x[a:b]) for a, b in pairwise(cut(len(x), 700, seed))]
        assert np.array_equal(np.concatenate([*frames, ear.finish()]), whole.values)
        cuts = cut(len(whole), 9, seed)
        parts = [mouth.feed(whole.values[a:b]) for a, b in pairwise(cuts)]
        assert np.abs(np.concatenate([*parts, mouth.finish()])[: len(x)] - wave).max() <= 1e-6


def test_weights_are_chosen_by_the_model_the_caller_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("float32", "int8"):
        model = CodecModel(replace(made("spectral").config, cpu_weights=kind)).eval()
        model.load_state_dict(made("spectral").model.state_dict())
        save_model(model, tmp_path / kind)
        for weights in (None, "float32", "int8"):
            codec = Codec.load(tmp_path / kind, weights=weights)
            stage = codec.model.decoder.stages.blocks[1]
            assert isinstance(stage, FusedStage) == ((weights or kind) == "int8")
            assert codec.fingerprint == made("spectral").fingerprint
    monkeypatch.setenv("RILLVOX_WEIGHTS", "float32")
    codec = Codec.load(tmp_path / "int8")
    assert not isinstance(codec.model.decoder.stages.blocks[1], FusedStage)
    with pytest.raises(ConfigError, match="must be float32 or int8"):
        Codec.load(tmp_path / "int8", weights="int4")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="int8 weights need"):
        Codec.load(tmp_path / "int8", weights="int8", dtype=torch.bfloat16)


def test_a_recording_comes_back_as_long_as_it_was(tmp_path: Path) -> None:
    codec = made("spectral")
    for samples in (0, 1, 5000):
        codes = codec.encode(sound(samples).numpy())
        codes.save(tmp_path / "a.rvc")
        back = codec.decode(Codes.load(tmp_path / "a.rvc"))
        assert (len(back.samples), back.rate) == (samples, 24000)


def test_files_arrays_and_other_rates(tmp_path: Path) -> None:
    codec = made("released")
    x = sound(16000).numpy()
    soundfile.write(tmp_path / "a.wav", x, 16000, subtype="FLOAT")
    from_file = codec.encode(tmp_path / "a.wav")
    assert from_file.samples == 24000
    for other in (
        codec.encode(Audio(x, 16000)),
        codec.encode(x, 16000),
        codec.encode(x.astype(np.float64), 16000),
    ):
        assert np.array_equal(other.values, from_file.values)
    ear = codec.stream_encode(16000)
    frames = [ear.feed(x[i : i + 999]) for i in range(0, 16000, 999)]
    assert np.array_equal(np.concatenate([*frames, ear.finish()]), from_file.values)


def test_what_is_no_sound_is_refused_and_harms_nothing() -> None:
    codec = made("released")
    ear = codec.stream_encode()
    good = sound(1000).numpy()
    first = ear.feed(good[:500])
    for wrong in (np.zeros((3, 2), np.float32), np.zeros(3, np.int16), np.full(3, np.nan, np.float32)):
        with pytest.raises(AudioError):
            ear.feed(wrong)  # pyright: ignore[reportArgumentType]
    rest = np.concatenate([first, ear.feed(good[500:]), ear.finish()])
    assert np.array_equal(rest, codec.encode(good).values)
    with pytest.raises(AudioError, match="after the end"):
        ear.feed(good)
    mouth = codec.stream_decode()
    with pytest.raises(AudioError, match="must be 0 to 63"):
        mouth.feed(np.full((1, 37), 64))
    mouth.finish()
    with pytest.raises(AudioError, match="after the end"):
        mouth.feed(rest)


def test_codes_of_another_codec_are_refused() -> None:
    one = made("released")
    torch.manual_seed(8)
    other = Codec(CodecModel(one.config).eval())
    with pytest.raises(AudioError, match="codes of another codec"):
        other.decode(one.encode(sound(1000).numpy()))


def test_what_holds_of_the_encoder_does_not_change_the_fingerprint() -> None:
    one = made("released")
    copy = CodecModel(one.config).eval()
    copy.load_state_dict(one.model.state_dict())
    torch.nn.init.zeros_(next(copy.encoder.parameters()))  # pyright: ignore[reportOptionalMemberAccess]
    assert Codec(copy).fingerprint == one.fingerprint
    torch.nn.init.zeros_(next(copy.decoder.parameters()))
    assert Codec(copy).fingerprint != one.fingerprint


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_codec_that_comes_along_codes_and_decodes(weights: Literal["float32", "int8"]) -> None:
    codec = Codec.load(weights=weights)
    codes = codec.encode(SAMPLES / "printing.flac")
    assert codes.values.shape == (121, 37)
    audio = codec.decode(codes)
    assert len(audio.samples) == codes.samples
    mouth = codec.stream_decode()
    parts = [mouth.feed(codes.values[k : k + 1]) for k in range(len(codes.values))]
    streamed = np.concatenate([*parts, mouth.finish()])[: codes.samples]
    assert np.abs(streamed - audio.samples).max() < 1e-5
    original = read_audio(SAMPLES / "printing.flac", 24000).samples
    assert mel_db(*aligned(original, audio.samples)) < 6
    assert len(codec.decode(codec.encode(np.zeros(7, np.float32))).samples) == 7
    silence = codec.decode(codec.encode(np.zeros(48000, np.float32))).samples
    assert np.abs(silence).max() < 1e-3


def test_half_precision_codes_and_decodes() -> None:
    codec = Codec.load(dtype=torch.bfloat16)
    codes = codec.encode(SAMPLES / "printing.flac")
    assert np.isfinite(codec.decode(codes).samples).all()
