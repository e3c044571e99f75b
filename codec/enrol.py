"""Codes of one recording without an encoder: gradient descent through a frozen decoder.

The released Voxtral Codec has no encoder. Its decoder is differentiable, though, so the latents of one clip
can be sought: descend on what the decoded wave lacks, straight through the nearest entry and the nearest
levels, and keep the codes that came nearest. A clip of a few seconds takes hundreds of passes through the
decoder and back.

Where the decoder reads a pitch from the codes, the sound does not teach it: the recording's own is a second
aim.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..errors import AudioError, ConfigError
from .codes import Codes
from .config import SAMPLE_RATE
from .discriminator import PUBLISHED_SIZES
from .losses import mel_distance, spectrum
from .model import CodecModel
from .source import LOWEST, SourceFilter
from .stream import Codec

STEPS = 400
LONGEST = 30.0  # seconds
RATE = 0.05  # of Adam, in units of each latent's spread
LOOK = 10  # steps between two looks at the codes themselves
WAVE, MEL, STFT = 10.0, 15.0, 1.0
PITCH = 10.0  # of natural logarithms of Hz, where a head reads a pitch from the codes
LEVEL = 0.063  # root mean square of what is searched for a pitch: what the codec's training gave it, -24 dBFS
ROUNDED_FROM = 0.4  # share of the steps after which latents are rounded; before, they move freely


@dataclass(frozen=True)
class Found:
    """Codes, and the distance (`losses.mel_distance`) of their sound to the recording."""

    codes: Codes
    distance: float


def enrol(
    codec: Codec,
    wave: NDArray[np.float32],
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Callable[[int, float], None] = lambda _step, _distance: None,
) -> Found:
    """The codes whose sound and pitch come nearest to those of `wave`, float32 mono [n] at 24 kHz.

    Args:
        steps: of descent.
        progress: is told each step and the distance of the best codes so far; the first says what all will
            take.

    Raises:
        AudioError: no sound, or more than 30 s of it.
        ConfigError: no steps.
    """
    if not 0 < len(wave) <= LONGEST * SAMPLE_RATE:
        raise AudioError(
            f"to enrol, give more than nothing and at most {LONGEST:g} s, got {len(wave) / SAMPLE_RATE:.1f} s"
        )
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}")
    model, config = codec.model, codec.config
    device = next(model.parameters()).device
    frames = config.frames_of(len(wave))
    target = torch.as_tensor(np.pad(wave, (0, frames * config.frame - len(wave))), dtype=torch.float32)
    target = target[None].to(device)
    z, scale = _begin(codec, target, seed)
    flat = torch.zeros_like(z, requires_grad=True)  # steps from there, in units of the spread
    optimizer = torch.optim.Adam([flat], lr=RATE, betas=(0.9, 0.95))
    generator = torch.Generator(device).manual_seed(seed)
    hertz: Tensor | None = None
    if isinstance(model.decoder.output, SourceFilter):
        hertz = recorded_pitch(model, wave, frames).to(device)
    best = math.inf, math.inf, model.quantizer.encode(z)
    known = torch.tensor([float(SAMPLE_RATE)], device=device)
    learning = [p for p in model.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        for step in range(steps):
            done = step / steps
            optimizer.param_groups[0]["lr"] = RATE * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))
            given = _given(model, z + flat * scale, done >= ROUNDED_FROM, generator)
            found, said = model.decoder.speak(given)
            loss = distance(found[:, : target.shape[1]], target) + PITCH * missed(said, hertz)
            optimizer.zero_grad()
            loss.backward()  # pyright: ignore[reportUnknownMemberType]
            optimizer.step()  # pyright: ignore[reportUnknownMemberType]
            if step % LOOK == LOOK - 1 or step == steps - 1:
                with torch.no_grad():
                    codes = model.quantizer.encode(z + flat * scale)
                    heard, said = model.decoder.speak(model.quantizer.decode(codes))
                    mel = float(mel_distance(heard[:, : target.shape[1]], target, known))
                    worth = MEL * mel + PITCH * float(missed(said, hertz))
                    best = min(best, (worth, mel, codes), key=lambda x: x[0])
            progress(step + 1, best[1])
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
    _, mel, codes = best
    return Found(Codes(codes[0].cpu().numpy(), len(wave), codec.layout), mel)


def distance(found: Tensor, wanted: Tensor) -> Tensor:
    """What is descended on: samples, mel bands, and magnitudes of the paper's eight resolutions."""
    known = torch.tensor([float(SAMPLE_RATE)], device=found.device)
    found = F.pad(found, (0, wanted.shape[1] - found.shape[1]))
    terms = [
        (a - b).abs().sum() / (b.sum() + 1e-3)
        for size in PUBLISHED_SIZES
        for a, b in [(spectrum(found, size), spectrum(wanted, size))]
    ]
    mel = mel_distance(found, wanted, known)
    return WAVE * (found - wanted).abs().mean() + MEL * mel + STFT * torch.stack(terms).mean()


