"""The samples run with the models that come along, as a user would run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def seconds(path: Path) -> float:
    found = sf.info(path)  # pyright: ignore[reportUnknownMemberType]
    assert found.samplerate == 24000
    return found.duration


def test_say_writes_speech_a_picture_and_the_words(tmp_path: Path) -> None:
    said = run("samples/say.py", "One two three four.", "--out", str(tmp_path))
    assert [line.split()[-1] for line in said.splitlines()[:4]] == ["One", "two", "three", "four"]
    assert 0.7 < seconds(tmp_path / "said.wav") < 4
    assert (tmp_path / "said.png").read_bytes()[:4] == b"\x89PNG"


def test_a_cloned_voice_is_kept_and_understood(tmp_path: Path) -> None:
    said = run("samples/clone_voice.py", "--out", str(tmp_path))
    heard = next(line for line in said.splitlines() if line.startswith("heard:")).split()[1:]
    wanted = ["this", "voice", "was", "made", "from", "six", "seconds", "of", "speech"]
    assert len(set(heard) & set(wanted)) >= 6, heard
    assert (tmp_path / "kathleen.safetensors").stat().st_size < 4_000_000
    assert seconds(tmp_path / "cloned.wav") > 1.5


def test_text_that_is_being_written_is_spoken(tmp_path: Path) -> None:
    said = run("samples/stream_to_speaker.py", "--file", str(tmp_path / "out.wav"))
    assert "first audio" in said
    assert seconds(tmp_path / "out.wav") > 3


def test_talking_back_repeats_what_was_said(tmp_path: Path) -> None:
    out = tmp_path / "back.wav"
    said = run("samples/talk_back.py", "--consent", "CC0 1.0", "--out", str(out))
    assert "pascal" in said
    assert seconds(out) > 2
