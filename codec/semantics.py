"""How the semantic half of a latent becomes one code while training, and what it learns from.

Four ways, all stored as one table of entries of which the nearest is taken: whatever reads the codes knows no
difference.

- `teacher`: entries are clusters of Whisper's frames; the latent learns to name the teacher's code, and the
  decoder is given the teacher's code or the guess by turns. The default: nearly all entries are in use.
- `learned`: entries follow the latents by moving averages (van den Oord et al. 2017), by
  vector-quantize-pytorch; begun by k-means, and an entry that nobody takes is moved to where latents are.
- `fsq`: entries are a fixed grid of 8 x 8 x 8 x 4 x 4 in five dimensions, as many as in the released
  codebook (after SecoustiCodec, arXiv 2508.02849).
- `fixed`: entries of a checkpoint, frozen with its decoder.

The last three pass the latent in half the items and its entry in the other half (Voxtral Codec, arXiv
2603.25551 section 3), and what the entry means is taught through a linear head that must give the teacher's
frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from .quantizer import SemanticCodebook

_qr = cast(
    "Callable[[Tensor], tuple[Tensor, Tensor]]",
    torch.linalg.qr,  # pyright: ignore[reportUnknownMemberType]
)

SHARPNESS = 8.0  # of the softmax over distances to the entries, in units of their variance
FSQ_LEVELS = (8, 8, 8, 4, 4)
WAYS = ("teacher", "learned", "fsq", "fixed")


@dataclass
class Named:
    """What a way makes of latents [batch, frames, dim]."""

    given: Tensor  # the same shape, what the decoder is fed
    entry: Tensor  # the same shape, the entry with a straight-through gradient
    loss: Tensor  # weighted
    figures: dict[str, Tensor]


class TeacherCodes(nn.Module):
    """The entries are the teacher's."""

    def __init__(self, book: SemanticCodebook, teacher: Tensor, naming: float, distance: float) -> None:
        super().__init__()
        book.embedding_sum.copy_(teacher)
        self.naming, self.distance = naming, distance
        self.variance = float(teacher.var(0).sum())

    def forward(self, z: Tensor, book: SemanticCodebook, ids: Tensor, draw: Tensor) -> Named:
        """`ids` [batch, frames], -1 where there is no teacher; `draw` [batch] uniform."""
        entries = book.entries()
        distance = squares(z, entries)
        known = ids >= 0
        teacher = ids.clamp(min=0)
        count = known.sum() + 1  # a batch without a teacher loses nothing
        each = F.cross_entropy(
            (-SHARPNESS * distance / self.variance).transpose(1, 2), teacher, reduction="none"
        )
        naming = (each * known).sum() / count
        missed = ((z - entries[teacher]).square().sum(-1) * known).sum() / count / self.variance
        guess = distance.detach().argmin(-1)
        taught = (draw[:, None] < 0.5) & known
        right = ((guess == teacher) & known).sum() / count
        return Named(
            given=entries[torch.where(taught, teacher, guess)],
            entry=z + (entries[guess] - z).detach(),
            loss=self.naming * naming + self.distance * missed,
            figures={"naming": naming.detach(), "teacher_right": right.detach()},
        )


class FixedCodes(nn.Module):
    """The entries stay as they are; the latent commits itself to the nearest.

    To small latents the shortest entries are the nearest, whatever their direction, and commitment keeps them
    there: a few entries take all. With `usage` the latents of a batch are to be near to all entries alike.
    """

    def __init__(self, commitment: float, usage: float = 0.0) -> None:
        super().__init__()
        self.commitment, self.usage = commitment, usage

    def forward(self, z: Tensor, book: SemanticCodebook, ids: Tensor, draw: Tensor) -> Named:
        """As `TeacherCodes.forward`; the teacher's codes are not needed."""
        entries = book.entries()
        distance = squares(z, entries)
        ids = distance.detach().argmin(-1)
        named = committed(z, entries[ids], ids, draw, self.commitment * _scale(entries))
        if self.usage:
            named.loss = named.loss + self.usage * unused(distance, float(entries.var(0).sum()))
        return named


class LearnedCodes(nn.Module):
    """The entries follow the latents."""

    def __init__(self, size: int, dim: int, commitment: float, *, revive: bool = True) -> None:
        super().__init__()
        try:
            module: Any = import_module("vector_quantize_pytorch")
        except ImportError as error:
            raise ConfigError("a learned codebook needs `pip install 'rillvox[train]'`") from error
        self.commitment = commitment
        self.quantize: Any = module.VectorQuantize(
            dim=dim,
            codebook_size=size,
            decay=0.99,
            kmeans_init=revive,
            threshold_ema_dead_code=2 if revive else 0,
            commitment_weight=0.0,
        )

    def forward(self, z: Tensor, book: SemanticCodebook, ids: Tensor, draw: Tensor) -> Named:
        """As `TeacherCodes.forward`; the entries move, in training, and are copied to `book`."""
        entry, ids, _ = self.quantize(z.float())
        with torch.no_grad():
            book.embedding_sum.copy_(self.quantize.codebook)
            book.cluster_usage.fill_(1.0)
        return committed(z, entry.detach(), ids, draw, self.commitment)


def committed(z: Tensor, entry: Tensor, ids: Tensor, draw: Tensor, weight: float) -> Named:
    """Straight through the nearest entry in half the items, with the square distance to it as loss."""
    straight = z + (entry - z).detach()
    commitment = (z - entry.detach()).square().mean()
    share = torch.bincount(ids.flatten(), minlength=1).float() / ids.numel()
    perplexity = torch.exp(-(share * (share + 1e-12).log()).sum())
    return Named(
        given=torch.where(draw[:, None, None] < 0.5, straight, z),
        entry=straight,
        loss=weight * commitment,
        figures={"commitment": commitment.detach(), "batch_perplexity": perplexity},
    )


def unused(distance: Tensor, variance: float) -> Tensor:
    """Nats between how evenly entries are meant in a batch and all of them alike.

    Each latent means the entries by a softmax over its square distances [batch, frames, size], in units of
    the entries' variance.
    """
    # Entries that are all the same have no variance, and nothing to be told apart by.
    share = torch.softmax(-SHARPNESS * distance / max(variance, 1e-12), -1).mean((0, 1))
    return math.log(len(share)) + (share * (share + 1e-12).log()).sum()


def squares(z: Tensor, entries: Tensor) -> Tensor:
    """Square distances [..., size] of latents [..., dim] to entries [size, dim]."""
    return z.square().sum(-1, keepdim=True) + entries.square().sum(-1) - 2 * z @ entries.T


def grid(dim: int, generator: torch.Generator) -> Tensor:
    """Entries [8192, dim] of `fsq`: a grid in -1..1 along five orthonormal directions.

    The nearest entry is the nearest level along every direction, so it is finite scalar quantisation without
    another kind of quantiser.
    """
    directions = _qr(torch.randn(dim, len(FSQ_LEVELS), generator=generator))[0]
    axes = [torch.linspace(-1, 1, levels) for levels in FSQ_LEVELS]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    return points @ directions.T


def _scale(entries: Tensor) -> float:
    """So that commitment weighs the same whatever the units of a codebook."""
    return 1.0 / max(1e-6, float(entries.var(0).mean()))
