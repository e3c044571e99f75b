"""Noise clips and room responses for augmentation, from a folder with a `manifest.jsonl`.

One JSON object a line: `file` (relative to the folder), `kind` (`background`, `event` or `rir`), `cls`, and
`fold` for noises or `direct_index` for room responses. What tests are made of never enters training:
noises of fold 5, and the highest-numbered quarter of each class of rooms.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio import read_audio
from ..errors import ConfigError

RATE = 16000
TEST_FOLD = 5

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Noise:
    """A noise: one that may be looped (`background`), or one that happens (`event`)."""

    file: str
    looped: bool
    fold: int


@dataclass(frozen=True)
class Room:
    """A room's impulse response; `direct_index` is the sample at which the direct sound arrives."""

    file: str
    kind: str
    direct_index: int


class Noises:
    """The noises and rooms of a folder, for training or, with `held_out`, for tests.

    Samples are read when first asked for and kept as 16-bit integers: 23 minutes take 45 MB.

    Raises:
        ConfigError: no manifest, a line that is neither noise nor room, or nothing left to draw from.
    """

    def __init__(self, folder: Path | str, held_out: bool = False) -> None:
        self.folder = Path(folder)
        noises, rooms = _read(self.folder / "manifest.jsonl")
        self.noises = [noise for noise in noises if (noise.fold == TEST_FOLD) is held_out]
        self.rooms = _part(rooms, held_out)
        if not self.noises and not self.rooms:
            raise ConfigError(f"{self.folder}: no noise and no room in this part of the manifest")
        self._kept: dict[str, NDArray[np.int16]] = {}

    def samples(self, item: Noise | Room) -> Samples:
        """The sound of a noise or a room's response, 16 kHz mono."""
        if item.file not in self._kept:
            audio = read_audio(self.folder / item.file, rate=RATE)
            self._kept[item.file] = np.round(np.clip(audio.samples, -1, 1) * 32767).astype(np.int16)
        return self._kept[item.file].astype(np.float32) / np.float32(32767)

    def draw_noise(self, length: int, generator: np.random.Generator) -> Samples | None:
        """A stretch of noise of `length` samples: a background looped from anywhere, or an event anywhere."""
        if not self.noises:
            return None
        noise = self.noises[int(generator.integers(len(self.noises)))]
        sound = self.samples(noise)
        if noise.looped:
            return np.resize(np.roll(sound, -int(generator.integers(len(sound)))), length)
        stretch = np.zeros(length, np.float32)
        start = int(generator.integers(max(1, length - len(sound) + 1)))
        part = sound[: length - start]
        stretch[start : start + len(part)] = part
        return stretch

    def draw_room(self, generator: np.random.Generator) -> tuple[Samples, int] | None:
        """A room's response and the index of its direct sound."""
        if not self.rooms:
            return None
        room = self.rooms[int(generator.integers(len(self.rooms)))]
        return self.samples(room), room.direct_index


def _part(rooms: Sequence[Room], held_out: bool) -> list[Room]:
    classes: dict[str, list[Room]] = defaultdict(list)
    for room in sorted(rooms, key=lambda room: room.file):
        classes[room.kind].append(room)
    chosen: list[Room] = []
    for members in classes.values():
        cut = len(members) - math.ceil(len(members) / 4)
        chosen += members[cut:] if held_out else members[:cut]
    return chosen


def _read(path: Path) -> tuple[list[Noise], list[Room]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read the noise manifest {path}: {error.strerror}") from error
    noises: list[Noise] = []
    rooms: list[Room] = []
    for number, line in enumerate(lines, 1):
        try:
            entry: dict[str, Any] = json.loads(line)
            kind = entry["kind"]
            if kind == "rir":
                rooms.append(Room(entry["file"], entry["cls"], int(entry["direct_index"])))
            elif kind in ("background", "event"):
                noises.append(Noise(entry["file"], kind == "background", int(entry["fold"])))
            else:
                raise ConfigError(f"{path}, line {number}: kind {kind!r} is not background, event or rir")
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{path}, line {number}: not a noise or a room: {error!r}") from error
    return noises, rooms
