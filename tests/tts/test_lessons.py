"""Lessons in reading: what another program says, as a list of recordings."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from rillvox.audio import Audio
from rillvox.errors import ConfigError
from rillvox.training.manifests import Manifest
from rillvox.tts import peers
from rillvox.tts.lessons import write_lessons

LINES = [f"Sentence number {name} of the book." for name in ["one", "two", "three", "four", "five", "six"]]


def quiet(line: str) -> None: ...


def spoken(text: str, voice: str) -> Audio:
    """A second for each word, as loud as the voice's name is long; nobody says "three"."""
    seconds = 0.1 if "three" in text else float(len(text.split()))
    return Audio(np.full(round(16000 * seconds), len(voice) / 100, np.float32), 16000)


def test_sentences_are_spoken_in_one_voice_after_the_other_until_it_is_enough(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "text.gz", "wt") as file:
        file.write("\n".join([*LINES, "Too short.", "very " * 30]))
    voices = ["rms", "abcdef"]
    count = write_lessons(tmp_path / "text.gz", tmp_path / "a", voices, 24 / 3600, speak=spoken, say=quiet)
    manifest = Manifest(tmp_path / "a")
    assert count == len(manifest.clips) == 4
    for clip in manifest.clips:
        assert clip.text in LINES
        assert "three" not in clip.text
        audio = manifest.load(clip)
        assert audio.seconds == 6
        voice = {3: "lesson-rms", 6: "lesson-abcdef"}[round(float(audio.samples[0]) * 100)]
        assert clip.speaker == voice
    assert {clip.speaker for clip in manifest.clips} == {"lesson-rms", "lesson-abcdef"}
    (tmp_path / "text").write_text("\n".join(LINES[::-1]))
    for seed in (0, 1):
        write_lessons(tmp_path / "text", tmp_path / str(seed), ["rms"], 1, seed=seed, speak=spoken, say=quiet)
    first, other = ([str(clip.text) for clip in Manifest(tmp_path / name).clips] for name in "01")
    assert sorted(first) == sorted(other)
    assert first != other


def test_what_gives_no_lessons_is_told(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("Too short.")
    for text, voices, told in (
        ("short", ["rms"], "has no lines of 4 to 22 words"),
        ("none", ["rms"], "cannot be read"),
        ("short", [], "name a voice"),
    ):
        with pytest.raises(ConfigError, match=told):
            write_lessons(tmp_path / text, tmp_path / "out", voices, 1, speak=spoken, say=quiet)
    assert not (tmp_path / "out").exists()
    (tmp_path / "long").write_text("a three word line of four")
    with pytest.raises(ConfigError, match=r"no sentence of it takes 1\.5 to 15 s"):
        write_lessons(tmp_path / "long", tmp_path / "out", ["rms"], 1, speak=spoken, say=quiet)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()


def test_a_program_or_voice_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("\n".join(LINES))
    monkeypatch.setenv("PATH", str(tmp_path))
    for _ in range(2):
        peers.flite_voices.cache_clear()
        with pytest.raises(ConfigError, match="flite is not installed"):
            write_lessons(tmp_path / "text", tmp_path / "out", ["slt"], 1, say=quiet)
    program = tmp_path / "flite"
    program.write_text("#!/bin/sh\necho 'Voices available: kal slt '\n")
    program.chmod(0o755)
    with pytest.raises(ConfigError, match="flite has no voice bob; there are kal, slt"):
        write_lessons(tmp_path / "text", tmp_path / "out", ["bob"], 1, say=quiet)
    with pytest.raises(ConfigError, match="flite cannot say it with the voice slt"):
        write_lessons(tmp_path / "text", tmp_path / "out", ["slt"], 1, say=quiet)
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    peers.flite_voices.cache_clear()
