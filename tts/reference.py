"""A reference recording made ready for cloning: length, rate, loudness, pauses, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..audio import Audio, set_level
from ..codec.config import SAMPLE_RATE as RATE
from ..errors import VoiceError

SHORTEST, LONGEST = 3.0, 30.0  # seconds of a reference
LEAST_SPEECH = 1.5  # seconds of it that are speech
LEVEL_DBFS = -24.0  # of speech, as the models learned it
HOP = 240  # samples, 10 ms
EDGE = 0.2  # seconds of quiet that stay on each side
QUIET_DB = 30.0  # below the loud parts: no speech
BROKEN = 1.5  # seconds of speech that a reference is rather without than with a word cut at its edge
NOISY_DB = 20.0  # between speech and what is under it

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """24 kHz mono at the level that the models learned with, cut at pauses, and warnings about it."""

    samples: Samples
    seconds_given: float
    warnings: list[str] = field(default_factory=list[str])


def prepare_reference(audio: Audio, most: float) -> Reference:
    """Make a recording ready.

    Args:
        most: seconds of it that a voice takes; the stretch with most speech is chosen, cut at pauses.

    Raises:
        VoiceError: shorter than 3 s, longer than 30 s, or hardly any speech.
    """
    given = audio.seconds
    if not SHORTEST <= given <= LONGEST:
        raise VoiceError(
            f"the reference is {given:.1f} s long; give {SHORTEST:g} to {LONGEST:g} s of one person speaking"
        )
    wave = audio.resample(RATE).samples
    wave = wave - wave.mean(dtype=np.float64).astype(np.float32)
    warnings: list[str] = []
    if (np.abs(wave) > 0.995).mean() > 1e-4:
        warnings.append("the reference is clipped; record it at a lower level")
    level = levels(wave)
    loud = float(np.percentile(level, 95))
    speech = level > loud - QUIET_DB
    if loud < -60 or speech.sum() * HOP / RATE < LEAST_SPEECH:
        raise VoiceError(
            f"the reference holds less than {LEAST_SPEECH:g} s of speech; record it closer or louder"
        )
    floor = float(np.percentile(level, 5))
    if loud - floor < NOISY_DB:
        warnings.append(
            f"the reference is noisy: speech is only {loud - floor:.0f} dB above what is under it; "
            "the voice will carry the noise along"
        )
    begin, end = _stretch(level, speech, most)
    cut = wave[begin * HOP : end * HOP]
    return Reference(set_level(cut, LEVEL_DBFS), given, warnings)


def levels(wave: Samples) -> NDArray[np.float64]:
    """dBFS of every 10 ms."""
    frames = wave[: len(wave) // HOP * HOP].reshape(-1, HOP).astype(np.float64)
    return 10 * np.log10(np.square(frames).mean(1) + 1e-10)


def _stretch(level: NDArray[np.float64], speech: NDArray[np.bool_], most: float) -> tuple[int, int]:
    """First and last 10 ms of the best stretch: speech from edge to edge, at most `most` seconds."""
    edge, room = round(EDGE * RATE / HOP), round(most * RATE / HOP)
    places = np.flatnonzero(speech)
    first, last = max(0, int(places[0]) - edge), min(len(level), int(places[-1]) + 1 + edge)
    if last - first <= room:
        return first, last
    # Where it may be cut: in the quietest 10 ms of every half second, which stay on both sides.
    step = 50
    quiet = [begin + int(np.argmin(level[begin : begin + step])) for begin in range(first, last - step, step)]
    begins, ends = [first, *quiet], [*(place + 1 for place in quiet), last]
    spoken = np.concatenate([[0], np.cumsum(speech)])
    best = (first, first + room)
    score = -np.inf
    for begin in begins:
        for end in ends:
            if not begin < end <= begin + room:
                continue
            # Speech counts, quiet at the two cuts, and most that no word is cut.
            broken = int(speech[begin]) + int(speech[end - 1])
            found = float(spoken[end] - spoken[begin]) - 0.5 * float(level[begin] + level[end - 1])
            found -= broken * BROKEN * RATE / HOP
            if found > score:
                best, score = (begin, end), found
    return best
