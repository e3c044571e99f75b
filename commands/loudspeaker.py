"""The loudspeaker, fed block by block while more is spoken; by miniaudio, as the microphone."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from typing import Any, cast

import miniaudio
import numpy as np
from numpy.typing import NDArray

from ..codec.config import SAMPLE_RATE
from ..errors import AudioError
from .microphone import refuse_null_device

AHEAD = 0.24  # seconds that are kept back before anything sounds, so that speech doesn't break off


class Loudspeaker:
    """Plays what it is given, in order; silence where nothing has come. A context manager."""

    def __init__(self, backends: list[miniaudio.Backend] | None = None) -> None:
        if backends is None:
            refuse_null_device(loudspeaker=True)
        self._lock = threading.Lock()
        self._waiting = np.zeros(0, np.float32)
        self._playing = False
        try:
            self._device = miniaudio.PlaybackDevice(
                miniaudio.SampleFormat.FLOAT32, 1, SAMPLE_RATE, buffersize_msec=80, backends=backends
            )
        except miniaudio.MiniaudioError as error:
            raise AudioError(
                f"no loudspeaker can be opened ({error}); write a file with -o FILE.wav instead"
            ) from error

    def __enter__(self) -> Loudspeaker:
        source = self._blocks()
        next(source)
        self._device.start(cast("Any", source))
        return self

    def __exit__(self, *error: object) -> None:
        self._device.close()

    def play(self, samples: NDArray[np.float32]) -> None:
        """More sound, float32 mono at 24 kHz; returns at once."""
        with self._lock:
            self._waiting = np.concatenate([self._waiting, samples.astype(np.float32)])
            self._playing = self._playing or len(self._waiting) >= AHEAD * SAMPLE_RATE

    def drain(self) -> None:
        """Wait until all has been heard."""
        self._playing = True
        while len(self._waiting):
            time.sleep(0.02)
        time.sleep(0.2)  # what the device itself holds

    def _blocks(self) -> Generator[bytes, int, None]:
        wanted = yield b""
        while True:
            with self._lock:
                block = np.zeros(wanted, np.float32)
                if self._playing:
                    part = self._waiting[:wanted]
                    block[: len(part)] = part
                    self._waiting = self._waiting[len(part) :]
            wanted = yield block.tobytes()


def open_loudspeaker() -> Loudspeaker:
    """The default loudspeaker.

    Raises:
        AudioError: there is none.
    """
    return Loudspeaker()
