"""RMSNorm, LayerNorm, and the delay-conditioned scale of Ada RMS-Norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight, over the last axis.

    Statistics are float32; the result is cast to the input's dtype before the weight is
    applied, the order in which the reference packages do it (it matters in bfloat16 only).
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        y = x.float()
        y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + self.eps)
        return y.to(x.dtype) * self.weight


class LayerNorm(nn.Module):
    """Mean and variance normalisation over the last axis, with weight and bias."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class AdaScale(nn.Sequential):
    """g = U gelu(V t): one scale vector per condition, applied as (1 + g) to a norm's output.

    Voxtral Realtime (arXiv 2602.11298): the condition t is the sinusoidal embedding of the
    delay, so g depends on the delay alone. Named 0 and 2, as the released files have it.
    """

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__(nn.Linear(dim, inner, bias=False), nn.GELU(), nn.Linear(inner, dim, bias=False))
