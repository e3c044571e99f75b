"""Opus beside our codec, on the same recordings, with its payload bits counted."""

from __future__ import annotations

import io
from importlib import import_module, util
from typing import Any

import numpy as np

from .config import SAMPLE_RATE
from .measures import Wave


def has_opus() -> bool:
    """Whether PyAV, which brings libopus, is installed (extra `media`)."""
    return util.find_spec("av") is not None


def opus(wave: Wave, bits_per_second: int) -> tuple[Wave, int]:
    """The recording through Opus, 20 ms frames at a mean rate, and the bits of its packets.

    Only what the packets hold is counted, not the Ogg pages around them.
    """
    av: Any = import_module("av")
    sink = io.BytesIO()
    bits = 0
    with av.open(sink, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE)
        stream.layout = "mono"
        stream.bit_rate = bits_per_second
        stream.options = {
            "application": "voip",
            "frame_duration": "20",
            "vbr": "on",
            "compression_level": "10",
        }
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            bits += 8 * packet.size
            container.mux(packet)
    sink.seek(0)
    with av.open(sink) as container:
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        parts = [
            out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)
        ]
        parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
    return np.concatenate(parts).astype(np.float32), bits
