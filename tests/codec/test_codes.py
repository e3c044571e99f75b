"""Files of codes: as small as the bit rate says, exact, and any damage is one clear error."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rillvox.codec.codes import BLOCK, Codes, CodesReader, CodesWriter, Layout
from rillvox.codec.config import voxtral_codec
from rillvox.errors import AudioError

LAYOUT = Layout.of(voxtral_codec(), "0123456789abcdef" * 2)


def codes(frames: int, samples: int | None = None, seed: int = 0) -> Codes:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, np.asarray(LAYOUT.alphabets), (frames, 37))
    return Codes(values, frames * 1920 if samples is None else samples, LAYOUT)


@pytest.mark.parametrize("frames", [0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 300])
def test_a_file_gives_back_what_it_was_given(frames: int, tmp_path: Path) -> None:
    made = codes(frames, max(0, frames * 1920 - 700))
    made.save(tmp_path / "a.rvc")
    again = Codes.load(tmp_path / "a.rvc")
    assert np.array_equal(again.values, made.values)
    assert (again.samples, again.layout) == (made.samples, made.layout)
    assert again.seconds == made.samples / 24000


def test_the_extremes_of_every_alphabet(tmp_path: Path) -> None:
    largest = np.tile(np.asarray(LAYOUT.alphabets) - 1, (70, 1))
    for values in (largest, np.zeros_like(largest)):
        Codes(values, 70 * 1920, LAYOUT).save(tmp_path / "a.rvc")
        assert np.array_equal(Codes.load(tmp_path / "a.rvc").values, values)


def test_a_file_is_as_small_as_the_bit_rate_says(tmp_path: Path) -> None:
    codes(64 * 60).save(tmp_path / "a.rvc")
    seconds = 64 * 60 * 0.08
    bits = 8 * (tmp_path / "a.rvc").stat().st_size
    assert bits / seconds <= voxtral_codec().bits_per_second * 1.001 + 8 * 68 / seconds


def test_frames_may_come_in_any_pieces(tmp_path: Path) -> None:
    made = codes(200)
    made.save(tmp_path / "whole.rvc")
    rng = np.random.default_rng(1)
    with CodesWriter(tmp_path / "pieces.rvc", LAYOUT) as writer:
        begin = 0
        while begin < 200:
            count = int(rng.integers(0, 90))
            writer.add(made.values[begin : begin + count])
            begin += count
        writer.finish(made.samples)
    assert (tmp_path / "pieces.rvc").read_bytes() == (tmp_path / "whole.rvc").read_bytes()
    with CodesReader(tmp_path / "whole.rvc") as reader:
        assert [len(block) for block in reader] == [64, 64, 64, 8]


def test_a_writer_that_is_left_early_changes_nothing(tmp_path: Path) -> None:
    codes(3).save(tmp_path / "a.rvc")
    before = (tmp_path / "a.rvc").read_bytes()
    with CodesWriter(tmp_path / "a.rvc", LAYOUT) as writer:
        writer.add(codes(100).values)
    assert (tmp_path / "a.rvc").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.rvc"]


def test_a_length_that_does_not_fit_the_frames(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="3841 samples need 3 frames, got 2"):
        codes(2, 3841)
    with CodesWriter(tmp_path / "a.rvc", LAYOUT) as writer, pytest.raises(AudioError, match="do not fit"):
        writer.finish(1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 36), int), r"expected shape \[frames, 37\]"),
        (np.zeros((2, 37)), "expected whole numbers, got float64"),
        (np.full((2, 37), -1), "code 0 of frame 0 is -1, must be 0 to 8191"),
        (np.full((2, 37), 21), "code 1 of frame 0 is 21, must be 0 to 20"),
    ],
)
def test_values_that_are_no_codes(values: np.ndarray, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        Codes(values, 3840, LAYOUT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("codes") / "a.rvc"
    codes(70, 70 * 1920 - 5).save(path)
    return path.read_bytes()


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(whole) - 1))
    (tmp_path / "cut.rvc").write_bytes(whole[:length])
    with pytest.raises(AudioError, match=r"cut\.rvc: (is cut short|is no file of codes)"):
        Codes.load(tmp_path / "cut.rvc")


@FUZZ
@given(data=st.data())
def test_a_changed_byte_anywhere_is_refused(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[place] ^= data.draw(st.integers(1, 255))
    (tmp_path / "changed.rvc").write_bytes(changed)
    with pytest.raises(AudioError, match=r"changed\.rvc"):
        Codes.load(tmp_path / "changed.rvc")


@FUZZ
@given(content=st.binary(max_size=300))
def test_anything_else_is_refused(content: bytes, tmp_path: Path) -> None:
    for head in (b"", b"RVXC"):
        (tmp_path / "other.rvc").write_bytes(head + content)
        with pytest.raises(AudioError, match=r"other\.rvc"):
            Codes.load(tmp_path / "other.rvc")


def test_more_behind_the_end_is_refused(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "long.rvc").write_bytes(whole + b"\0")
    with pytest.raises(AudioError, match="has something behind its end"):
        Codes.load(tmp_path / "long.rvc")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot be read: no such file"):
        Codes.load(tmp_path / "none.rvc")
    with pytest.raises(AudioError, match="cannot be written"):
        codes(1).save(tmp_path / "no" / "a.rvc")


def test_an_hour_passes_through_bounded_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    piece = rng.integers(0, np.asarray(LAYOUT.alphabets), (450, 37)).astype(np.int16)
    tracemalloc.start()
    try:
        with CodesWriter(tmp_path / "hour.rvc", LAYOUT) as writer:
            for _ in range(100):
                writer.add(piece)
            writer.finish(45000 * 1920)
        with CodesReader(tmp_path / "hour.rvc") as reader:
            frames = sum(len(block) for block in reader)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert frames == 45000
    assert (tmp_path / "hour.rvc").stat().st_size > 900_000
    assert peak < 2_500_000, f"{peak} bytes"  # the checksum is read a megabyte at a time
