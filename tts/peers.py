"""Other programs that speak: rows to compare with. Optional, never needed by the product."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..audio import read_audio
from ..codec.config import SAMPLE_RATE

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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        command = ["flite", "-voice", "slt", "-o", str(path), "-t", text]
        subprocess.run(command, capture_output=True, check=True, timeout=SECONDS)
        return read_audio(path, rate=SAMPLE_RATE).samples
