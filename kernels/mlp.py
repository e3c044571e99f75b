"""Feed-forward layers: SwiGLU and GELU."""

from __future__ import annotations

from collections.abc import Collection

import torch.nn.functional as F
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """w2(silu(w1 x) * w3 x)."""

    def __init__(self, dim: int, hidden: int, biases: Collection[str] = ()) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias="w1" in biases)
        self.w2 = nn.Linear(hidden, dim, bias="w2" in biases)
        self.w3 = nn.Linear(dim, hidden, bias="w3" in biases)
        self.joined: nn.Module | None = None  # w1 and w3 in one, once packed

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        if self.joined is None:
            return self.w2(F.silu(self.w1(x)) * self.w3(x))
        gate, up = self.joined(x).chunk(2, dim=-1)
        return self.w2(F.silu(gate) * up)


class GELUMLP(nn.Module):
    """w2(gelu(w1 x)), with the exact (erf) GELU."""

    def __init__(self, dim: int, hidden: int, biases: Collection[str] = ()) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias="w1" in biases)
        self.w2 = nn.Linear(hidden, dim, bias="w2" in biases)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim]."""
        return self.w2(F.gelu(self.w1(x)))
