"""`rillvox bench codec`: milliseconds of an 80 ms frame, both ways, frame by frame on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..codec.config import SAMPLE_RATE, small_codec
from ..codec.model import CodecModel
from ..codec.stream import Codec
from ..errors import ConfigError
from ..streaming.bench import Table, header
from .bench import show

WARM = 3  # frames that are not counted: the first compile


def codec(model: str | None, seconds: float, output: Path | None) -> None:
    """Float32 and int8 weights in the same run; without a model, random weights of the default shape."""
    if not seconds > 0:
        raise ConfigError(f"--seconds must be above 0, got {seconds:g}")
    torch.set_num_threads(1)
    columns = ["weights", "encode, median ms", "decode, median ms", "times real time", "frames"]
    table = Table("bench codec", header(model or "random weights, default shape", 1), columns)
    kinds: tuple[Literal["float32", "int8"], ...] = ("float32", "int8")
    for weights in kinds:
        chosen = _random(weights) if model is None else Codec.load(model, weights=weights)
        table.rows.append([weights, *_measure(chosen, seconds)])
    table.notes.append("- each frame by itself, both ways; times real time by the two medians")
    show(table, output)


def _random(weights: str) -> Codec:
    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    chosen = Codec(CodecModel(small_codec()).eval().requires_grad_(False))
    if weights == "int8":
        _ = chosen.fingerprint
        chosen.model.pack()
    return chosen


def _measure(chosen: Codec, seconds: float) -> tuple[float, float, float, int]:
    frame = chosen.config.frame
    count = max(1, round(seconds * SAMPLE_RATE / frame)) + WARM
    rng = np.random.default_rng(0)
    ear, mouth = chosen.stream_encode(), chosen.stream_decode()
    heard: list[float] = []
    spoken: list[float] = []
    for _ in range(count):
        wave = (0.1 * rng.standard_normal(frame)).astype(np.float32)
        codes, took = _timed(ear.feed, wave)
        heard.append(took)
        spoken.append(_timed(mouth.feed, codes)[1])
    one, other = (1000 * float(np.median(times[WARM:])) for times in (heard, spoken))
    pace = 1000 * frame / SAMPLE_RATE / (one + other)
    return round(one, 2), round(other, 2), round(pace, 1), count - WARM


def _timed(function: Callable[[Any], Any], given: Any) -> tuple[Any, float]:
    begun = time.perf_counter()
    found = function(given)
    return found, time.perf_counter() - begun
