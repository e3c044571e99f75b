"""`rillvox clone`: a voice with its record, only with consent, and what it says at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_runner import run
from safetensors import safe_open
from small_speaker import write_speaker

from rillvox.tts.speaker import TTS
from rillvox.tts.voices import Voice

RATE = 24000
CONSENT = "I am Ana and allow it"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaker(tmp_path_factory.mktemp("speaker") / "small")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    time = np.arange(4 * RATE) / RATE
    wave = 0.2 * np.sin(2 * np.pi * 150 * time) * (np.sin(2 * np.pi * 1.5 * time) > -0.5)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    soundfile.write(tmp_path / "me.wav", wave + noise, RATE, subtype="FLOAT")
    return tmp_path / "me.wav"


def refused(capsys: pytest.CaptureFixture[str], told: str) -> None:
    err = capsys.readouterr().err
    assert err.startswith("rillvox: ")
    assert err.count("\n") == 1
    assert told in err


def test_a_voice_is_written_with_its_record(
    folder: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ana.safetensors"
    assert run("clone", recording, "-o", path, "--consent", CONSENT, "--model", folder) == 0
    assert "of me.wav" in capsys.readouterr().err
    tts = TTS.load(folder)
    voice = Voice.load(path, tts.fingerprint)
    assert voice.name == "ana"
    assert voice.record["consent"] == CONSENT
    assert voice.record["source"] == "me.wav"
    assert voice.record["program"].startswith("rillvox ")
    assert voice.record["made"].startswith("20")
    assert tts.synthesize("Hello.", path).finish_reason == "stop"
    with safe_open(str(path), "pt") as file:
        assert json.loads(file.metadata()["record"])["consent"] == CONSENT
    assert str(tmp_path) not in json.dumps(dict(voice.record))


def test_it_speaks_at_once(folder: Path, recording: Path, tmp_path: Path) -> None:
    path, wav = tmp_path / "ana.safetensors", tmp_path / "hello.wav"
    again = tmp_path / "again.wav"
    given = ["--consent", CONSENT, "--model", folder, "--seed", 3]
    assert run("clone", recording, "-o", path, "--say", "Hello.", "--wav", wav, *given) == 0
    tts = TTS.load(folder)
    found, _ = soundfile.read(wav, dtype="float32")
    expected = tts.synthesize("Hello.", path, seed=3).audio.samples
    assert np.abs(found - expected).max() < 1e-4
    # The same without a file for the voice.
    assert run("clone", recording, "--say", "Hello.", "--wav", again, *given) == 0
    assert again.read_bytes() == wav.read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {
        "me.wav",
        "ana.safetensors",
        "hello.wav",
        "again.wav",
    }


def test_a_noisy_recording_is_warned_of(
    folder: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wave, _ = soundfile.read(recording)
    noisy = wave + 0.05 * np.random.default_rng(1).standard_normal(len(wave))
    soundfile.write(recording, noisy, RATE, subtype="FLOAT")
    path = tmp_path / "ana.safetensors"
    assert run("clone", recording, "-o", path, "--consent", CONSENT, "--model", folder) == 0
    assert "warning: the reference is noisy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["-o", "ana.safetensors"], "--consent is missing"),
        (["-o", "ana.safetensors", "--consent", " "], "--consent is missing"),
        (["--consent", "Ana"], "name a file for the voice"),
        (["-o", "ana.wav", "--consent", "Ana"], "ana.wav: a voice is a .safetensors file"),
        (["-o", "none/ana.safetensors", "--consent", "Ana"], "there is no folder none"),
        (["-o", "ana.safetensors", "--consent", "Ana", "--wav", "a.wav"], "--wav is for what --say says"),
        (
            ["-o", "ana.safetensors", "--consent", "Ana", "--say", "Hi.", "--wav", "a.mp3"],
            "a.mp3: name a .wav",
        ),
        (["-o", "ana.safetensors", "--consent", "Ana", "--say", " ", "--wav", "a.wav"], "no text to say"),
        (["-o", "ana.rvc", "--say", "Hi.", "--consent", "Ana"], "--say needs a voice"),
        (["-o", "ana.safetensors", "--enrol", "optimise"], "--enrol optimise gives codes"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    folder: Path, recording: Path, args: list[str], told: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run("clone", recording, *args, "--model", folder) == 2
    refused(capsys, told)
    assert [file.name for file in tmp_path.iterdir()] == ["me.wav"]


def test_recordings_that_make_no_voice_are_refused(
    folder: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wave, _ = soundfile.read(recording)
    path = tmp_path / "ana.safetensors"
    for given, told in (
        (wave[: 2 * RATE], "is 2.0 s long; give 3 to 30 s"),
        (np.zeros(4 * RATE), "less than 1.5 s of speech"),
        (None, "me.wav"),
    ):
        if given is None:
            recording.unlink()
        else:
            soundfile.write(recording, given, RATE, subtype="FLOAT")
        assert run("clone", recording, "-o", path, "--consent", CONSENT, "--model", folder) == 2
        refused(capsys, told)
        assert not path.exists()
