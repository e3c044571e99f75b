"""The microphone as a stream of blocks, by miniaudio: ALSA, PulseAudio or JACK, found at run time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, cast

import miniaudio
import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError

# Audio that may wait while the model catches up; older audio is then lost, and that is an error.
LONGEST_WAIT_SECONDS = 30


def microphone(
    rate: int,
    stopped: threading.Event,
    block_ms: int = 80,
    backends: list[miniaudio.Backend] | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Blocks of float32 mono from the default microphone, until `stopped` is set.

    Args:
        rate: samples per second; the system resamples if its microphone has another.
        stopped: ends the stream within a fifth of a second.
        block_ms: about how long a block is; the system decides.
        backends: audio systems to try; all if None, and then a null device is refused.

    Raises:
        AudioError: there is no microphone, or its audio was not taken in time.
    """
    if backends is None:
        refuse_null_device()
    blocks: queue.Queue[bytes] = queue.Queue(maxsize=LONGEST_WAIT_SECONDS * 1000 // block_ms)
    lost = threading.Event()

    def take() -> Generator[None, bytes, None]:
        # Runs in the audio system's thread: no waiting, no numpy.
        data = yield
        while True:
            try:
                blocks.put_nowait(bytes(data))
            except queue.Full:
                lost.set()
            data = yield

    try:
        device = miniaudio.CaptureDevice(
            miniaudio.SampleFormat.FLOAT32, 1, rate, buffersize_msec=block_ms, backends=backends
        )
    except miniaudio.MiniaudioError as error:
        raise AudioError(f"no microphone can be opened ({error})") from error
    taker = take()
    next(taker)
    with device:
        device.start(cast(Any, taker))
        while not stopped.is_set():
            if lost.is_set():
                raise AudioError(
                    f"the model is too slow for this machine: {LONGEST_WAIT_SECONDS} s of speech are waiting"
                )
            try:
                yield np.frombuffer(blocks.get(timeout=0.1), np.float32)
            except queue.Empty:
                continue


def refuse_null_device(loudspeaker: bool = False) -> None:
    """Say so if this machine has no microphone, or no loudspeaker, but only a device that does nothing.

    Raises:
        AudioError: no audio system, or only null devices.
    """
    try:
        devices = miniaudio.Devices()
        found = devices.get_playbacks() if loudspeaker else devices.get_captures()
        names = [str(device["name"]) for device in found]
    except miniaudio.MiniaudioError as error:
        instead = "name one with -o" if loudspeaker else "give a FILE"
        raise AudioError(f"no audio system was found ({error}); {instead} instead") from error
    if devices.backend == "Null" or all(_is_null(name) for name in names):
        if loudspeaker:
            raise AudioError("no loudspeaker here, only a null device; write a file: say -o, clone --wav")
        raise AudioError("no microphone here, only a null device that records silence; give a FILE instead")


def _is_null(name: str) -> bool:
    # ALSA's null device calls itself "Discard all samples (playback) or generate zero samples (capture)".
    return "null" in name.lower() or "zero samples" in name.lower()
