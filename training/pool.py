"""Prepared speech: every clip decoded once to 16 kHz int16, with word and phone times.

A pool is a folder: `pcm.npy` (one long int16 array, memory-mapped) and `clips.jsonl` (one line a
clip). Clips whose transcript the aligner doubts are kept and marked by their score; readers
choose a threshold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

RATE = 16000
HELD_OUT = ("human_dev", "wideband_dev")  # never trained on, whatever a pool holds


@dataclass(frozen=True)
class Clip:
    """One utterance. Spans are in 20 ms frames from the start of the clip, end exclusive."""

    id: str
    corpus: str
    speaker: str
    offset: int
    samples: int
    words: tuple[str, ...] = ()
    phones: tuple[int, ...] = ()  # 1..39
    phones_per_word: tuple[int, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    score: float = float("-inf")  # mean log-probability of a phone on the best path

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / RATE


class Pool:
    """Clips and their samples."""

    def __init__(self, clips: Sequence[Clip], pcm: NDArray[np.int16]) -> None:
        self.clips = list(clips)
        self.pcm = pcm

    @classmethod
    def open(cls, folder: str | Path) -> Pool:
        """Map a prepared folder.

        Raises:
            ConfigError: the folder holds no pool.
        """
        folder = Path(folder)
        try:
            pcm = np.load(folder / "pcm.npy", mmap_mode="r")
            rows = [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{folder}: no prepared pool here; make one with `rillvox train prepare`"
            ) from error
        clips = [
            Clip(
                **{
                    **row,
                    "words": tuple(row["words"]),
                    "phones": tuple(row["phones"]),
                    "phones_per_word": tuple(row["phones_per_word"]),
                    "spans": tuple((int(a), int(b)) for a, b in row["spans"]),
                }
            )
            for row in rows
        ]
        return cls(clips, pcm)

    def samples(self, clip: Clip) -> NDArray[np.float32]:
        """float32 samples in [-1, 1]."""
        return self.pcm[clip.offset : clip.offset + clip.samples].astype(np.float32) / 32768.0

    def training(self, min_score: float = -3.0) -> list[Clip]:
        """Aligned clips fit for training; the development sets are never among them."""
        return [
            clip
            for clip in self.clips
            if clip.corpus not in HELD_OUT and clip.spans and clip.score >= min_score
        ]


def write_pool(folder: str | Path, clips: Iterable[tuple[Clip, NDArray[np.int16]]]) -> Pool:
    """Write clips (their offsets are set here) atomically and map them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    placed: list[Clip] = []
    parts: list[NDArray[np.int16]] = []
    offset = 0
    for clip, pcm in clips:
        placed.append(Clip(**{**clip.__dict__, "offset": offset, "samples": len(pcm)}))
        parts.append(pcm)
        offset += len(pcm)
    if not parts:
        raise ConfigError("no clips: nothing to write a pool from")
    with (folder / "pcm.tmp").open("wb") as sink:
        np.save(sink, np.concatenate(parts))
    (folder / "clips.tmp").write_text("".join(json.dumps(clip.__dict__) + "\n" for clip in placed))
    (folder / "pcm.tmp").replace(folder / "pcm.npy")
    (folder / "clips.tmp").replace(folder / "clips.jsonl")
    return Pool.open(folder)
