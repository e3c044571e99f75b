"""Vectors of the words that are said in a folder of sounds, and when: what a text teacher has to say.

Beside the files of `sounds.py`: `text_vectors.npy` (float16 [words, width]) and `text.jsonl`, one object a
clip: `id`, `first` (row of its first word) and `spans` (start and end of each word in 20 ms frames).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .sounds import STEP, Sound

FRAME = 4  # 20 ms frames in one of the codec


class Texts:
    """What `rillvox train text` wrote.

    Raises:
        ConfigError: the folder holds none.
    """

    def __init__(self, folder: Path | str) -> None:
        folder = Path(folder)
        try:
            self.vectors: NDArray[np.float16] = np.load(folder / "text_vectors.npy", mmap_mode="r")
            lines = (folder / "text.jsonl").read_text().splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{folder}: no words of a text teacher here; make them with `rillvox train text`"
            ) from error
        self.clips: dict[str, tuple[int, list[list[int]]]] = {}
        for line in lines:
            row = json.loads(line)
            self.clips[row["id"]] = row["first"], row["spans"]

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.vectors.shape[1]

    def crop(self, clip: Sound, begin: int, frames: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """What is said in the middle of each of `frames` 80 ms frames from sample `begin`.

        Returns:
            The words' vectors [frames, width] and numbers [frames]; 0 and -1 where none is said.
        """
        vectors = np.zeros((frames, self.width), np.float32)
        words = np.full(frames, -1, np.int64)
        first, spans = self.clips.get(clip.id, (0, []))
        middles = begin // STEP + FRAME // 2 + FRAME * np.arange(frames)
        for number, (start, end) in enumerate(spans):
            inside = (middles >= start) & (middles < end)
            if inside.any():
                vectors[inside] = self.vectors[first + number]
                words[inside] = number
        return vectors, words


def write_texts(folder: Path, clips: list[tuple[str, list[list[int]]]], vectors: NDArray[np.float16]) -> None:
    """Write both files; each is moved there when it is whole.

    Args:
        clips: id and word spans, in the order of the vectors [words of all clips, width].
    """
    with (folder / "text_vectors.tmp").open("wb") as file:
        np.save(file, vectors)
    first = 0
    lines: list[str] = []
    for name, spans in clips:
        lines.append(json.dumps({"id": name, "first": first, "spans": spans}))
        first += len(spans)
    (folder / "text.tmp").write_text("\n".join(lines) + "\n")
    (folder / "text_vectors.tmp").replace(folder / "text_vectors.npy")
    (folder / "text.tmp").replace(folder / "text.jsonl")
