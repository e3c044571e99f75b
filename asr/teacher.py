"""Whisper's encoder as OpenAI released it: bidirectional, whole utterances, frozen.

Training listens to it twice: to say when each phone of a text is spoken (`aligner.py`), and to keep what it
knows of voices while its causal copy is bent to block-wise hearing (`EncoderTask`). It takes no part in
recognition: it hears the whole utterance at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ..errors import CheckpointError
from ..kernels.transformer import Transformer
from .config import AudioEncoderConfig, small_english
from .frontend import LogMel, LogMelConfig
from .model import AudioEncoder
from .whisper import load_whisper_encoder

RANGE = 8.0  # decades below the loudest frame of an utterance at which Whisper clips it


class WhisperTeacher:
    """Frames of Whisper's encoder.

    Args:
        path: safetensors file with its `encoder.*` tensors, openai's names.
        config: numbers of the causal encoder with the same tensors; None: the default listener's.

    Raises:
        CheckpointError: the file can't be read or doesn't fit.
    """

    def __init__(self, path: Path | str, config: AudioEncoderConfig | None = None) -> None:
        config = config or small_english(vocab_size=4).encoder
        causal = AudioEncoder(config).eval()
        load_whisper_encoder(causal, path)
        self.conv1, self.conv2 = causal.conv1, causal.conv2
        self.stack = Transformer(replace(config.stack, causal=False, window=None, block=1)).eval()
        self.stack.load_state_dict(causal.transformer.state_dict())
        # A floor below any power: the utterance's own floor is applied afterwards.
        self.mel = LogMel(LogMelConfig(n_mels=config.n_mels, floor_range=20.0))
        # Whisper's own table, slow waves included: positions are counted from the utterance's start.
        self.positions = _positions(path)
        self.mean = self.scale = torch.zeros(())

    @torch.no_grad()
    def frames(self, waves: Tensor) -> Tensor:
        """[batch, n] at 16 kHz in [-1, 1], n a multiple of 320 and at most 30 s -> [batch, n / 320, 512]."""
        # Whisper clips 8 below the loudest frame of the utterance, which no stream could know.
        raw = self.mel(waves) * 4 - 4
        mel = (torch.maximum(raw, raw.amax((1, 2), keepdim=True) - RANGE) + 4) / 4
        y = F.gelu(F.conv1d(mel, self.conv1.weight, self.conv1.bias, padding=1))
        y = F.gelu(F.conv1d(y, self.conv2.weight, self.conv2.bias, padding=1, stride=2)).transpose(1, 2)
        return self.stack(y + self.positions[: y.shape[1]])

    def settle(self, rows: Iterable[Tensor]) -> None:
        """Learn the scale of `targets` from some rows [n] of the length that will come.

        Whisper's frames carry the place in the utterance, which a stream without beginning can't say: the
        mean of every place is taken off.
        """
        heard = torch.cat([self.frames(row[None]) for row in rows])
        self.mean = heard.mean(0)
        self.scale = (heard - self.mean).std((0, 1)).clamp(min=1e-3)

    def targets(self, waves: Tensor) -> Tensor:
        """Frames as `frames` gives them, in units of their spread around the mean of their place."""
        return (self.frames(waves) - self.mean) / self.scale


def _positions(path: Path | str) -> Tensor:
    name = "encoder.positional_embedding"
    try:
        return load_file(str(path))[name].float()
    except (KeyError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {name} is missing") from error
