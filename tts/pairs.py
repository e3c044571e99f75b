"""Pairs for a speaker's preference stage: one text in one voice, spoken well and spoken badly.

A folder, made by `rillvox train pairs`: `plan.json` (what it was made with), `jobs.jsonl` (a line for every
text that was spoken, with the scores of all its takes) and a file `000123.npz` for every pair: `voice` (int16
[frames, 37]), `tokens` (int16 [n], `STOP` last), and of each take, `better_` and `worse_`, what `Take` holds.
Codes are stored as the codec gives them, without the ids that a speaker keeps for itself.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError
from .aligned import steps_of, windows
from .config import END, SPECIAL, TTSConfig
from .rows import SpeechBatch

LONGEST = 512  # positions of a take with its voice; longer pairs are left out
JUDGED = 10  # of so many pairs one is never drawn, but for fewer than twice as many


@dataclass(frozen=True)
class Take:
    """One way that a text was spoken."""

    codes: NDArray[np.int16]  # [frames, 37], semantic first, from 0
    moved: NDArray[np.int16]  # [frames + 1], tokens that began in each frame, and in the one after the last
    own: NDArray[np.bool_]  # [frames + 1, 2], whether code and next move were the model's choice, not forced
    ended: bool  # whether the frame after the last was the end; else the take was cut off


@dataclass(frozen=True)
class Pair:
    """A voice, a text, and two takes."""

    voice: NDArray[np.int16]  # [frames, 37]
    tokens: NDArray[np.int16]  # [n], `STOP` last
    better: Take
    worse: Take

    @property
    def positions(self) -> int:
        """That the longer take needs."""
        return len(self.voice) + 1 + max(len(self.better.codes), len(self.worse.codes))


@dataclass
class PairBatch(SpeechBatch):
    """Rows of ordinary speech, and beside them takes [2 pairs]: first all better ones, then all worse ones.

    In `takes`, `semantic` and `advance` are -1 where there was no choice, and `picked` is empty.
    """

    takes: SpeechBatch


def save_pair(path: Path, pair: Pair) -> None:
    """Write a pair, so that a reader finds all of it or nothing."""
    arrays: dict[str, NDArray[np.generic]] = {"voice": pair.voice, "tokens": pair.tokens}
    for name in ("better", "worse"):
        take: Take = getattr(pair, name)
        for field in fields(Take):
            arrays[f"{name}_{field.name}"] = np.asarray(getattr(take, field.name))
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    draft.replace(path)


def load_pair(path: Path) -> Pair:
    """Read a pair.

    Raises:
        ConfigError: the file is damaged, or no pair.
    """
    try:
        # Opened here: of what is no archive numpy leaves the file open.
        with path.open("rb") as file, np.load(file) as kept:
            takes = [
                Take(
                    kept[f"{name}_codes"],
                    kept[f"{name}_moved"],
                    kept[f"{name}_own"],
                    bool(kept[f"{name}_ended"]),
                )
                for name in ("better", "worse")
            ]
            pair = Pair(kept["voice"], kept["tokens"], *takes)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: is no pair, or damaged; delete it, or make the pairs anew") from error
    for take in takes:
        frames = len(take.codes)
        if not frames:
            raise ConfigError(f"{path}: a take that holds no sound")
        if take.moved.shape != (frames + 1,) or take.own.shape != (frames + 1, 2):
            raise ConfigError(
                f"{path}: moves of {len(take.moved) - 1} frames beside {frames} frames of codes"
            )
    return pair


class PairRows:
    """Draws pairs from a folder; `judged` are those that are kept out.

    Raises:
        ConfigError: there are none, or they are of a speaker of another shape.
    """

    def __init__(self, folder: Path, config: TTSConfig) -> None:
        assert config.text is not None
        self.text = config.text
        found = [load_pair(path) for path in sorted(folder.glob("*.npz"))]
        usable = [pair for pair in found if pair.positions <= LONGEST]
        self.judged = usable[::JUDGED] if len(usable) >= 2 * JUDGED else []
        self.pairs = [pair for index, pair in enumerate(usable) if index % JUDGED or not self.judged]
        if not self.pairs:
            longer = f"; {len(found)} are longer than {LONGEST} frames" if found else ""
            raise ConfigError(f"{folder}: no pairs here; make some with `rillvox train pairs`{longer}")
        sizes = np.array(config.codec.alphabets)
        for pair in usable:
            for codes in (pair.voice, pair.better.codes, pair.worse.codes):
                if codes.shape[1] != len(sizes) or bool((codes >= sizes).any()) or bool((codes < 0).any()):
                    raise ConfigError(f"{folder}: these pairs are of another codec than the speaker's")
            most = max(int(take.moved.max()) for take in (pair.better, pair.worse))
            if int(pair.tokens.max()) >= self.text.tokens or most > self.text.most:
                raise ConfigError(f"{folder}: these pairs are of a speaker that reads other tokens")

    def __len__(self) -> int:
        """Pairs that are drawn."""
        return len(self.pairs)

    def draw(self, count: int, rng: np.random.Generator) -> SpeechBatch:
        """Takes of `count` pairs, no pair twice while there are so many; see `PairBatch`."""
        chosen = rng.choice(len(self.pairs), count, replace=count > len(self.pairs))
        return self.batch([self.pairs[int(index)] for index in chosen])

    def batch(self, pairs: Sequence[Pair]) -> SpeechBatch:
        """Takes of these pairs, as long as the longest; what is fed is what was spoken, undamaged."""
        rows = [(pair, pair.better) for pair in pairs] + [(pair, pair.worse) for pair in pairs]
        time = max(pair.positions for pair in pairs)
        width = pairs[0].voice.shape[1]
        shape = len(rows), time
        codes = np.zeros((*shape, width), np.int64)
        voice, first = np.zeros(shape, bool), np.zeros(shape, bool)
        tokens = np.zeros((*shape, self.text.window), np.int64)
        moved, age = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        semantic, advance = np.full(shape, -1), np.full(shape, -1)
        acoustic = np.zeros((*shape, width - 1), np.int64)
        for row, (pair, take) in enumerate(rows):
            start, frames = len(pair.voice), len(take.codes)
            codes[row, :start] = pair.voice + SPECIAL
            voice[row, :start] = True
            first[row, start] = True
            spoken = slice(start, start + frames + 1)
            codes[row, start + 1 : start + 1 + frames] = take.codes + SPECIAL
            pointer = take.moved.astype(np.int64).cumsum()
            tokens[row, spoken] = windows(pair.tokens.astype(np.int64), pointer, self.text)
            moved[row, spoken], age[row, spoken] = steps_of(pointer)
            acoustic[row, start : start + frames] = take.codes[:, 1:]
            said = np.append(take.codes[:, 0].astype(np.int64) + SPECIAL, END if take.ended else -1)
            semantic[row, spoken] = np.where(take.own[:, 0], said, -1)
            advance[row, start : start + frames] = np.where(take.own[:-1, 1], take.moved[1:], -1)
        nothing = np.zeros((len(rows), 0), np.int64)
        arrays = (codes, voice, first, tokens, moved, age, semantic, advance, acoustic, nothing)
        return SpeechBatch(*map(torch.as_tensor, arrays))


def with_takes(speech: SpeechBatch, takes: SpeechBatch) -> PairBatch:
    """Both in one batch."""
    parts: dict[str, Tensor] = {field.name: getattr(speech, field.name) for field in fields(SpeechBatch)}
    return PairBatch(**parts, takes=takes)
