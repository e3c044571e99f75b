"""Latents to codes and back: one vector of a codebook, and 36 numbers rounded to 21 levels each.

Voxtral Codec (arXiv 2603.25551). The semantic codebook is stored as the statistics of its training, a sum and
a count for each entry. The acoustic numbers are squeezed by tanh before rounding; what the decoder gets
are the levels themselves, in [-1, 1], with no inverse of tanh.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import CodecConfig

RAREST = 1e-5  # a count below this is taken for it, as the reference divides


class SemanticCodebook(nn.Module):
    """Entries [semantic_codes, semantic_dim], as sums and counts."""

    embedding_sum: Tensor
    cluster_usage: Tensor

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("embedding_sum", torch.zeros(codes, dim))
        self.register_buffer("cluster_usage", torch.ones(codes))
        self._entries: tuple[tuple[int, int], Tensor] | None = None

    def entries(self) -> Tensor:
        """The codebook, float32; divided once for the sums and counts that it has."""
        # In-place updates raise the version, replaced tensors have another address.
        key = (self.embedding_sum.data_ptr(), self.embedding_sum._version)
        if self._entries is None or self._entries[0] != key:
            entries = self.embedding_sum.float() / self.cluster_usage.float().clamp(min=RAREST)[:, None]
            self._entries = key, entries
        return self._entries[1]


class Quantizer(nn.Module):
    """Latents [..., latent_dim] to codes int64 [..., codes], semantic first, and back."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.semantic_dim, self.levels = config.semantic_dim, config.acoustic_levels
        self.semantic_codebook = SemanticCodebook(config.semantic_codes, config.semantic_dim)

    def encode(self, latents: Tensor) -> Tensor:
        """The nearest entry (the first of equally near ones) and the nearest level of each number."""
        semantic, acoustic = latents[..., : self.semantic_dim], latents[..., self.semantic_dim :]
        return torch.cat([self.nearest(semantic)[..., None], self.round(torch.tanh(acoustic.float()))], -1)

    def nearest(self, semantic: Tensor) -> Tensor:
        """[..., semantic_dim] -> int64 [...]."""
        entries = self.semantic_codebook.entries()
        # Without |z|^2, which is the same for all.
        distance = entries.square().sum(-1) - 2 * semantic.float() @ entries.T
        return distance.argmin(-1)

    def round(self, bounded: Tensor) -> Tensor:
        """Numbers in [-1, 1] to levels int64, halves to the even one."""
        return torch.round((bounded + 1) / 2 * (self.levels - 1)).long()

    def unround(self, codes: Tensor) -> Tensor:
        """Levels to numbers in [-1, 1], float32."""
        return codes.float() * 2 / (self.levels - 1) - 1

    def decode(self, codes: Tensor) -> Tensor:
        """int64 [..., codes] -> float32 [..., latent_dim], what the decoder is fed."""
        semantic = self.semantic_codebook.entries()[codes[..., 0]]
        return torch.cat([semantic, self.unround(codes[..., 1:])], -1)
