"""A small network from letters to phones, for words that no dictionary has.

Every letter gives `PER_LETTER` frames, each a phone or the blank of CTC; what is left without repeats and
blanks is said. CTC finds by itself which letter makes which phone, so nothing is aligned beforehand. After
each block but the last the network sees its own guess so far (Nozaki and Komatsu, arXiv 2104.02724): the
frames of CTC are drawn independently, and the guess is what lets neighbours agree.

Places are known from convolutions alone, so that a word may have any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from .tokens import PHONES

ALPHABET = "abcdefghijklmnopqrstuvwxyz'"
PER_LETTER = 2
CLASSES = len(PHONES) + 1  # 0 is the blank
WIDTH = 128
HEADS = 4
BLOCKS = 4
REACH = 7  # letters that a convolution sees
LONGEST = 64  # letters read at once; a longer word is read in pieces
_LEVELS = 127
_NUMBERS = {letter: number for number, letter in enumerate(ALPHABET, 1)}


class Block(nn.Module):
    """Neighbours, then all letters, then each letter by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.near_norm, self.far_norm, self.own_norm = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.near = nn.Conv1d(WIDTH, WIDTH, REACH, padding=REACH // 2, groups=WIDTH)
        self.asked = nn.Linear(WIDTH, 3 * WIDTH)
        self.far = nn.Linear(WIDTH, WIDTH)
        self.wide = nn.Linear(WIDTH, 4 * WIDTH)
        self.own = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor, real: Tensor, dropout: float) -> Tensor:
        """[words, letters, WIDTH] to the same; `real` [words, letters] is false where a word has ended."""
        mask = real[..., None]
        drop = dropout if self.training else 0.0
        near = self.near((self.near_norm(x) * mask).mT).mT
        x = x + F.dropout(F.gelu(near), drop)
        words, letters, _ = x.shape
        parts = self.asked(self.far_norm(x)).view(words, letters, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        far = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], real[:, None, None], drop)
        x = x + F.dropout(self.far(far.transpose(1, 2).flatten(2)), drop)
        return x + F.dropout(self.own(F.gelu(self.wide(self.own_norm(x)))), drop)


class LettersToPhones(nn.Module):
    """Letters [words, letters], numbers of `ALPHABET` from 1, 0 where a word has ended."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.letters = nn.Embedding(len(ALPHABET) + 1, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)
        self.heard = nn.Linear(WIDTH, PER_LETTER * CLASSES)
        self.guess = nn.Linear(PER_LETTER * CLASSES, WIDTH)

    def forward(self, letters: Tensor) -> list[Tensor]:
        """Log-probabilities [words, PER_LETTER * letters, CLASSES] after every block; the last one counts."""
        real = letters != 0
        x = self.letters(letters)
        said: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x = block(x, real, self.dropout)
            heard = self.heard(self.norm(x)).unflatten(-1, (PER_LETTER, CLASSES)).log_softmax(-1)
            said.append(heard.flatten(1, 2))
            if number + 1 < BLOCKS:
                x = x + self.guess(heard.exp().flatten(2))
        return said

    @torch.inference_mode()
    def say(self, word: str) -> list[int]:
        """Phones 1..39 of a word in letters of `ALPHABET`, at least one."""
        said: list[int] = []
        for at in range(0, len(word), LONGEST):
            said += spoken(self(numbers([word[at : at + LONGEST]]))[-1][0])
        return said


def numbers(words: list[str]) -> Tensor:
    """Words in letters of `ALPHABET` as numbers [words, letters], 0 where a word has ended."""
    longest = max(map(len, words))
    rows = [[_NUMBERS[letter] for letter in word] + [0] * (longest - len(word)) for word in words]
    return torch.tensor(rows)


def spoken(frames: Tensor) -> list[int]:
    """Phones of log-probabilities [frames, CLASSES]: the best of each frame, or the best one of all."""
    best = cast("list[int]", frames.argmax(-1).tolist())  # pyright: ignore[reportUnknownMemberType]
    phones = [phone for phone, _ in groupby(best) if phone]
    return phones or [int(frames[:, 1:].amax(0).argmax()) + 1]


def packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are kept: matrices in 8 bits with one scale a row, the rest in 16."""
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        value = value.detach().float().cpu()
        if value.ndim < 2:
            kept[name] = value.half()
            continue
        scale = (value.flatten(1).abs().amax(1) / _LEVELS).clamp(min=1e-6)
        kept[name] = (value / scale.view(-1, *[1] * (value.ndim - 1))).round().to(torch.int8)
        kept[f"{name}.scale"] = scale.float()
    return kept


def unpacked(kept: Mapping[str, Tensor]) -> LettersToPhones:
    """The network of `packed` weights, in eval mode.

    Raises:
        CheckpointError: a tensor is missing, surplus, or of another shape.
    """
    state: dict[str, Tensor] = {}
    for name, value in kept.items():
        if name.endswith(".scale"):
            continue
        value = value.float()
        if (scale := kept.get(f"{name}.scale")) is not None:
            value = value * scale.view(-1, *[1] * (value.ndim - 1))
        state[name] = value
    net = LettersToPhones()
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"not the network from letters to phones: {error}") from error
    return net.eval()
