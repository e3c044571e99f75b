"""Recordings as blocks at 16 kHz, whatever they come as."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import numpy as np

from ..audio import Audio, Samples, Source, open_audio
from ..errors import AudioError, ConfigError
from .delays import RATE

_BLOCK_SAMPLES = 10 * RATE


def blocks_of(
    audio: Audio | Source, on_damage: Callable[[AudioError], None] | None = None
) -> Iterator[Samples]:
    """Float32 mono blocks [n] at 16 kHz, of ten seconds at most.

    Args:
        audio: a path, a binary file, or samples with their rate.
        on_damage: told why a file breaks off, which then counts as its end. Without it, and where nothing
            could be read, the error is raised.

    Raises:
        AudioError: it cannot be read. The iterator raises it for later damage.
    """
    if isinstance(audio, Audio):
        samples = audio.resample(RATE).samples
        return (samples[i : i + _BLOCK_SAMPLES] for i in range(0, len(samples), _BLOCK_SAMPLES))
    blocks = open_audio(audio, RATE)
    return blocks if on_damage is None else _until_damage(blocks, on_damage)


def refuse_single(recordings: object) -> None:
    """Refuse one recording where several are expected.

    Raises:
        ConfigError: it is one; a string is letters to a loop, a file its lines, and an array its numbers.
    """
    if isinstance(recordings, str | bytes | Path | Audio | np.ndarray) or hasattr(recordings, "read"):
        kind = type(cast(object, recordings)).__name__
        raise ConfigError(f"transcribe_many takes a list of recordings, got one {kind}; use [recording]")


def _until_damage(blocks: Iterator[Samples], tell: Callable[[AudioError], None]) -> Iterator[Samples]:
    heard = False
    try:
        for block in blocks:
            heard = True
            yield block
    except AudioError as error:
        if not heard:
            raise
        tell(error)
