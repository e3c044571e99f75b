"""The phone recogniser that says when each phone of a training text is spoken.

Whisper's encoder (`teacher.py`), frozen, and a small convolutional head that writes 39 phones and a blank, 50
times a second. Only training uses it: it hears the whole utterance at once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor, nn

from ..errors import AudioError, CheckpointError
from .teacher import WhisperTeacher

MAX_SECONDS = 29.0
CLASSES = 40  # blank and 39 phones
RATE = 16000


class HeadBlock(nn.Module):
    """Depthwise convolution over 7 frames, then a GELU layer, with a residual."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.dw = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.ln = nn.LayerNorm(dim)
        self.a = nn.Linear(dim, 2 * dim)
        self.b = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, dim] -> [batch, time, dim]."""
        y = self.dw(x.transpose(1, 2)).transpose(1, 2)
        return x + self.b(F.gelu(self.a(self.ln(y))))


class PhoneHead(nn.Module):
    """Encoder frames [batch, time, 512] to class scores [batch, time, 40]; works on pairs of frames."""

    feature_mean: Tensor
    feature_std: Tensor

    def __init__(self, dim: int = 512, inner: int = 256, blocks: int = 2, kernel: int = 7) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(dim))
        self.register_buffer("feature_std", torch.ones(dim))
        self.inp = nn.Linear(2 * dim, inner)
        self.blocks = nn.ModuleList(HeadBlock(inner, kernel) for _ in range(blocks))
        self.ln = nn.LayerNorm(inner)
        self.out = nn.Linear(inner, 2 * CLASSES)

    def forward(self, frames: Tensor) -> Tensor:
        """An odd last frame gets a zero one beside it."""
        x = (frames - self.feature_mean) / self.feature_std
        if x.shape[1] % 2:
            x = F.pad(x, (0, 0, 0, 1))
        batch, time, dim = x.shape
        x = self.inp(x.reshape(batch, time // 2, 2 * dim))
        for block in self.blocks:
            x = block(x)
        return self.out(self.ln(x)).reshape(batch, time, CLASSES)


class PhoneAligner:
    """Log-probabilities of the phones of an utterance.

    Args:
        encoder: safetensors file with Whisper base's `encoder.*` tensors.
        head: safetensors file of the phone head.

    Raises:
        CheckpointError: a file can't be read or doesn't fit.
    """

    def __init__(self, encoder: Path | str, head: Path | str) -> None:
        self.teacher = WhisperTeacher(encoder)
        self.head = PhoneHead().eval()
        try:
            self.head.load_state_dict({name: value.float() for name, value in load_file(str(head)).items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(
                f"{head}: not the phone head that belongs to this aligner ({error})"
            ) from error

    @torch.no_grad()
    def log_probs(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mono 16 kHz [n] in [-1, 1], at most 29 s -> [frames, 40], 20 ms a frame; half a second is added."""
        if x.ndim != 1 or len(x) > MAX_SECONDS * RATE:
            raise AudioError(f"an utterance to align has one channel and at most {MAX_SECONDS:.0f} s")
        wave = F.pad(torch.as_tensor(np.ascontiguousarray(x, np.float32)), (0, RATE // 2))
        wave = wave[: len(wave) // 320 * 320]
        return self.head(self.teacher.frames(wave[None]))[0].log_softmax(-1).numpy()
