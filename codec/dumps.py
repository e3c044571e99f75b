"""What a codec sounds and looks like: recordings and pictures beside the originals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio import Audio
from ..errors import ConfigError
from ..training.pool import HELD_OUT
from ..training.sounds import RATE, Sounds
from .measures import Wave
from .model import CodecModel

CLIPS = 4
SECONDS = 5
DEEPEST_DB = 80.0  # below the loudest: black


def dump(model: CodecModel, sounds: Sounds, folder: Path) -> None:
    """Some held-out clips through `model` (with an encoder): `ID.wav` and, with matplotlib, `ID.png`."""
    assert model.encoder is not None
    device = next(model.parameters()).device
    held = [clip for clip in sounds.clips if clip.corpus in HELD_OUT and clip.native >= 22000]
    for clip in held[:: max(1, len(held) // CLIPS)][:CLIPS]:
        count = min(clip.samples, SECONDS * RATE) // model.config.frame * model.config.frame
        wave = sounds.samples(clip, 0, count)
        with torch.no_grad():
            codes = model.quantizer.encode(model.encoder(torch.as_tensor(wave)[None].to(device)))
            found = model.decoder(model.quantizer.decode(codes))[0, :count].float().cpu().numpy()
        name = clip.id.replace("/", "_")
        write_wav(folder / f"{name}.wav", found)
        try:
            picture(folder / f"{name}.png", [(f"{clip.id}, recording", wave), ("decoded", found)])
        except ConfigError:
            continue  # training goes on without pictures


def write_wav(path: Path, wave: Wave) -> None:
    """24 kHz, in a folder that is made if need be; see `Audio.save`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Audio(np.clip(wave, -1, 1), RATE).save(path)


def picture(path: Path, waves: Sequence[tuple[str, Wave]]) -> None:
    """A PNG: for every title and wave the waveform and the spectrogram up to 12 kHz.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        figures: Any = import_module("matplotlib.figure")
    except ImportError as error:
        raise ConfigError("pictures need matplotlib: `pip install 'rillvox[eval]'`") from error
    figure = figures.Figure(figsize=(10, 3.2 * len(waves)), layout="constrained")
    axes = figure.subplots(2 * len(waves), 1, sharex=True, height_ratios=[1, 2] * len(waves))
    for (title, wave), top, bottom in zip(waves, axes[::2], axes[1::2], strict=True):
        time = np.arange(len(wave)) / RATE
        top.plot(time, wave, linewidth=0.4)
        top.set(title=title, ylim=(-1, 1), ylabel="amplitude")
        levels = bottom.specgram(
            wave + 1e-8, NFFT=1024, Fs=RATE, noverlap=768, cmap="magma", scale="dB", rasterized=True
        )[3]
        loudest = float(levels.get_array().max())
        levels.set_clim(loudest - DEEPEST_DB, loudest)
        bottom.set(ylabel="Hz", ylim=(0, RATE / 2))
    axes[-1].set(xlabel="s")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(draft, format="png", dpi=100)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
