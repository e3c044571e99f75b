"""`rillvox codec encode` and `decode`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_runner import run
from tiny_codec import GOLDEN, golden, sound


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "in.wav", sound(192 * 70 + 55).numpy(), 24000, subtype="FLOAT")
    return tmp_path / "in.wav"


def test_there_and_back(wav: Path, tmp_path: Path) -> None:
    assert run("codec", "encode", wav, tmp_path / "a.rvc", "--model", GOLDEN) == 0
    for name in ("out.wav", "out.flac"):
        assert run("codec", "decode", tmp_path / "a.rvc", tmp_path / name, "--model", GOLDEN) == 0
        found, rate = soundfile.read(tmp_path / name, dtype="float32")
        codec = golden()
        expected = codec.decode(codec.encode(wav)).samples.clip(-1, 1)
        assert rate == 24000
        assert len(found) == 192 * 70 + 55
        assert np.abs(found - expected).max() < 1e-4
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"in.wav", "a.rvc", "out.wav", "out.flac"}


def test_a_frame_is_timed_with_both_kinds_of_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("bench", "codec", "--model", GOLDEN, "--seconds", 0.1, "--json", tmp_path / "b.json") == 0
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [row["weights"] for row in rows] == ["float32", "int8"]
    assert all(row["times real time"] > 0 and row["frames"] == 12 for row in rows)
    assert "| int8 |" in capsys.readouterr().out
    assert run("bench", "codec", "--seconds", 0) == 2


@pytest.mark.parametrize("damage", ["cut", "foreign", "other codec"])
def test_a_bad_file_of_codes_is_one_line_and_harms_nothing(
    damage: str, wav: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = tmp_path / "a.rvc"
    run("codec", "encode", wav, codes, "--model", GOLDEN)
    whole = codes.read_bytes()
    if damage == "cut":
        codes.write_bytes(whole[:-7])
    elif damage == "foreign":
        codes.write_bytes(wav.read_bytes())
    else:
        from tiny_codec import made

        made("released").encode(wav).save(codes)
    (tmp_path / "out.wav").write_bytes(b"precious")
    capsys.readouterr()
    assert run("codec", "decode", codes, tmp_path / "out.wav", "--model", GOLDEN) == 2
    err = capsys.readouterr().err
    assert err.startswith("rillvox: ")
    assert err.count("\n") == 1
    assert (tmp_path / "out.wav").read_bytes() == b"precious"
    assert {path.name for path in tmp_path.iterdir()} == {"in.wav", "a.rvc", "out.wav"}


def test_what_cannot_be_written_is_refused_first(wav: Path, tmp_path: Path) -> None:
    assert run("codec", "encode", wav, tmp_path / "no" / "a.rvc", "--model", GOLDEN) == 2
    assert run("codec", "encode", wav, wav, "--model", GOLDEN) == 2
    assert run("codec", "encode", tmp_path / "none.wav", tmp_path / "a.rvc", "--model", GOLDEN) == 2
    assert run("codec", "decode", tmp_path / "a.rvc", tmp_path / "a.mp3", "--model", GOLDEN) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]
