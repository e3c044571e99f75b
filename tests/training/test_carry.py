"""A prepared folder without its samples, and made whole again from the recordings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from rillvox.errors import ConfigError
from rillvox.training.carry import pack, unpack
from rillvox.training.sounds import RATE, STEP, Sound, Sounds, as_pcm, levelled, write_sounds


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three clips in a list, one of them at 16 kHz."""
    folder = tmp_path / "data" / "tones"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines: list[str] = []
    for number, rate in enumerate((24000, 16000, 24000)):
        time = np.arange(rate + 100 * number) / rate
        wave = 0.2 * np.sin(2 * np.pi * 150 * time) + 0.01 * rng.standard_normal(len(time))
        soundfile.write(folder / f"{number}.flac", wave, rate)
        lines.append(json.dumps({"id": f"t{number}", "path": f"{number}.flac", "corpus": "tones"}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def prepared(recordings: Path, out: Path) -> Sounds:
    from rillvox.training.manifests import Manifest

    manifest = Manifest(recordings)
    clips: list[Sound] = []
    parts: list[np.ndarray] = []
    offset = 0
    for clip in manifest.clips:
        audio = manifest.load(clip)
        parts.append(as_pcm(levelled(audio.resample(RATE).samples)))
        clips.append(Sound(clip.id, "tones", "s", audio.rate, offset, len(parts[-1])))
        offset += len(parts[-1])
    ids = np.random.default_rng(1).integers(0, 9, offset // STEP).astype(np.int16)
    write_sounds(out, clips, np.concatenate(parts), ids, torch.randn(9, 4))
    return Sounds(out)


def test_what_was_carried_is_what_was_packed(recordings: Path, tmp_path: Path) -> None:
    whole = prepared(recordings, tmp_path / "whole")
    pack(tmp_path / "whole", tmp_path / "meta")
    assert not (tmp_path / "meta" / "pcm.npy").exists()
    again = unpack(tmp_path / "meta", tmp_path / "again", [recordings], lambda _: None)
    assert again.clips == whole.clips
    assert torch.equal(again.codebook, whole.codebook)
    for name in ("pcm", "ids", "pitch"):
        assert np.array_equal(getattr(again, name), getattr(whole, name))
    assert (again.pitch > 0).mean() > 0.8


def test_a_recording_that_is_not_there_is_left_out(recordings: Path, tmp_path: Path) -> None:
    whole = prepared(recordings, tmp_path / "whole")
    pack(tmp_path / "whole", tmp_path / "meta")
    lines = (recordings / "manifest.jsonl").read_text().splitlines()
    (recordings / "manifest.jsonl").write_text("\n".join(lines[1:]) + "\n")
    soundfile.write(recordings / "2.flac", np.zeros(100), 24000)  # not what it was
    said: list[str] = []
    again = unpack(tmp_path / "meta", tmp_path / "again", [recordings], said.append)
    assert [clip.id for clip in again.clips] == ["t1"]
    assert again.clips[0].offset == 0
    old = whole.clips[1]
    assert np.array_equal(again.samples(again.clips[0]), whole.samples(old))
    assert np.array_equal(again.codes(again.clips[0], 480, 4), whole.codes(old, 480, 4))
    assert np.array_equal(again.hertz(again.clips[0], 480, 20), whole.hertz(old, 480, 20))
    assert said == ["1 clips, 0.00 hours; 1 not there, 1 not as before"]


def test_nothing_to_unpack_is_told(recordings: Path, tmp_path: Path) -> None:
    prepared(recordings, tmp_path / "whole")
    pack(tmp_path / "whole", tmp_path / "meta")
    other = json.dumps({"id": "another", "path": "0.flac"})
    (recordings / "manifest.jsonl").write_text(other + "\n")
    with pytest.raises(ConfigError, match="none of its clips"):
        unpack(tmp_path / "meta", tmp_path / "again", [recordings], lambda _: None)


def test_clips_that_are_no_whole_steps_are_refused(tmp_path: Path) -> None:
    clip = Sound("odd", "tones", "s", 24000, 0, 481)
    with pytest.raises(ConfigError, match="multiples of 480"):
        write_sounds(tmp_path, [clip], np.zeros(481, np.int16), np.zeros(1, np.int16), torch.zeros(1, 1))
    assert not (tmp_path / "pcm.npy").exists()
