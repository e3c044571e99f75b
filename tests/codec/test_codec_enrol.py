"""Codes by descent through a frozen decoder, and `rillvox clone`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli_runner import run
from tiny_codec import GOLDEN, frames_of_codes, golden, made

from rillvox.codec import enrol as seeking
from rillvox.codec.checkpoint import save_model
from rillvox.codec.codes import Codes
from rillvox.codec.enrol import enrol, missed, recorded_pitch
from rillvox.codec.losses import mel_distance
from rillvox.codec.model import CodecModel
from rillvox.codec.stream import Codec
from rillvox.errors import AudioError, ConfigError

KNOWN = torch.tensor([24000.0])


def mute(kind: str = "spectral") -> Codec:
    """A codec without an encoder, as the released one."""
    whole = made(kind).model
    model = CodecModel(whole.config, with_encoder=False).eval()
    model.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("encoder.")})
    return Codec(model)


def said(codec: Codec, frames: int) -> np.ndarray:
    """A sound that the decoder can make."""
    codes = frames_of_codes(codec, frames, seed=3).numpy()
    return codec.decode(Codes(codes, frames * codec.config.frame, codec.layout)).samples


def distance(codec: Codec, codes: Codes, wave: np.ndarray) -> float:
    found = codec.decode(codes).samples
    return float(mel_distance(torch.as_tensor(found)[None], torch.as_tensor(wave)[None], KNOWN))


@pytest.mark.parametrize("kind", ["released", "spectral"])
def test_descent_comes_nearer_than_it_began_and_than_chance(kind: str) -> None:
    codec = mute(kind)
    wave = said(codec, 60)
    near = enrol(codec, wave, steps=60)
    begun = enrol(codec, wave, steps=1)
    chance = Codes(frames_of_codes(codec, 60, seed=9).numpy(), len(wave), codec.layout)
    assert distance(codec, near.codes, wave) < 0.8 * distance(codec, begun.codes, wave)
    assert distance(codec, near.codes, wave) < 0.8 * distance(codec, chance, wave)
    assert (near.codes.values[:, 0] != begun.codes.values[:, 0]).any()  # entries are sought, too
    assert near.distance == pytest.approx(distance(codec, near.codes, wave), abs=0.02)


def test_it_is_the_same_for_the_same_seed_and_leaves_the_codec_alone() -> None:
    codec = mute()
    before = codec.fingerprint
    wave = said(codec, 20)[:-50]
    one, other = (enrol(codec, wave, steps=12, seed=4) for _ in range(2))
    assert np.array_equal(one.codes.values, other.codes.values)
    assert one.codes.samples == len(wave)
    del codec.__dict__["fingerprint"]
    assert codec.fingerprint == before
    assert all(p.grad is None for p in codec.model.parameters())


def test_every_step_is_told() -> None:
    codec = mute()
    told: list[int] = []
    enrol(codec, said(codec, 10), steps=7, progress=lambda step, _distance: told.append(step))
    assert told == [1, 2, 3, 4, 5, 6, 7]


def test_the_nearest_codes_are_kept_however_wildly_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = made("spectral")
    monkeypatch.setattr(seeking, "RATE", 2.0)
    monkeypatch.setattr(seeking, "LOOK", 1)
    told: list[float] = []
    wave = said(codec, 20)
    found = enrol(codec, wave, steps=12, progress=lambda _step, nearest: told.append(nearest))
    assert told == sorted(told, reverse=True)
    assert distance(codec, found.codes, wave) == pytest.approx(told[-1], abs=0.02)


def test_an_encoder_is_where_it_begins() -> None:
    codec = made("spectral")
    wave = said(codec, 20)
    assert enrol(codec, wave, steps=20).distance <= distance(codec, codec.encode(wave), wave) + 1e-4


def glide(seconds: float, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Ten harmonics that rise from one pitch to the other, and the Hz of every sample."""
    hertz = np.geomspace(low, high, round(seconds * 24000))
    phase = 2 * np.pi * np.cumsum(hertz) / 24000
    wave = sum(np.sin(k * phase) / k for k in range(1, 11))
    return (0.02 * np.asarray(wave)).astype(np.float32), hertz


