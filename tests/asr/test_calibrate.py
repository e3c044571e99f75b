"""Confidences and word times fitted to the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from laws.listening import small, waveform

from rillvox.asr import calibrate as calibration
from rillvox.asr.calibrate import calibrate, fit, fit_logistic
from rillvox.asr.checkpoint import save_native
from rillvox.asr.stream import ASR
from rillvox.asr.timing import WordScores
from rillvox.asr.words import Words, calibrated, word_calibration, word_offset
from rillvox.errors import TextError
from rillvox.tekken import Tekken


def drawn(scale: float, shift: float, count: int, seed: int) -> WordScores:
    """Words whose truth follows the map that is to be found."""
    rng = np.random.default_rng(seed)
    said = rng.uniform(0.05, 0.95, count).tolist()
    right = [bool(rng.random() < calibrated(c, scale, shift)) for c in said]
    starts = (0.12 + 0.05 * rng.standard_normal(count)).tolist()
    return WordScores(starts, said, right)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.6, -0.9), (1.7, 0.4)])
def test_the_map_behind_the_truth_is_found(scale: float, shift: float) -> None:
    one, other = drawn(scale, shift, 6000, 0), drawn(scale, shift, 6000, 1)
    found = fit(one, other)
    assert found.scale == pytest.approx(scale, abs=0.12)
    assert found.shift == pytest.approx(shift, abs=0.12)
    assert found.offset_ms == pytest.approx(-120, abs=5)
    assert found.error_after < 0.03
    if (scale, shift) != (1.0, 0.0):
        assert found.error_before > 0.06


def test_what_is_all_right_or_too_little_is_not_fitted() -> None:
    with pytest.raises(TextError, match="needs 50 words in each half"):
        fit(drawn(1, 0, 49, 0), drawn(1, 0, 100, 1))
    with pytest.raises(TextError, match="some right and some wrong"):
        fit(WordScores([], [0.5] * 60, [True] * 60), drawn(1, 0, 100, 1))
    scale, shift = fit_logistic([0.9] * 60, [True] * 60)
    assert np.isfinite([scale, shift]).all()


def test_a_model_without_notes_keeps_its_confidences() -> None:
    assert word_calibration(small().tokenizer) == (1.0, 0.0)
    assert calibrated(0.37, 1.0, 0.0) == 0.37
    assert calibrated(1.0, 0.5, 0.0) < 1.0
    assert 0 <= calibrated(0.0, 2.0, -1.0) < 1e-6
    audio = {**small().tokenizer.audio, "confidence_scale_shift": [0.5, -1]}
    assert word_calibration(replace(small().tokenizer, audio=audio)) == (0.5, -1.0)
    audio["confidence_scale_shift"] = "loud"
    assert word_calibration(replace(small().tokenizer, audio=audio)) == (1.0, 0.0)


def test_words_are_told_with_the_calibrated_confidence() -> None:
    words = Words(calibration=(0.5, -1.0))
    words.mark(0.5, np.log(0.8))
    words.write(" hello", 0.6, np.log(0.8))
    words.finish()
    assert words.all[0].confidence == pytest.approx(calibrated(0.8, 0.5, -1.0))


def test_a_model_folder_is_measured_and_its_notes_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_native(small().model, small().tokenizer, tmp_path / "model")
    asr = ASR.load(tmp_path / "model")
    rows: list[dict[str, Any]] = []
    for index in range(4):
        sf.write(tmp_path / f"{index}.wav", waveform(3.0, index), 16000, subtype="FLOAT")
        heard = asr.transcribe(tmp_path / f"{index}.wav").text.split()
        # Every other word is right.
        text = " ".join(word if n % 2 else f"x{n}" for n, word in enumerate(heard)) or "x"
        rows.append({"id": str(index), "path": f"{index}.wav", "text": text, "speaker": f"s{index}"})
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(calibration, "FEWEST_WORDS", 1)
    monkeypatch.setattr(calibration, "fit", lambda one, other: calibration.Calibration(0.5, -1, 40, 9, 1, 0))
    said: list[str] = []
    calibrate(tmp_path / "model", tmp_path, slots=2, say=said.append)
    assert "scale 0.500" in said[-1]
    written = Tekken.load(tmp_path / "model" / "tekken.json")
    assert word_calibration(written) == (0.5, -1.0)
    assert word_offset(written) == 0.04
    assert written.pieces == small().tokenizer.pieces


def test_a_fit_far_from_its_start_converges() -> None:
    """Confidences near one that say little: whole Newton steps would run away."""
    rng = np.random.default_rng(0)
    confidences = [*rng.uniform(0.9, 0.9999, 500), *rng.uniform(0.0001, 0.01, 20)]
    right = [*(rng.random(500) < 0.6), *(rng.random(20) < 0.4)]
    scale, shift = fit_logistic(confidences, [bool(x) for x in right])
    assert 0 < scale < 0.3
    assert abs(shift) < 0.5
    for confidence in (0.0, 1e-4, 0.5, 0.9999, 1.0):
        assert 0.2 < calibrated(confidence, scale, shift) < 0.8
    assert calibrated(1.0, 1e6, 0.0) == 1.0
