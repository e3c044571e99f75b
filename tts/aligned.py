"""Text as a stream beside the frames: at every frame the tokens around the one that is being said.

A pointer counts the tokens that have begun before the frame's end; it never goes back, so loops and
skips cannot happen, and when a word is said falls out for free. How far it moves next is predicted from
the hidden state of the frame before. After `training_codec_tts.md` 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .config import AlignedTextConfig


@dataclass
class Place:
    """Where in its text a frame is; int64 tensors of one leading shape."""

    tokens: Tensor  # [..., window], 0 outside of the text
    moved: Tensor  # [...], tokens that have begun in this frame
    age: Tensor  # [...], frames since one last began


class AlignedText(nn.Module):
    """What a frame of speech adds to its input, and the head that moves the pointer."""

    def __init__(self, config: AlignedTextConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.tokens, config.width)
        self.window = nn.Linear(config.window * config.width, dim, bias=False)
        self.moved = nn.Embedding(config.most + 1, dim)
        self.age = nn.Embedding(config.longest + 1, dim)
        self.begin = nn.Parameter(torch.zeros(dim))  # in place of a frame before the first one
        self.beside = nn.Parameter(torch.zeros(dim))  # added to the frames of a voice, which have no text
        self.advance = nn.Linear(dim, config.most + 1)

    def forward(self, place: Place) -> Tensor:
        """[..., dim] of places [...]."""
        around = self.embeddings(place.tokens).flatten(-2)
        age = place.age.clamp(max=self.config.longest)
        return self.window(around) + self.moved(place.moved) + self.age(age)


def windows(
    tokens: NDArray[np.int64], pointer: NDArray[np.int64], config: AlignedTextConfig
) -> NDArray[np.int64]:
    """Tokens around the last begun one, [frames, window], of tokens [n] and pointers [frames]."""
    padded = np.concatenate([np.zeros(config.behind + 1, np.int64), tokens, np.zeros(config.ahead, np.int64)])
    return padded[pointer[:, None] + np.arange(config.window)]


def pointers(starts: NDArray[np.floating], frames: int, most: int) -> NDArray[np.int64]:
    """For every frame, the tokens that have begun before its end, at most `most` more with each one.

    Args:
        starts: when each token begins, in frames, not whole, in order.
    """
    counted = np.searchsorted(starts, np.arange(1, frames + 1), "left")
    found = np.empty(frames, np.int64)
    last = 0
    for frame in range(frames):
        last = min(int(counted[frame]), last + most)
        found[frame] = last
    return found


def steps_of(pointer: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many tokens began in each frame, and for how many frames none has."""
    moved = np.diff(pointer, prepend=0)
    index = np.arange(len(pointer))
    latest = np.maximum.accumulate(np.where(moved > 0, index, 0))
    return moved, index - latest
