"""Recordings made ready for cloning: refused or warned of, levelled, and cut at pauses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rillvox.audio import Audio, active_power
from rillvox.errors import VoiceError
from rillvox.tts.reference import EDGE, HOP, LEVEL_DBFS, RATE, levels, prepare_reference


def talk(parts: Sequence[tuple[str, float]], rate: int = RATE, noise: float = 1e-4) -> Audio:
    """Hums and quiet: `[("speech", 2.0), ("quiet", 0.5)]`."""
    rng = np.random.default_rng(3)
    pieces = []
    for kind, seconds in parts:
        count = round(seconds * rate)
        time = np.arange(count) / rate
        hum = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 8))
        wave = 0.2 * hum * (0.7 + 0.3 * np.sin(2 * np.pi * 4 * time)) if kind == "speech" else np.zeros(count)
        pieces.append(wave)
    wave = np.concatenate(pieces)
    wave = wave + noise * rng.standard_normal(len(wave))
    return Audio(wave.astype(np.float32), rate)


def test_a_good_recording_is_taken_as_it_is_but_for_its_level_and_edges() -> None:
    audio = talk([("quiet", 1.0), ("speech", 3.0), ("quiet", 1.5)])
    found = prepare_reference(audio, 6.0)
    assert found.warnings == []
    assert found.seconds_given == pytest.approx(5.5)
    assert found.samples.dtype == np.float32
    assert len(found.samples) == pytest.approx((3.0 + 2 * EDGE) * RATE, abs=3 * HOP)
    power = active_power(found.samples)
    assert 10 * np.log10(power) == pytest.approx(LEVEL_DBFS, abs=0.1)
    assert abs(found.samples.mean()) < 1e-3


@pytest.mark.parametrize("rate", [16000, 44100])
def test_any_rate_will_do(rate: int) -> None:
    found = prepare_reference(talk([("speech", 4.0)], rate), 6.0)
    assert len(found.samples) == pytest.approx(4.0 * RATE, abs=2 * HOP)


@pytest.mark.parametrize(("seconds", "good"), [(2.9, False), (3.0, True), (30.0, True), (30.1, False)])
def test_three_to_thirty_seconds_are_taken(seconds: float, good: bool) -> None:
    audio = talk([("speech", seconds)])
    if good:
        prepare_reference(audio, 6.0)
        return
    with pytest.raises(VoiceError, match=rf"is {seconds} s long; give 3 to 30 s"):
        prepare_reference(audio, 6.0)


@pytest.mark.parametrize(
    "audio",
    [
        Audio(np.zeros(5 * RATE, np.float32), RATE),
        talk([("quiet", 5.0)], noise=1e-5),
        talk([("quiet", 2.0), ("speech", 1.0), ("quiet", 2.0)]),
    ],
    ids=["zeros", "silence", "a second of speech"],
)
def test_hardly_any_speech_is_refused(audio: Audio) -> None:
    with pytest.raises(VoiceError, match=r"less than 1.5 s of speech; record it closer or louder"):
        prepare_reference(audio, 6.0)


def test_noise_and_clipping_are_told() -> None:
    parts = [("speech", 1.0), ("quiet", 0.5)] * 3
    noisy = prepare_reference(talk(parts, noise=0.05), 6.0)
    assert len(noisy.warnings) == 1
    assert "is noisy" in noisy.warnings[0]
    audio = talk(parts)
    clipped = prepare_reference(Audio((audio.samples * 6).clip(-1, 1), RATE), 6.0)
    assert len(clipped.warnings) == 1
    assert "is clipped" in clipped.warnings[0]
    assert prepare_reference(audio, 6.0).warnings == []


@pytest.mark.parametrize("most", [3.0, 4.5, 6.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_a_long_one_a_stretch_is_taken_that_begins_and_ends_in_quiet(seed: int, most: float) -> None:
    rng = np.random.default_rng(seed)
    parts: list[tuple[str, float]] = []
    for _ in range(9):
        parts += [("speech", float(rng.uniform(0.6, 1.3))), ("quiet", float(rng.uniform(0.1, 0.4)))]
    audio = talk(parts)
    assert most < audio.seconds < 30
    found = prepare_reference(audio, most).samples
    assert 0.5 * most * RATE <= len(found) <= most * RATE
    # It is a part of what was given, louder or softer.
    given = audio.samples - audio.samples.mean()
    parts_of_it = (given[at : at + len(found)] for at in range(0, len(given) - len(found) + 1, HOP))
    assert any(np.allclose(part * (found @ part / (part @ part)), found, atol=1e-5) for part in parts_of_it)
    level = levels(found)
    loud = np.percentile(level, 95)
    assert level[0] < loud - 30
    assert level[-1] < loud - 30
    # Mostly speech.
    assert (level > loud - 30).mean() > 0.6


def test_speech_without_a_pause_is_cut_all_the_same() -> None:
    found = prepare_reference(talk([("speech", 12.0)]), 6.0).samples
    assert 4.0 * RATE < len(found) <= 6.0 * RATE


def test_levels_are_those_of_full_scale() -> None:
    wave = np.concatenate([np.ones(HOP), np.zeros(HOP), np.full(HOP, 0.1), np.ones(HOP // 2)]).astype(
        np.float32
    )
    assert levels(wave).tolist() == pytest.approx([0.0, -100.0, -20.0], abs=1e-3)
