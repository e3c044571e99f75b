"""Other programs that speak: rows to compare with. Optional, never needed by the product."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..audio import Audio, read_audio
from ..codec.config import SAMPLE_RATE
from ..errors import AudioError, ConfigError

Speak = Callable[[str], NDArray[np.float32]]
SECONDS = 120.0  # that a sentence may take


def installed_speakers() -> dict[str, Speak]:
    """The programs that are there, by name."""
    found: dict[str, Speak] = {}
    if shutil.which("espeak-ng"):
        found["espeak-ng"] = _espeak
    if shutil.which("flite"):
        found["flite (slt)"] = _flite
    return found


def _espeak(text: str) -> NDArray[np.float32]:
    done = subprocess.run(
        ["espeak-ng", "--stdout", "--", text], capture_output=True, check=True, timeout=SECONDS
    )
    return read_audio(io.BytesIO(done.stdout), rate=SAMPLE_RATE).samples


def _flite(text: str) -> NDArray[np.float32]:
    return flite(text, "slt").resample(SAMPLE_RATE).samples


def flite(text: str, voice: str) -> Audio:
    """A text in one of flite's voices, at the rate that it has.

    Raises:
        ConfigError: flite is not installed, fails, or has no such voice.
    """
    if voice not in flite_voices():  # it would take another one without a word
        raise ConfigError(f"flite has no voice {voice}; there are {', '.join(flite_voices())}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        command = ["flite", "-voice", voice, "-o", str(path), "-t", text]
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=SECONDS)
            return read_audio(path)
        except (OSError, subprocess.SubprocessError, AudioError) as error:
            raise ConfigError(f"flite cannot say it with the voice {voice}: {error}") from error


@cache
def flite_voices() -> tuple[str, ...]:
    """The names of flite's voices.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        done = subprocess.run(["flite", "-lv"], capture_output=True, check=True, timeout=SECONDS, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"flite is not installed, or fails: {error}") from error
    return tuple(done.stdout.partition(":")[2].split())
