"""Manifests: clips out of a tar or a folder, read one by one, mistakes named by line."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from rillvox.errors import AudioError, ConfigError
from rillvox.training import manifests
from rillvox.training.manifests import Manifest, read_index, write_json


def tone(hz: float, seconds: float = 0.2, rate: int = 16000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def flac(samples: np.ndarray, rate: int = 16000) -> bytes:
    sink = io.BytesIO()
    sf.write(sink, samples, rate, format="FLAC")
    return sink.getvalue()


def write_manifest(folder: Path, entries: list[Any]) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def pack(folder: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(folder / "clips.tar", "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    pack(tmp_path, {f"{name}.flac": flac(tone(hz)) for name, hz in (("low", 200), ("high", 2000))})
    write_manifest(
        tmp_path,
        [
            {"id": "h", "path": "clips.tar/high.flac", "text": "HIGH", "speaker": "s1", "age": "9"},
            {"id": "l", "path": "clips.tar/low.flac", "text": None, "seconds": 0.2, "sample_rate": 16000},
        ],
    )
    return tmp_path


def crossings(samples: np.ndarray) -> int:
    return int(np.sum(np.diff(np.signbit(samples))))


def test_clips_of_a_tar_come_in_the_order_of_the_lines(packed: Path):
    pairs = list(Manifest(packed))
    assert [clip.id for clip, _ in pairs] == ["h", "l"]
    assert pairs[0][0].text == "HIGH"
    assert pairs[0][0].extra == {"age": "9"}
    assert pairs[1][0].text is None
    assert crossings(pairs[0][1].samples) > 5 * crossings(pairs[1][1].samples)
    assert all(audio.rate == 16000 and audio.seconds == 0.2 for _, audio in pairs)


def test_clips_are_read_only_when_asked_for(packed: Path, monkeypatch: pytest.MonkeyPatch):
    read: list[object] = []
    real = manifests.read_audio
    monkeypatch.setattr(
        manifests, "read_audio", lambda source, rate: read.append(1) or real(source, rate=rate)
    )
    manifest = Manifest(packed)
    assert len(manifest) == 2
    assert not read
    next(iter(manifest))
    assert len(read) == 1


def test_clips_may_be_plain_files_and_are_resampled(tmp_path: Path):
    (tmp_path / "wavs").mkdir()
    sf.write(tmp_path / "wavs" / "a.wav", tone(300, rate=8000), 8000)
    write_manifest(tmp_path, [{"id": "a", "path": "wavs/a.wav"}])
    (_, audio), *rest = Manifest(tmp_path / "manifest.jsonl", rate=16000)
    assert not rest
    assert audio.rate == 16000
    assert audio.seconds == pytest.approx(0.2, abs=0.001)


def test_a_manifest_travels_to_another_process(packed: Path):
    manifest = pickle.loads(pickle.dumps(Manifest(packed)))
    assert np.array_equal(
        manifest.load(manifest.clips[1]).samples, Manifest(packed).load(manifest.clips[1]).samples
    )


def test_a_part_of_a_manifest_keeps_the_rest_whole(packed: Path):
    manifest = Manifest(packed)
    assert [clip.id for clip, _ in manifest.where(lambda clip: clip.text is None)] == ["l"]
    assert len(manifest) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: not JSON"),
        ("[]", r"line 2: expected an object, found list"),
        ('{"path": "clips.tar/low.flac"}', r"line 2: id: expected str, found None"),
        ('{"id": 7, "path": "clips.tar/low.flac"}', r"line 2: id: expected str, found 7"),
        (
            '{"id": "x", "path": "clips.tar/low.flac", "seconds": true}',
            r"line 2: seconds: expected int or float",
        ),
        ('{"id": "ok", "path": "clips.tar/low.flac"}', r"line 2: id ok is that of line 1"),
        ('{"id": "x", "path": "clips.tar/none.flac"}', r"clip x: clips.tar has no member none.flac"),
        ('{"id": "x", "path": "other.tar/none.flac"}', r"no archive .*other.tar"),
        ('{"id": "x", "path": "none.wav"}', r"clip x: no file none.wav"),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_read(packed: Path, line: str, message: str):
    path = packed / "manifest.jsonl"
    path.write_text('{"id": "ok", "path": "clips.tar/low.flac"}\n' + line + "\n")
    with pytest.raises(ConfigError, match=message):
        Manifest(path)


def test_a_missing_or_empty_manifest_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read the manifest"):
        Manifest(tmp_path)
    (tmp_path / "manifest.jsonl").write_text("\n")
    with pytest.raises(ConfigError, match="has no clips"):
        Manifest(tmp_path)


def test_a_clip_that_is_no_audio_is_named(packed: Path):
    pack(packed, {"low.flac": b"not audio at all", "high.flac": b""})
    manifest = Manifest(packed)
    with pytest.raises(AudioError, match="clip l of"):
        manifest.load(manifest.clips[1])


def test_a_tar_cut_short_is_named(packed: Path):
    manifest = Manifest(packed)
    data = (packed / "clips.tar").read_bytes()
    (packed / "clips.tar").write_bytes(data[:600])
    with pytest.raises(AudioError, match="cut short"):
        manifest.load(manifest.clips[0])


def test_a_compressed_tar_is_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "clips.tar", "w:gz"):
        pass
    with pytest.raises(ConfigError, match="not a plain tar"):
        read_index(tmp_path / "clips.tar")


def test_the_index_of_a_tar_is_kept_and_made_anew_when_the_tar_changes(packed: Path, tmp_path: Path):
    kept = tmp_path / "index"
    first = read_index(packed / "clips.tar", kept)
    (index,) = kept.iterdir()
    document = json.loads(index.read_text())
    document["members"]["trace"] = [0, 0]
    index.write_text(json.dumps(document))
    assert "trace" in read_index(packed / "clips.tar", kept)  # the kept one was used
    pack(packed, {"new.flac": flac(tone(100))})
    assert set(read_index(packed / "clips.tar", kept)) == {"new.flac"}
    index.write_text("{ half a file")
    assert set(read_index(packed / "clips.tar", kept)) == {"new.flac"}
    assert set(first) == {"low.flac", "high.flac"}


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path):
    path = tmp_path / "document.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, [object()])
    assert json.loads(path.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [path]
