"""A model's own bias in times and confidences, measured and noted in its tekken.json.

Two numbers turn the confidence that the scores give into the share of words that are right (Platt scaling),
one is added to every measured word end. Half of the speakers fit them, the other half tells how good they
are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, TextError
from ..tekken import Tekken
from ..training.manifests import Clip, Manifest
from ..training.normalize import normalize
from .conditions import with_times
from .delays import RATE
from .emission import word_times
from .hearing import Hearing, listen_many
from .stream import ASR
from .timing import WordScores
from .words import CONFIDENCE, OFFSET, calibrated, word_offset

FEWEST_WORDS = 50


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and the calibration error of the other half before and after."""

    scale: float
    shift: float
    offset_ms: float
    words: int
    error_before: float
    error_after: float


def calibrate(
    model: Path | str,
    manifest: Path | str,
    times: Path | str | None = None,
    delay_ms: int = 480,
    slots: int = 8,
    say: Callable[[str], None] = print,
) -> Calibration:
    """Measure a model folder on recordings with texts, and write what was found into its tekken.json.

    Args:
        times: word times of the clips, see `conditions.with_times`; without any the offset stays.

    Raises:
        TextError: too few words, or all of them right or wrong.
    """
    folder = Path(model)
    tokenizer = Tekken.load(folder / "tekken.json")
    kept = 1000 * word_offset(tokenizer)
    plain = replace(tokenizer, audio={**tokenizer.audio, CONFIDENCE: [1.0, 0.0], OFFSET: 0.0})
    asr = ASR(ASR.load(folder).model, plain)
    listed = Manifest(manifest, rate=RATE)
    clips = [clip for clip in listed.clips if clip.text is not None]
    if times is not None:
        clips = with_times(clips, times)
    samples = (listed.load(clip).resample(RATE).samples for clip in clips)
    heard: dict[int, Hearing] = {}
    for index, hearing in listen_many(asr.batch(slots), samples, delay_ms):
        heard[index] = hearing
        if len(heard) % 20 == 0:
            say(f"{len(heard)} of {len(clips)} clips")
    halves = (WordScores(), WordScores())
    for half, index in _halves(clips):
        reference = normalize(clips[index].text or "")
        halves[half].add(heard[index], reference, word_times(clips[index], reference))
    fitted = fit(halves[0], halves[1])
    if fitted.offset_ms == 0.0:
        fitted = replace(fitted, offset_ms=kept)
    notes: dict[str, Any] = {
        CONFIDENCE: [round(fitted.scale, 4), round(fitted.shift, 4)],
        OFFSET: round(fitted.offset_ms),
    }
    replace(tokenizer, audio={**tokenizer.audio, **notes}).save(folder / "tekken.json")
    say(
        f"{fitted.words} words: scale {fitted.scale:.3f}, shift {fitted.shift:+.3f}, offset "
        f"{fitted.offset_ms:+.0f} ms; calibration error of the other half {fitted.error_before:.3f} before, "
        f"{fitted.error_after:.3f} after"
    )
    return fitted


def fit(one: WordScores, other: WordScores) -> Calibration:
    """Fit on one half, judge on the other."""
    if min(len(one.right), len(other.right)) < FEWEST_WORDS or len(set(one.right)) < 2:
        raise TextError(f"calibration needs {FEWEST_WORDS} words in each half, some right and some wrong")
    scale, shift = fit_logistic(one.confidences, one.right)
    after = replace(other, confidences=[calibrated(c, scale, shift) for c in other.confidences])
    offset = -1000 * float(np.median(one.starts)) if one.starts else 0.0
    return Calibration(scale, shift, offset, len(one.right), _error(other), _error(after))


def fit_logistic(confidences: Sequence[float], right: Sequence[bool]) -> tuple[float, float]:
    """(scale, shift) for which sigmoid(scale logit(c) + shift) is likeliest, by Newton's method."""
    c = np.clip(np.asarray(confidences, np.float64), 1e-4, 1 - 1e-4)
    x = np.stack([np.log(c / (1 - c)), np.ones_like(c)], axis=1)
    y = np.asarray(right, np.float64)
    weights: NDArray[np.float64] = np.array([1.0, 0.0])

    def loss(w: NDArray[np.float64]) -> float:
        # A little pull towards no change keeps it finite where all is right or wrong.
        pull = 5e-3 * float(np.square(w - [1.0, 0.0]).sum())
        return float(np.logaddexp(0, x @ w).sum() - y @ (x @ w)) + pull

    for _ in range(50):
        p = np.exp(-np.logaddexp(0, -x @ weights))
        slope = x.T @ (p - y) + 1e-2 * (weights - [1.0, 0.0])
        curve = (x * (p * (1 - p))[:, None]).T @ x + 1e-2 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        # Far from the optimum a whole step may lead further away.
        while loss(weights - step) > loss(weights) and float(np.abs(step).max()) > 1e-9:
            step = step / 2
        weights = weights - step
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def _error(scores: WordScores) -> float:
    return float(scores.report()["confidence"]["error"])


def _halves(clips: Sequence[Clip]) -> list[tuple[int, int]]:
    """(0 or 1, index) of every clip: speakers in turn; where there is one speaker only, clips in turn."""
    speakers = sorted({clip.speaker for clip in clips})
    if not clips:
        raise ConfigError("no clip has a text")
    if len(speakers) < 2:
        return [(index % 2, index) for index in range(len(clips))]
    turn = {speaker: index % 2 for index, speaker in enumerate(speakers)}
    return [(turn[clip.speaker], index) for index, clip in enumerate(clips)]