def missed(said: tuple[Tensor, Tensor] | None, hertz: Tensor | None) -> Tensor:
    """How far the pitch of the codes is from the recording's where that has one; 0 of a head without.

    Args:
        said: what `CodecDecoder.speak` gives beside the wave.
        hertz: [1, positions], 0 where there is no voice.
    """
    if said is None or hertz is None:
        return torch.zeros(())
    voiced = hertz > 0
    error = (said[0] - hertz.clamp(min=LOWEST).log()).abs() * voiced
    return error.sum() / voiced.sum().clamp(min=1)


def recorded_pitch(model: CodecModel, wave: NDArray[np.float32], frames: int) -> Tensor:
    """Hz [1, positions] of a recording at the end of every position, 0 where no voice is."""
    from ..training.pitch import HOP, pitch  # compiles; not every decoder asks for it

    level = float(np.sqrt(np.square(wave).mean()))
    found = pitch(wave * np.float32(LEVEL / max(level, 1e-9)))
    at = np.rint(np.arange(1, frames * model.config.positions + 1) * (model.config.patch / HOP)).astype(int)
    return torch.as_tensor(np.where(at < len(found), found[np.minimum(at, len(found) - 1)], 0))[None]


def _begin(codec: Codec, target: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Latents to begin with, and the spread of each: the encoder's if there is one, else what is common."""
    model, config = codec.model, codec.config
    entries = model.quantizer.semantic_codebook.entries()
    spread = torch.cat([entries.std(0), entries.new_ones(config.acoustic_dim)])
    with torch.no_grad():
        if model.encoder is not None:
            return model.encoder(target), spread
    frames = config.frames_of(target.shape[1])
    generator = torch.Generator().manual_seed(seed)
    z = torch.cat([entries.mean(0), entries.new_zeros(config.acoustic_dim)]).expand(1, frames, -1)
    noise = torch.randn(z.shape, generator=generator).to(z.device)
    return z + 0.1 * noise * spread, spread


def _given(model: CodecModel, z: Tensor, rounded: bool, generator: torch.Generator) -> Tensor:
    """What the decoder is fed, with a gradient to the latents."""
    quantizer = model.quantizer
    dim = quantizer.semantic_dim
    semantic, bounded = z[..., :dim], torch.tanh(z[..., dim:])
    entry = quantizer.semantic_codebook.entries()[quantizer.nearest(semantic.detach())]
    if rounded:
        levels = quantizer.unround(quantizer.round(bounded.detach()))
        bounded = bounded + (levels - bounded).detach()
    else:
        # Where rounding will lead is as far as this noise.
        half = 1 / quantizer.levels
        noise = torch.rand(bounded.shape, generator=generator, device=bounded.device) * 2 - 1
        bounded = bounded + noise * half
    return torch.cat([semantic + (entry - semantic).detach(), bounded], -1)
