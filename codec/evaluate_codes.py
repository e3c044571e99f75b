"""`rillvox eval codes`: how a codec uses its codes on the speech it was trained with, and on held-out speech.

Beside the usage (`evaluate.code_statistics`) the share of frames whose semantic code is the teacher's, for
codecs that were taught so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ConfigError
from ..training.manifests import write_json
from ..training.pool import HELD_OUT
from ..training.sounds import Sound, Sounds
from .evaluate import code_statistics
from .stream import Codec


def evaluate_codes(codec: Codec, sounds: Sounds, every: int = 6) -> dict[str, dict[str, float]]:
    """By "pool" and "held out": statistics of the codes, and `teacher_right` of the frames with a teacher.

    Args:
        every: of the pool's clips one in so many; those held out are all heard.

    Raises:
        ConfigError: no clips.
        CheckpointError: the codec has no encoder.
    """
    held = [clip for clip in sounds.clips if clip.corpus in HELD_OUT]
    parts = {"pool": sounds.training()[::every], "held out": held}
    found = {name: _part(codec, sounds, clips) for name, clips in parts.items() if clips}
    if not found:
        raise ConfigError("no clips to code")
    return found


def _part(codec: Codec, sounds: Sounds, clips: list[Sound]) -> dict[str, float]:
    values = [codec.encode(sounds.samples(clip)).values for clip in clips]
    statistics = code_statistics(codec, values)
    entries = codec.model.quantizer.semantic_codebook.entries().cpu()
    if entries.shape != sounds.codebook.shape or not torch.allclose(entries, sounds.codebook, atol=5e-3):
        return statistics  # the codes are not the teacher's
    right = total = 0
    for clip, codes in zip(clips, values, strict=True):
        ids = sounds.codes(clip, 0, len(codes))
        right += int((codes[:, 0] == ids)[ids >= 0].sum())
        total += int((ids >= 0).sum())
    chance = np.concatenate([sounds.codes(clip, 0, len(c)) for clip, c in zip(clips, values, strict=True)])
    counts = np.bincount(chance[chance >= 0])
    return statistics | {"teacher_right": right / max(1, total), "chance": float(counts.max() / counts.sum())}


def main_codes(sounds: Path, model: str, every: int, json_out: Path | None) -> None:
    """The command."""
    report: dict[str, Any] = dict(evaluate_codes(Codec.load(model), Sounds(sounds), every))
    if json_out is not None:
        write_json(json_out, report)
    for name, part in report.items():
        sys.stdout.write(
            f"{name}: {part['frames']} frames; semantic perplexity {part['semantic_perplexity']:.0f} of "
            f"{part['semantic_codes']}, {part['semantic_unused']} unused; acoustic codes "
            f"{part['acoustic_bits']:.2f} bits each, {100 * part['end_levels']:.1f} % at the ends"
        )
        if "teacher_right" in part:
            sys.stdout.write(
                f"; teacher's code in {100 * part['teacher_right']:.1f} % of frames, the commonest alone "
                f"{100 * part['chance']:.1f} %"
            )
        sys.stdout.write("\n")
