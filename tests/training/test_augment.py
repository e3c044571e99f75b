"""Augmentation: repeatable, true to its figures, and times that stay with the sound."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from rillvox.errors import ConfigError
from rillvox.training.augment import (
    Augment,
    AugmentConfig,
    active_power,
    add_noise,
    change_speed,
    mask_spectrogram,
    reverberate,
    set_level,
    telephone,
)
from rillvox.training.noises import Noises

RATE = 16000


def speech(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Bursts of noise like syllables, with pauses between them."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=int(seconds * RATE)) * 0.1
    beat = np.arange(len(x)) / RATE % 0.5 < 0.3
    return (x * beat).astype(np.float32)


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    entries = []
    for fold in (1, 2, 3, 4, 5):
        for kind in ("background", "event"):
            name = f"{kind}_{fold}.flac"
            sf.write(tmp_path / name, 0.2 * rng(fold).normal(size=8000).clip(-3, 3) / 3, RATE)
            entries.append({"file": name, "kind": kind, "cls": "rain", "fold": fold})
    for kind, count in (("hall", 6), ("small", 8)):
        for number in range(count):
            name = f"{kind}_{number:02d}.flac"
            response = np.zeros(400)
            response[[8, 200]] = 0.9, 0.3
            sf.write(tmp_path / name, response, RATE)
            entries.append({"file": name, "kind": "rir", "cls": kind, "direct_index": 8})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return tmp_path


def test_the_same_generator_gives_the_same_sound(folder: Path):
    config = AugmentConfig(room_share=0.5, noise_share=0.5, telephone_share=0.5)
    augment = Augment(config, Noises(folder))
    times = np.array([[0.1, 0.4], [0.5, 0.9]])
    outputs = [augment(speech(), times, rng(seed)) for seed in (3, 3, 4)]
    assert np.array_equal(outputs[0][0], outputs[1][0])
    assert np.array_equal(outputs[0][1], outputs[1][1])
    assert not np.array_equal(outputs[0][0][:1000], outputs[2][0][:1000])
    assert outputs[0][0].dtype == np.float32


def test_nothing_is_drawn_from_anywhere_else(folder: Path):
    augment = Augment(AugmentConfig(room_share=1.0, noise_share=1.0), Noises(folder))
    np.random.seed(0)
    first = augment(speech(), np.zeros(0), rng())[0]
    np.random.seed(1)
    assert np.array_equal(first, augment(speech(), np.zeros(0), rng())[0])


@pytest.mark.parametrize("factor", [0.88, 1.0, 1.12])
def test_times_move_with_the_sound(factor: float):
    x = np.zeros(RATE, np.float32)
    x[8000:8010] = 1.0
    y, times = change_speed(x, np.array([0.5]), factor)
    assert len(y) == round(RATE / factor)
    assert np.argmax(y) / RATE == pytest.approx(times[0], abs=2e-4)
    assert times[0] == pytest.approx(0.5 / factor)


def test_a_click_shows_times_that_were_not_scaled():
    x = np.zeros(RATE, np.float32)
    x[8000:8010] = 1.0
    y, _ = change_speed(x, np.array([0.5]), 1.12)
    assert np.argmax(y) / RATE != pytest.approx(0.5, abs=2e-4)


@pytest.mark.parametrize("snr_db", [5.0, 17.3, 30.0])
@pytest.mark.parametrize("event", [False, True])
def test_noise_comes_at_the_ratio_that_was_asked_for(snr_db: float, event: bool):
    x, noise = speech(), rng().normal(size=2 * RATE).astype(np.float32)
    if event:
        noise[: len(noise) // 2] = 0
    added = add_noise(x, noise, snr_db) - x
    syllables = np.square(x[x != 0].astype(np.float64)).mean()
    heard = np.square(added[noise != 0].astype(np.float64)).mean()
    assert 10 * np.log10(syllables / heard) == pytest.approx(snr_db, abs=0.1)


def test_the_ratio_would_be_off_by_two_decibels_if_pauses_counted():
    x = speech()
    assert 10 * np.log10(active_power(x) / np.square(x).mean()) == pytest.approx(
        10 * np.log10(0.5 / 0.3), abs=0.1
    )


@pytest.mark.parametrize("dbfs", [-32.0, -16.0])
def test_the_level_is_that_of_the_speech_without_its_pauses(dbfs: float):
    y = set_level(speech(), dbfs)
    assert 10 * np.log10(np.square(y[y != 0].astype(np.float64)).mean()) == pytest.approx(dbfs, abs=0.1)


def test_a_level_never_clips():
    x = np.zeros(RATE, np.float32)
    x[::4000] = 0.5
    assert np.abs(set_level(x, -1.0)).max() <= 0.99 + 1e-6


def test_a_room_leaves_the_direct_sound_in_place():
    x = np.zeros(1000, np.float32)
    x[100] = 1.0
    response = np.zeros(300, np.float32)
    response[[20, 120]] = 0.9, 0.4
    y = reverberate(x, response, 20)
    assert len(y) == 1000
    expected = np.zeros(1000)
    expected[[100, 200]] = 0.9, 0.4
    assert np.allclose(y, expected, atol=1e-6)
    assert np.argmax(reverberate(x, response, 0)) == 120  # what would happen without the index


def test_a_telephone_passes_nothing_above_4_khz_and_moves_nothing():
    t = np.arange(RATE) / RATE
    low, high = np.sin(2 * np.pi * 1000 * t), np.sin(2 * np.pi * 6000 * t)
    y = telephone((0.3 * low + 0.3 * high).astype(np.float32))
    assert len(y) == RATE
    middle = slice(1000, -1000)
    assert np.abs(y[middle] - 0.3 * low[middle]).max() < 0.01


def test_training_never_hears_what_tests_are_made_of(folder: Path):
    training, held_out = Noises(folder), Noises(folder, held_out=True)
    assert {noise.fold for noise in training.noises} == {1, 2, 3, 4}
    assert {noise.fold for noise in held_out.noises} == {5}
    assert [room.file for room in held_out.rooms] == [
        "hall_04.flac",
        "hall_05.flac",
        "small_06.flac",
        "small_07.flac",
    ]
    assert len(training.rooms) == 10
    assert not {room.file for room in training.rooms} & {room.file for room in held_out.rooms}


def test_backgrounds_are_looped_and_events_happen_once(folder: Path):
    noises = Noises(folder)
    backgrounds, events = 0, 0
    for seed in range(30):
        stretch = noises.draw_noise(20000, rng(seed))
        assert stretch is not None
        assert len(stretch) == 20000
        sounding = np.flatnonzero(stretch)
        if len(sounding) > 10000:
            backgrounds += 1
        else:
            events += 1
            assert sounding[-1] - sounding[0] <= 8000
    assert backgrounds > 5
    assert events > 5
    short = noises.draw_noise(3000, rng(0))
    assert short is not None
    assert len(short) == 3000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not a noise"),
        ('{"file": "a"}', "line 1: not a noise or a room: KeyError"),
        ('{"file": "a", "kind": "music"}', "line 1: kind 'music' is not"),
        ('{"file": "a", "kind": "event", "fold": 5}', "no noise and no room"),
    ],
)
def test_a_wrong_noise_manifest_is_named(tmp_path: Path, line: str, message: str):
    with pytest.raises(ConfigError, match="cannot read"):
        Noises(tmp_path)
    (tmp_path / "manifest.jsonl").write_text(line + "\n")
    with pytest.raises(ConfigError, match=message):
        Noises(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed": (1.2, 0.9)}, r"augment\.speed: 1\.2 is above 0\.9"),
        ({"speed": (0.0, 0.9)}, r"augment\.speed must be positive"),
        ({"noise_share": 1.5}, r"augment\.noise_share must be between 0 and 1, got 1\.5"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        AugmentConfig(**settings)


@pytest.mark.parametrize("length", [0, 1, 100, 320, 321])
def test_clips_of_a_few_samples_pass_through(length: int, folder: Path):
    augment = Augment(AugmentConfig(room_share=1.0, noise_share=1.0, telephone_share=1.0), Noises(folder))
    y, _ = augment(np.zeros(length, np.float32), np.zeros(0), rng())
    assert np.isfinite(y).all()
    assert active_power(np.zeros(length, np.float32)) == 0


def test_masks_hide_bands_and_stretches_behind_the_mean():
    mel = torch.randn(4, 80, 450, generator=torch.Generator().manual_seed(0))
    masked = mask_spectrogram(mel, rng())
    again = mask_spectrogram(mel, rng())
    assert torch.equal(masked, again)
    assert not torch.equal(masked[0] != mel[0], masked[1] != mel[1])
    for row in range(4):
        changed = masked[row] != mel[row]
        assert torch.allclose(masked[row][changed], mel[row].mean())
        bands, stretches = changed.all(dim=1), changed.all(dim=0)
        assert torch.equal(changed, bands[:, None] | stretches[None])
        assert int(bands.sum()) <= 2 * 15
        assert int(stretches.sum()) <= 3 * 25
    assert (masked != mel).any()
    assert torch.equal(mask_spectrogram(mel, rng(), band_masks=0, longest=0), mel)
