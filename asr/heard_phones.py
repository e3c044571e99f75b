"""The phones that a searching listener's encoder hears, and when, without dictionary and language.

The likeliest of 39 phones and silence in every frame of 20 ms; equal ones side by side are one phone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .delays import ENCODER_PER_STEP, FRAME_SAMPLES, MEL_LOOKAHEAD, RATE
from .frontend import LogMel, LogMelConfig
from .model import RealtimeASR
from .search import PHONES

SECONDS = FRAME_SAMPLES / ENCODER_PER_STEP / RATE  # of a frame


@dataclass(frozen=True)
class HeardPhone:
    """A phone 1..39, in the order of ARPAbet names from "aa" to "zh", and its seconds in the recording."""

    phone: int
    start: float
    end: float


def phone_scores(model: RealtimeASR, samples: NDArray[np.float32], block: int) -> Tensor:
    """Of 16 kHz mono [n]: float32 [frames of 20 ms, 40], silence first; frames behind the end are there too.

    Args:
        block: frames that the encoder may hear at once.
    """
    config = model.config.encoder
    mel = LogMel(LogMelConfig(n_mels=config.n_mels, floor_max=config.global_log_mel_max))
    lead = model.config.left_pad_tokens * FRAME_SAMPLES
    longest = max(config.blocks) // 4 * FRAME_SAMPLES
    length = -(-(lead + len(samples) + FRAME_SAMPLES) // longest) * longest
    padded = np.zeros(length, np.float32)
    padded[lead - MEL_LOOKAHEAD :][: len(samples)] = samples
    with torch.inference_mode():
        scores = model.encode(mel(torch.as_tensor(padded)[None]), block=block)
    return scores.reshape(-1, PHONES)[lead // FRAME_SAMPLES * ENCODER_PER_STEP :]


def runs_of(classes: list[int]) -> list[HeardPhone]:
    """Runs of equal classes, one a frame; silence (0) is none."""
    found: list[HeardPhone] = []
    begin = 0
    for at in range(1, len(classes) + 1):
        if at == len(classes) or classes[at] != classes[begin]:
            if classes[begin]:
                found.append(HeardPhone(classes[begin], begin * SECONDS, at * SECONDS))
            begin = at
    return found


def phones_of(model: RealtimeASR, samples: NDArray[np.float32]) -> list[HeardPhone]:
    """What is heard in 16 kHz mono [n]; the encoder hears as much at once as it can."""
    scores = phone_scores(model, samples, max(model.config.encoder.blocks))
    frames = -(-len(samples) * ENCODER_PER_STEP // FRAME_SAMPLES)
    return runs_of([int(phone) for phone in scores[:frames].argmax(-1)])
