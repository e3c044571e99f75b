"""Speech for a codec: clips at 24 kHz, their pitch, and every 20 ms the teacher's code of a frame from there.

A folder: `pcm.npy` (one long int16 array, memory-mapped), `clips.jsonl`, `ids.npy` (int16, 50 a second of
each clip, -1 where no frame begins any more), `pitch.npy` (float16, Hz, 100 a second, 0 where no voice is)
and `codebook.safetensors` (`entries` [codes, dim], and how frames come to them; `codec/naming.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from ..audio import set_level
from ..errors import ConfigError
from .pool import HELD_OUT

RATE = 24000
STEP = 480  # samples between two codes of the teacher
LEVEL_DBFS = -24.0  # of every clip
PITCH_STEP = 240  # samples between two pitches


@dataclass(frozen=True)
class Sound:
    """A clip. `native` is the rate it came with: above half of it there is nothing to hear."""

    id: str
    corpus: str
    speaker: str
    native: int
    offset: int
    samples: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / RATE


class Sounds:
    """A prepared folder.

    Raises:
        ConfigError: the folder holds none.
    """

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        try:
            self.pcm: NDArray[np.int16] = np.load(folder / "pcm.npy", mmap_mode="r")
            self.ids: NDArray[np.int16] = np.load(folder / "ids.npy", mmap_mode="r")
            self.pitch: NDArray[np.float16] = np.load(folder / "pitch.npy", mmap_mode="r")
            lines = (folder / "clips.jsonl").read_text().splitlines()
            self.codebook: Tensor = load_file(str(folder / "codebook.safetensors"))["entries"]
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(
                f"{folder}: no speech for a codec here; make it with `rillvox train sounds`"
            ) from error
        self.clips = [Sound(**json.loads(line)) for line in lines]

    def samples(self, clip: Sound, begin: int = 0, count: int | None = None) -> NDArray[np.float32]:
        """float32 samples in [-1, 1]."""
        end = clip.samples if count is None else min(clip.samples, begin + count)
        return self.pcm[clip.offset + begin : clip.offset + end].astype(np.float32) / 32768.0

    def codes(self, clip: Sound, begin: int, frames: int) -> NDArray[np.int64]:
        """The teacher's codes of `frames` 80 ms frames from sample `begin`, a multiple of 480; -1 unknown."""
        first = (clip.offset + begin) // STEP
        last = (clip.offset + clip.samples) // STEP
        at = first + 4 * np.arange(frames)
        return np.where(at < last, self.ids[np.minimum(at, len(self.ids) - 1)], -1).astype(np.int64)

    def hertz(self, clip: Sound, begin: int, count: int, speed: float = 1.0) -> NDArray[np.float32]:
        """Pitch at the ends of `count` positions of 10 ms from sample `begin`, at so many times the speed."""
        at = np.rint(begin / PITCH_STEP + speed * np.arange(1, count + 1)).astype(np.int64)
        known = at < clip.samples // PITCH_STEP
        values = self.pitch[clip.offset // PITCH_STEP + np.where(known, at, 0)].astype(np.float32)
        return np.where(known, values * speed, 0).astype(np.float32)

    def training(self) -> list[Sound]:
        """Clips that may be trained on."""
        return [clip for clip in self.clips if clip.corpus not in HELD_OUT]


def levelled(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """A recording at 24 kHz as a folder keeps it: at one loudness, a whole number of steps."""
    wave = set_level(wave, LEVEL_DBFS)
    return wave[: len(wave) // STEP * STEP]


def as_pcm(wave: NDArray[np.float32]) -> NDArray[np.int16]:
    """The same in 16 bits."""
    return np.rint(np.clip(wave, -1, 1) * 32767).astype(np.int16)


def write_sounds(
    folder: Path,
    clips: Sequence[Sound],
    pcm: NDArray[np.int16],
    ids: NDArray[np.int16],
    codebook: Tensor | Mapping[str, Tensor],
) -> None:
    """Write a folder, pitches included; every file is moved there when it is whole.

    Args:
        codebook: its entries [codes, dim], or they and all else that names a frame.

    Raises:
        ConfigError: a clip that is no whole number of `STEP` samples.
    """
    from safetensors.torch import save_file

    from .pitch import pitch

    found = np.zeros(len(pcm) // PITCH_STEP, np.float16)
    for clip in clips:
        if clip.offset % STEP or clip.samples % STEP:
            raise ConfigError(f"{clip.id}: clips begin and end at multiples of {STEP} samples")
        wave = pcm[clip.offset : clip.offset + clip.samples].astype(np.float32) / np.float32(32768)
        begin, count = clip.offset // PITCH_STEP, clip.samples // PITCH_STEP
        found[begin : begin + count] = pitch(wave)[:count]

    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("pcm", pcm), ("ids", ids), ("pitch", found)):
        with (folder / f"{name}.tmp").open("wb") as file:
            np.save(file, array)
    (folder / "clips.tmp").write_text("".join(json.dumps(asdict(clip)) + "\n" for clip in clips))
    kept = {"entries": codebook.contiguous()} if isinstance(codebook, Tensor) else dict(codebook)
    save_file(kept, folder / "codebook.tmp")
    for name, kind in (
        ("pcm", "npy"),
        ("ids", "npy"),
        ("pitch", "npy"),
        ("codebook", "safetensors"),
        ("clips", "jsonl"),
    ):
        (folder / f"{name}.tmp").replace(folder / f"{name}.{kind}")
