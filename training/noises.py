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
MAKERS = ("silence", "coloured", "recorded", "tonal")  # kinds of streams in which nobody speaks


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


def draw_quiet(length: int, noises: Noises | None, generator: np.random.Generator) -> Samples:
    """A stretch in which nobody speaks: near silence, coloured noise and hum, recorded noise, or tones.

    Its level is anything from 70 to 16 dB below full scale, mixed kinds included.
    """
    parts = [_make(length, noises, generator)]
    if generator.random() < 0.3:
        parts.append(_make(length, noises, generator) * np.float32(generator.uniform(0.1, 1.0)))
    x = np.sum(parts, axis=0, dtype=np.float32)
    level = 10 ** (float(generator.uniform(-70, -16)) / 20)
    return np.clip(x * np.float32(level / max(1e-4, float(x.std()))), -1, 1).astype(np.float32)


def _make(length: int, noises: Noises | None, generator: np.random.Generator) -> Samples:
    kind = str(generator.choice(MAKERS, p=[0.1, 0.2, 0.5, 0.2]))
    if kind == "recorded" and noises is not None:
        # Several events in a row, or one background.
        drawn = [noises.draw_noise(length, generator) for _ in range(int(generator.integers(1, 4)))]
        return sum((x for x in drawn if x is not None), np.zeros(length, np.float32))
    if kind == "tonal":
        return tones(length, generator)
    if kind == "silence":
        return generator.standard_normal(length, dtype=np.float32) * np.float32(1e-4)
    return coloured(length, generator)


def coloured(length: int, generator: np.random.Generator) -> Samples:
    """White, pink or brown noise with some mains hum in it."""
    white = generator.standard_normal(length).astype(np.float32)
    frequencies = np.maximum(np.fft.rfftfreq(length, 1 / RATE), 20.0)
    shape = frequencies ** -float(generator.choice([0.0, 0.5, 1.0]))
    x = np.fft.irfft(np.fft.rfft(white) * shape, length).astype(np.float32)
    hum = np.sin(2 * np.pi * float(generator.choice([50, 60, 120])) * np.arange(length) / RATE)
    return np.asarray(x + np.float32(x.std() * generator.uniform(0, 1)) * hum.astype(np.float32), np.float32)


def tones(length: int, generator: np.random.Generator) -> Samples:
    """Something like music: notes and chords of a few harmonics, one after another."""
    x = np.zeros(length, np.float32)
    tempo = float(generator.uniform(0.12, 0.9))
    brightness = float(generator.uniform(0.3, 0.9))
    at = 0
    while at < length:
        size = min(length - at, max(160, int(tempo * float(generator.choice([0.5, 1, 1, 2])) * RATE)))
        seconds = np.arange(size) / RATE
        fade = np.exp(-seconds * generator.uniform(0.5, 8)) * np.minimum(1, seconds / 0.01)
        for _ in range(int(generator.choice([0, 1, 1, 2, 3]))):
            pitch = 55.0 * 2 ** (int(generator.integers(0, 49)) / 12)
            for harmonic in range(1, int(generator.integers(2, 9))):
                if pitch * harmonic < 7500:
                    wave = np.sin(2 * np.pi * pitch * harmonic * seconds + generator.uniform(0, 6.3))
                    x[at : at + size] += (brightness**harmonic * fade * wave).astype(np.float32)
        at += size
    return x


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
