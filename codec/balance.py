"""Gradients of several losses on one waveform, brought to the shares that their weights ask for.

After EnCodec (arXiv 2210.13438 section 3.4): losses of different kinds have gradients of different sizes,
which also change while training, so a weight says little. Here the gradient of every term on the waveform is
divided by the running mean of its norm: a weight is a share.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

DECAY = 0.99
SMALLEST = 1e-12


class Balancer(nn.Module):
    """Call it with the waveform, the terms and their weights; `norms` are the running means.

    Args:
        total: norm of the balanced gradient.
    """

    norms: Tensor

    def __init__(self, names: tuple[str, ...], total: float = 1.0) -> None:
        super().__init__()
        self.names, self.total = names, total
        self.register_buffer("norms", torch.zeros(len(names)))

    def forward(self, wave: Tensor, terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
        """A loss of the value of the weighted sum, whose gradient on `wave` [batch, samples] is balanced."""
        value = sum((weights[name] * term.detach() for name, term in terms.items()), wave.new_zeros(()))
        whole = sum(abs(weight) for name, weight in weights.items() if name in terms)
        balanced = torch.zeros_like(wave)
        for index, name in enumerate(self.names):
            term = terms.get(name)
            if term is None or not weights[name] or not term.requires_grad:
                continue
            (gradient,) = torch.autograd.grad(term, wave, retain_graph=True, materialize_grads=True)
            norm = gradient.square().sum().sqrt()
            if not float(norm) > 0:
                continue
            mean = self.norms[index]
            mean.copy_(torch.where(mean > 0, mean * DECAY + norm * (1 - DECAY), norm))
            balanced += self.total * weights[name] / whole * gradient / (mean + SMALLEST)
        surrogate = (wave * balanced).sum()
        return value + surrogate - surrogate.detach()
