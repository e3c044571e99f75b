"""Streams in which nobody speaks, and rows of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from rillvox import ConfigError
from rillvox.asr.rows import AudioRows
from rillvox.training.augment import Augment, AugmentConfig
from rillvox.training.noises import Noises, coloured, draw_quiet, tones
from rillvox.training.pool import Clip, write_pool


@pytest.fixture
def noises(tmp_path: Path) -> Noises:
    rng = np.random.default_rng(0)
    lines: list[dict[str, object]] = []
    for name, kind, fold in (("rain", "background", 1), ("bark", "event", 2), ("test", "background", 5)):
        soundfile.write(tmp_path / f"{name}.flac", 0.2 * rng.standard_normal(4000), 16000)
        lines.append({"file": f"{name}.flac", "kind": kind, "cls": name, "fold": fold})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Noises(tmp_path)


def test_quiet_is_of_every_level_and_never_broken(noises: Noises) -> None:
    rng = np.random.default_rng(1)
    levels: list[float] = []
    for source in [noises] * 40 + [None] * 20:
        x = draw_quiet(8000, source, rng)
        assert x.shape == (8000,)
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert np.abs(x).max() <= 1
        levels.append(20 * np.log10(max(1e-9, float(x.std()))))
    assert min(levels) < -55
    assert max(levels) > -30


def test_the_same_generator_gives_the_same_quiet(noises: Noises) -> None:
    one, other = (draw_quiet(8000, noises, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, draw_quiet(8000, noises, np.random.default_rng(8)))


def test_tones_stand_in_lines_and_coloured_noise_does_not() -> None:
    def peakedness(x: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(x[:16000])) ** 2
        return float(np.sort(power)[-80:].sum() / power.sum())

    rng = np.random.default_rng(3)
    white = [coloured(16000, rng) for _ in range(20)]
    music = [tones(16000, rng) for _ in range(20)]
    assert np.median([peakedness(x) for x in music if x.any()]) > 0.7
    assert min(peakedness(x) for x in white) < 0.1


def speech(tmp_path: Path, quiet_share: float, noises: Noises | None = None) -> AudioRows:
    pcm = (8000 * np.sin(np.arange(16000) / 3)).astype(np.int16)
    clip = Clip("c", "tones", "s", 0, len(pcm), ("so",), (1, 2), (2,), ((0, 25), (25, 50)), -0.5)
    pool = write_pool(tmp_path / "pool", [(clip, pcm)])
    return AudioRows(pool, pool.clips, Augment(AugmentConfig(), noises), quiet_share=quiet_share)


def test_some_rows_have_sound_and_no_words(tmp_path: Path, noises: Noises) -> None:
    rng = np.random.default_rng(2)
    rows = [speech(tmp_path, 0.3, noises).draw(5.12, rng) for _ in range(60)]
    silent = [row for row in rows if not row.words]
    assert 8 <= len(silent) <= 30
    assert all(not row.phones.any() and row.wave.any() for row in silent)
    assert all(row.phones.any() for row in rows if row.words)


def test_without_a_share_all_rows_speak(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = speech(tmp_path, 0.0)
    assert all(rows.draw(5.12, rng).words for _ in range(30))
    with pytest.raises(ConfigError, match="quiet_share must be between 0 and 1"):
        speech(tmp_path, 1.5)