@pytest.mark.parametrize("kind", ["source", "80 ms"])
def test_the_pitch_of_a_recording_is_that_at_the_end_of_each_position(kind: str) -> None:
    config = made(kind).config
    wave, hertz = glide(1.0, 100, 400)
    frames = config.frames_of(len(wave))
    found = recorded_pitch(made(kind).model, wave, frames)[0].numpy()
    assert len(found) == frames * config.positions
    ends = config.patch * np.arange(1, len(found) + 1)
    voiced = (found > 0) & (ends > 1200) & (ends < len(wave) - 1200)
    assert voiced.sum() > 0.8 * len(wave) / config.patch
    off = np.log(found[voiced] / hertz[ends[voiced]])
    # In ten milliseconds the pitch rises by 1.4 %.
    assert abs(np.median(off)) < 0.004
    assert np.abs(off).max() < 0.05
    assert recorded_pitch(made(kind).model, wave * np.float32(1e-3), frames).gt(0).sum() >= voiced.sum()


def test_a_missed_pitch_counts_where_there_is_voice() -> None:
    hertz = torch.tensor([[0.0, 100.0, 200.0, 0.0]])
    said_ = torch.tensor([[80.0, 110.0, 200.0, 500.0]]).log()
    assert float(missed((said_, said_), hertz)) == pytest.approx(np.log(1.1) / 2, rel=1e-4)
    assert float(missed((said_, said_), torch.zeros(1, 4))) == 0
    assert float(missed(None, None)) == 0


def test_a_decoder_that_reads_a_pitch_is_brought_to_that_of_the_recording(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codec = mute("80 ms")
    wave, _ = glide(1.0, 100, 300)
    wanted = recorded_pitch(codec.model, wave, codec.config.frames_of(len(wave)))

    def off(found: Codes) -> float:
        given = codec.model.quantizer.decode(torch.as_tensor(found.values).long()[None])
        with torch.no_grad():
            return float(missed(codec.model.decoder.speak(given)[1], wanted))

    taught = off(enrol(codec, wave, steps=40).codes)
    monkeypatch.setattr(seeking, "PITCH", 0.0)
    assert taught < 0.6 * off(enrol(codec, wave, steps=40).codes)


def test_nothing_and_too_much_are_refused() -> None:
    for samples in (0, 31 * 24000):
        with pytest.raises(AudioError, match="at most 30 s"):
            enrol(mute(), np.zeros(samples, np.float32))
    with pytest.raises(ConfigError, match="steps"):
        enrol(mute(), np.zeros(4000, np.float32), steps=0)


# The command.


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "voice.wav", rng.standard_normal(24000 * 3) * 0.1, 24000)
    return tmp_path / "voice.wav"


def test_a_voice_keeps_who_allowed_it(voice: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.rvc"
    said_so = "I am the speaker and allow it"
    assert run("clone", voice, "-o", out, "--consent", said_so, "--model", GOLDEN) == 0
    record = json.loads((tmp_path / "v.rvc.json").read_text())
    assert record["consent"] == said_so
    assert record["recording"]["seconds"] == 3.0
    assert len(record["recording"]["sha256"]) == 64
    assert record["made"]["codec"] == golden().fingerprint
    assert np.array_equal(Codes.load(out).values, golden().encode(voice).values)


def test_a_recording_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "v.rvc"
    out.write_bytes(b"precious")
    asked = ("-o", out, "--consent", "yes", "--model", GOLDEN)
    assert run("clone", tmp_path / "none.wav", *asked) == 2
    assert "none.wav" in capsys.readouterr().err
    assert run("clone", out, *asked) == 2
    assert "is the recording itself" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"


def test_without_an_encoder_it_optimises(
    voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = mute()
    save_model(codec.model, tmp_path / "mute")
    out = tmp_path / "v.rvc"
    asked = ("clone", voice, "-o", out, "--consent", "yes", "--model", tmp_path / "mute")
    assert run(*asked) == 2
    assert "has no encoder" in capsys.readouterr().err
    assert not out.exists()
    assert run(*asked, "--enrol", "optimise", "--steps", 2) == 0
    assert "2 passes through the decoder and back, about" in capsys.readouterr().err
    made_ = json.loads((tmp_path / "v.rvc.json").read_text())["made"]
    assert (made_["way"], made_["steps"]) == ("optimise", 2)
    assert len(Codes.load(out)) == codec.config.frames_of(72000)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], "--consent is missing"),
        (["--consent", " "], "--consent is missing"),
        (["--consent", "yes", "--enrol", "magic"], "--enrol must be encode or optimise"),
        (["--consent", "yes", "--short"], "3 to 30 s"),
    ],
)
def test_what_is_no_voice_is_refused_and_harms_nothing(
    more: list[str], told: str, voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "v.rvc"
    out.write_bytes(b"precious")
    if "--short" in more:
        more = more[:-1]
        soundfile.write(voice, np.zeros(24000), 24000)
    assert run("clone", voice, "-o", out, "--model", GOLDEN, *more) == 2
    assert told in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert {p.name for p in tmp_path.iterdir()} == {"voice.wav", "v.rvc"}
