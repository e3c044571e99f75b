"""The scale of fresh weights, set by what flows through them (after LSUV, Mishkin and Matas 2016).

Convolutions as torch makes them halve the spread of a signal; after four of them in a row the acoustic
numbers differ by less than a level of their codes, after eight the decoder's positions by less than the
epsilon of its norms, and learning begins with making up for that. Here every convolution is scaled once, so
that what leaves it has a spread of one, and the semantic entry says no more to the decoder than the acoustic
numbers.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ..kernels.transformer import Transformer
from .model import CodecModel, Stages
from .spectrum import LogSpectrum

TINY = 1e-6
ACOUSTIC = 0.7  # spread of acoustic numbers before tanh: some ten levels


def settle(model: CodecModel, heard: Tensor, ids: Tensor) -> None:
    """Scale the weights of a fresh model, in place.

    Args:
        model: with an encoder and the entries of its codebook.
        heard: [batch, samples] of speech.
        ids: int64 [batch, frames] semantic codes of it; where nobody knows, any will do.
    """
    settle_decoder(model, settle_encoder(model, heard), ids)


@torch.no_grad()
def settle_encoder(model: CodecModel, heard: Tensor) -> Tensor:
    """The encoder alone, to the codebook that the model has; its latents of `heard`."""
    encoder = model.encoder
    assert encoder is not None
    if isinstance(encoder.input, LogSpectrum):
        layer = encoder.input.projection
        y = encoder.hear(heard)
        scale = 1 / _spread(y).clamp(min=TINY)
        layer.weight *= scale
        cast("Tensor", layer.bias).sub_(y.mean((0, 1))).mul_(scale)
    x = _through(encoder.stages, encoder.hear(heard), last=False)
    last = encoder.stages.blocks[-1]
    z = encoder.stages.through(last, x)
    found = (z - z.mean((0, 1))).square().mean((0, 1)).sqrt().clamp(min=TINY)
    wanted = torch.full_like(found, ACOUSTIC)
    entries = model.quantizer.semantic_codebook.entries()
    wanted[: model.config.semantic_dim] = entries.std(0).clamp(min=TINY) if _made(entries) else 1.0
    last.get_parameter("weight").mul_((wanted / found)[:, None, None])
    return encoder.stages.through(last, x)


@torch.no_grad()
def settle_decoder(model: CodecModel, latents: Tensor, ids: Tensor) -> None:
    """The decoder alone, to these latents and codes."""
    config = model.config
    semantic, acoustic = latents[..., : config.semantic_dim], torch.tanh(latents[..., config.semantic_dim :])
    entries = model.quantizer.semantic_codebook.entries()
    if _made(entries):
        random = torch.randint(len(entries), ids.shape, generator=torch.Generator().manual_seed(0))
        semantic = entries[torch.where((ids >= 0) & (ids < len(entries)), ids, random.to(ids.device))]
    stages = model.decoder.stages
    first = stages.blocks[0]
    silent = torch.zeros_like(semantic), torch.zeros_like(acoustic)
    # What each part brings is told by leaving out the other.
    by_semantic = _spread(stages.through(first, torch.cat([semantic, silent[1]], -1)))
    by_acoustic = _spread(stages.through(first, torch.cat([silent[0], acoustic], -1)))
    weight = first.get_parameter("weight")
    weight[:, : config.semantic_dim] *= 0.5**0.5 / by_semantic.clamp(min=TINY)
    weight[:, config.semantic_dim :] *= 0.5**0.5 / by_acoustic.clamp(min=TINY)
    _through(stages, torch.cat([semantic, acoustic], -1), last=True)


def _made(entries: Tensor) -> bool:
    """Whether there are any; else they are still to be learned from the latents."""
    return bool(entries.std(0).max() > 1e-4)


def _through(stages: Stages, x: Tensor, *, last: bool) -> Tensor:
    """Scale every convolution to a spread of one; with `last` false the last block is left out."""
    for block in list(stages.blocks)[: None if last else -1]:
        x = stages.through(block, x)
        if not isinstance(block, Transformer):
            spread = _spread(x).clamp(min=TINY)
            block.get_parameter("weight").div_(spread)
            x = x / spread
    return x


def _spread(x: Tensor) -> Tensor:
    """Root mean square of [batch, time, channels] about the mean of each channel."""
    return (x - x.mean((0, 1))).square().mean().sqrt()
