"""What the codec learns, as a module whose `forward(batch)` gives a loss and figures.

First the reconstruction, then (with discriminators) what makes it sound real. The semantic half of the latent
learns to name the teacher's code; the decoder is given the teacher's code or its own guess, by turns, so that
it takes both: a synthesiser may speak in the teacher's codes, and a voice prompt comes as guesses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call  # pyright: ignore[reportUnknownVariableType]

from .config import CodecConfig
from .discriminator import Discriminators, deceive, feature_distance, hinge
from .losses import mel_distance, stft_distance, wave_distance
from .model import CodecModel

SHARPNESS = 8.0  # of the softmax over distances to the entries, in units of their variance


@dataclass
class Weights:
    """Of the terms of the loss."""

    mel: float = 15.0
    stft: float = 1.0
    wave: float = 10.0
    semantic: float = 0.5
    entry: float = 0.5  # square distance to the teacher's entry
    saturation: float = 0.01  # of acoustic numbers beyond what tanh tells apart
    features: float = 2.0
    deceit: float = 0.5


@dataclass
class WaveBatch:
    """Sound: `heard` goes in, `wanted` should come out."""

    heard: Tensor  # [batch, samples], whole frames
    wanted: Tensor  # the same, with what a narrow line took from `heard`
    ids: Tensor  # int64 [batch, frames], the teacher's codes, -1 where there are none
    known: Tensor  # [batch] Hz up to which `wanted` has something to say
    draw: Tensor  # [batch, 2] uniform: how the item is quantised
    noise: Tensor  # [batch, frames, acoustic_dim] uniform in [-1, 1]
    deceit: Tensor  # [] share of the adversarial terms


class CodecTask(nn.Module):
    """The codec and, in its second stage, discriminators."""

    def __init__(
        self,
        config: CodecConfig,
        codebook: Tensor,
        *,
        adversarial: bool = False,
        frozen_encoder: bool = False,
        weights: Weights | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.model = CodecModel(config)
        self.model.quantizer.semantic_codebook.embedding_sum.copy_(codebook)
        with torch.no_grad():
            encoder = self.model.encoder
            assert encoder is not None
            last = encoder.stages.blocks[-1].get_parameter("weight")
            last[config.semantic_dim :] *= 1 / 3  # far from where tanh is flat
        if frozen_encoder:
            encoder.requires_grad_(False)
        self.weights = weights or Weights()
        self.critics = Discriminators() if adversarial else None
        variance = codebook.var(0).sum()
        self.variance = float(variance)

    def forward(self, batch: WaveBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of all terms, and each by itself."""
        weights = self.weights
        latents, figures, loss = self.encode(batch)
        found = self.model.decoder(latents)
        delay = self.config.output_delay
        # What a flush gives is half a sound, and of no account.
        found, wanted = found[:, : found.shape[1] - delay], batch.wanted[:, : found.shape[1] - delay]
        mel = mel_distance(found, wanted, batch.known)
        stft = stft_distance(found, wanted, batch.known)
        wave = wave_distance(found, wanted, batch.known)
        loss = loss + weights.mel * mel + weights.stft * stft + weights.wave * wave
        figures |= {"mel": mel.detach(), "stft": stft.detach()}
        if self.critics is not None:
            more, criticism = self.criticise(found, wanted, batch)
            loss, figures = loss + more, figures | criticism
        return loss, figures

    def encode(self, batch: WaveBatch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """What the decoder is given, figures, and the loss of the encoder."""
        config, weights = self.config, self.weights
        encoder = self.model.encoder
        assert encoder is not None
        z = encoder(batch.heard)
        semantic, acoustic = z[..., : config.semantic_dim], z[..., config.semantic_dim :]
        entries = self.model.quantizer.semantic_codebook.entries()
        distance = (
            semantic.square().sum(-1, keepdim=True) + entries.square().sum(-1) - 2 * semantic @ entries.T
        )
        known = batch.ids >= 0
        teacher = batch.ids.clamp(min=0)
        count = known.sum() + 1  # a batch without a teacher loses nothing
        each = F.cross_entropy(
            (-SHARPNESS * distance / self.variance).transpose(1, 2), teacher, reduction="none"
        )
        naming = (each * known).sum() / count
        missed = ((semantic - entries[teacher]).square().sum(-1) * known).sum() / count / self.variance
        guess = distance.detach().argmin(-1)
        right = ((guess == teacher) & known).sum() / count
        taught = (batch.draw[:, :1] < 0.5) & known
        given = entries[torch.where(taught, teacher, guess)]
        bounded = torch.tanh(acoustic)
        levels = config.acoustic_levels - 1
        rounded = torch.round((bounded + 1) / 2 * levels) * 2 / levels - 1
        kind = batch.draw[:, 1, None, None]
        dithered = bounded + batch.noise / config.acoustic_levels
        straight = bounded + (rounded - bounded).detach()
        acoustic_given = torch.where(kind < 0.5, straight, torch.where(kind < 0.75, dithered, bounded))
        saturation = F.relu(acoustic.abs() - 2).square().mean()
        loss = weights.semantic * naming + weights.entry * missed + weights.saturation * saturation
        ends = (rounded.detach().abs() > 1 - 1 / levels).float().mean()
        figures = {"naming": naming.detach(), "teacher_right": right.detach(), "end_levels": ends}
        return torch.cat([given, acoustic_given], -1), figures, loss

    def criticise(self, found: Tensor, wanted: Tensor, batch: WaveBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Both sides at once: critics learn from a copy of the sound, the codec from a copy of critics."""
        assert self.critics is not None
        wide = batch.known >= 12000
        if int(wide.sum()) == 0:
            none = found.new_zeros(())
            return none, {"hinge": none + float("nan"), "features": none + float("nan")}
        found, wanted = found[wide], wanted[wide]
        real, made = self.critics(wanted), self.critics(found.detach())
        learned = hinge(real, made)
        fixed = {name: value.detach() for name, value in self.critics.named_parameters()}
        seen: list[list[Tensor]] = functional_call(self.critics, fixed, (found,))
        features = feature_distance(real, seen)
        codec = self.weights.features * features + self.weights.deceit * deceive(seen)
        figures = {"hinge": learned.detach(), "features": features.detach()}
        return learned + batch.deceit * codec, figures
