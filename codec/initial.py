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

ACOUSTIC = 0.7  # spread of acoustic numbers before tanh: some ten levels


@torch.no_grad()
def settle(model: CodecModel, heard: Tensor, ids: Tensor) -> None:
    """Scale the weights of a fresh model, in place.

    Args:
        model: with an encoder and the entries of its codebook.
        heard: [batch, samples] of speech.
        ids: int64 [batch, frames] semantic codes of it; where nobody knows, any will do.
    """
    config, encoder = model.config, model.encoder
    assert encoder is not None
    entries = model.quantizer.semantic_codebook.entries()
    if isinstance(encoder.input, LogSpectrum):
        layer = encoder.input.projection
        y = encoder.hear(heard)
        scale = 1 / _spread(y).clamp(min=1e-6)
        layer.weight *= scale
        cast("Tensor", layer.bias).sub_(y.mean((0, 1))).mul_(scale)
    x = _through(encoder.stages, encoder.hear(heard), last=False)
    last = encoder.stages.blocks[-1]
    z = last(x.transpose(1, 2)).transpose(1, 2)
    found = (z - z.mean((0, 1))).square().mean((0, 1)).sqrt().clamp(min=1e-6)
    wanted = torch.full_like(found, ACOUSTIC)
    made = bool(entries.std(0).max() > 1e-4)  # else they are still to be learned from the latents
    wanted[: config.semantic_dim] = entries.std(0).clamp(min=1e-6) if made else 1.0
    last.get_parameter("weight").mul_((wanted / found)[:, None, None])
    z = last(x.transpose(1, 2)).transpose(1, 2)
    semantic, acoustic = z[..., : config.semantic_dim], torch.tanh(z[..., config.semantic_dim :])
    if made:
        random = torch.randint(len(entries), ids.shape, generator=torch.Generator().manual_seed(0))
        semantic = entries[torch.where((ids >= 0) & (ids < len(entries)), ids, random.to(ids.device))]
    first = model.decoder.stages.blocks[0]
    weight = first.get_parameter("weight")
    # What both parts bring, told apart by leaving out the other.
    for part, others in ((semantic, acoustic), (acoustic, semantic)):
        left = part is semantic
        pair = (part, torch.zeros_like(others)) if left else (torch.zeros_like(others), part)
        y = first(torch.cat(pair, -1).transpose(1, 2)).transpose(1, 2)
        columns = slice(0, config.semantic_dim) if left else slice(config.semantic_dim, None)
        weight[:, columns] *= 0.5**0.5 / _spread(y).clamp(min=1e-6)
    _through(model.decoder.stages, torch.cat([semantic, acoustic], -1), last=True)


def _through(stages: Stages, x: Tensor, *, last: bool) -> Tensor:
    """Scale every convolution to a spread of one; with `last` false the last block is left out."""
    for block in list(stages.blocks)[: None if last else -1]:
        x = stages.through(block, x)
        if not isinstance(block, Transformer):
            spread = _spread(x).clamp(min=1e-6)
            block.get_parameter("weight").div_(spread)
            x = x / spread
    return x


def _spread(x: Tensor) -> Tensor:
    """Root mean square of [batch, time, channels] about the mean of each channel."""
    return (x - x.mean((0, 1))).square().mean().sqrt()
