"""The microphone, on the null device that every machine has."""

from __future__ import annotations

import threading
from typing import Any

import miniaudio
import numpy as np
import pytest

import rillvox.commands.microphone as microphone_module
from rillvox import AudioError
from rillvox.commands.microphone import microphone, refuse_null_device

NULL = [miniaudio.Backend.NULL]


def test_blocks_come_until_told_to_stop() -> None:
    stopped = threading.Event()
    taken = []
    for block in microphone(16000, stopped, block_ms=20, backends=NULL):
        taken.append(block)
        if len(taken) == 5:
            stopped.set()
    assert len(taken) == 5
    assert all(block.dtype == np.float32 and len(block) for block in taken)


def test_audio_that_nobody_takes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone_module, "LONGEST_WAIT_SECONDS", 0.04)
    stopped = threading.Event()
    blocks = microphone(16000, stopped, block_ms=20, backends=NULL)
    next(blocks)
    stopped.wait(0.3)
    with pytest.raises(AudioError, match="too slow"):
        next(blocks)


class Devices:
    def __init__(self, backend: str, names: list[str]) -> None:
        self.backend = backend
        self._names = names

    def get_captures(self) -> list[dict[str, Any]]:
        return [{"name": name} for name in self._names]


@pytest.mark.parametrize(
    ("backend", "names", "refused"),
    [
        ("Null", ["NULL Capture Device"], True),
        ("ALSA", ["Discard all samples (playback) or generate zero samples (capture)"], True),
        ("ALSA", [], True),
        ("PulseAudio", ["Built-in Audio Analog Stereo"], False),
        ("ALSA", ["Discard all samples (playback) or generate zero samples (capture)", "USB Mic"], False),
    ],
)
def test_a_machine_without_a_microphone_is_told_so(
    backend: str, names: list[str], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(miniaudio, "Devices", lambda: Devices(backend, names))
    if refused:
        with pytest.raises(AudioError, match="give a FILE"):
            refuse_null_device()
    else:
        refuse_null_device()


def test_no_audio_system_at_all_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise miniaudio.MiniaudioError("cannot init context")

    monkeypatch.setattr(miniaudio, "Devices", fail)
    with pytest.raises(AudioError, match="no audio system"):
        refuse_null_device()
