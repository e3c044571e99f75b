"""The pitch that teaches a voice: of what has one, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from rillvox.training.pitch import HOP, pitch

RATE = 24000


def voice(hertz: np.ndarray, harmonics: int = 12) -> np.ndarray:
    """Harmonics that fall off, of a pitch given for every sample."""
    phase = np.cumsum(hertz) / RATE
    order = np.arange(1, harmonics + 1)[:, None]
    return (0.1 * (np.cos(2 * np.pi * order * phase) / order).sum(0)).astype(np.float32)


@pytest.mark.parametrize("middle", [70.0, 120.0, 220.0, 400.0])
def test_a_gliding_voice_is_followed(middle: float) -> None:
    time = np.arange(RATE) / RATE
    hertz = middle * 2 ** (0.25 * np.sin(2 * np.pi * 1.5 * time))
    found = pitch(voice(hertz))
    assert len(found) == RATE // HOP + 1
    wanted = hertz[np.minimum(np.arange(len(found)) * HOP, RATE - 1)]
    cents = 1200 * np.log2(found[4:-4] / wanted[4:-4])
    assert np.median(np.abs(cents)) < 5
    assert np.abs(cents).max() < 60


def test_noise_and_silence_have_none() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    assert (pitch(noise) > 0).mean() < 0.1
    assert not pitch(np.zeros(RATE, np.float32)).any()


def test_a_voice_that_begins_is_told_where_it_begins() -> None:
    wave = voice(np.full(RATE, 150.0))
    wave[: RATE // 2] = 0.002 * np.random.default_rng(1).standard_normal(RATE // 2)
    voiced = pitch(wave) > 0
    begin = RATE // 2 // HOP
    assert not voiced[: begin - 3].any()
    assert voiced[begin + 3 : -4].all()


@pytest.mark.parametrize("samples", [0, 1, 239, 240, 700])
def test_something_short_has_its_places_too(samples: int) -> None:
    assert len(pitch(np.zeros(samples, np.float32))) == samples // HOP + 1
