"""A teacher's frames to the codes of a codebook made from them: how `rillvox train sounds` names 80 ms.

Whisper's frames, four to a frame of the codec, without the mean of their place, reduced by their principal
axes, each divided by the root of its deviation, and clustered. A learned codebook collapses on little speech;
of this one nearly all entries are in use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ..errors import ConfigError

LONGEST = 28 * 16000  # samples that the teacher hears at once
PLACES = LONGEST // 320  # of the teacher's frames in a piece
PER_FRAME = 4  # frames of the teacher in one of the codec
# Frames of the teacher before the codec's own begins: the encoder, which hears nothing of what follows, names
# what it has heard the end of. At 40 ms it names a third more of them right than at none, at 80 ms no more.
LEAD = 2
ROUNDS = 12

_eigh = cast(
    "Callable[[Tensor], tuple[Tensor, Tensor]]",
    torch.linalg.eigh,  # pyright: ignore[reportUnknownMemberType]
)


@dataclass(frozen=True)
class Naming:
    """All that decides on a frame's code; float32."""

    mean: Tensor  # [places, heard]: of the teacher's frames at each place of what it hears at once
    centre: Tensor  # [heard]
    spread: Tensor  # [heard]
    project: Tensor  # [heard, dim]
    entries: Tensor  # [codes, dim]

    @classmethod
    def load(cls, folder: Path) -> Naming:
        """That of a folder of `train sounds`.

        Raises:
            ConfigError: there is none, or only its entries, as older folders have it.
        """
        path = folder / "codebook.safetensors"
        try:
            return cls(**load_file(str(path)))
        except (OSError, SafetensorError, TypeError) as error:
            raise ConfigError(
                f"{path}: does not tell how frames are named; make the folder anew with `train sounds`"
            ) from error

    def tensors(self) -> dict[str, Tensor]:
        """For a file; `load` reads it."""
        return {name: value.contiguous() for name, value in asdict(self).items()}

    def ids(self, heard: Sequence[NDArray[np.float16]]) -> NDArray[np.int16]:
        """Of each frame of clips [frames, heard] the code of the four from `LEAD` before it, or -1."""
        pooled, known = _pooled(heard, self.mean)
        return self._ids(pooled, known).numpy()

    def _ids(self, pooled: Tensor, known: Tensor) -> Tensor:
        ids = torch.full((len(pooled),), -1, dtype=torch.int16)
        for begin in range(0, len(pooled), 50_000):
            part = (pooled[begin : begin + 50_000] - self.centre) / self.spread @ self.project
            ids[begin : begin + 50_000] = nearest(part, self.entries).to(torch.int16)
        ids[~known] = -1
        return ids


def cluster(
    heard: Sequence[NDArray[np.float16]],
    free: NDArray[np.bool_],
    codes: int,
    dim: int,
    say: Callable[[str], None] = print,
) -> tuple[Naming, NDArray[np.int16]]:
    """A codebook from the frames that are `free`, and the codes of all.

    Raises:
        ConfigError: there are too few.
    """
    mean = _mean(heard)
    pooled, known = _pooled(heard, mean)
    generator = torch.Generator().manual_seed(0)
    usable = (known & torch.as_tensor(free)).nonzero().squeeze(1)
    sample = pooled[usable[torch.randperm(len(usable), generator=generator)[:400_000]]]
    centre, spread = sample.mean(0), sample.std(0).clamp(min=1e-3)
    scaled = (sample - centre) / spread
    values, axes = _eigh(scaled.T @ scaled / len(scaled))
    axes, values = axes[:, -dim:].flip(1), values[-dim:].flip(0).clamp(min=1e-6)
    project = axes / values**0.25  # divided by the root of the deviation, which is the root of the variance
    naming = Naming(mean, centre, spread, project, kmeans(scaled @ project, codes, generator, say))
    ids = naming._ids(pooled, known)  # pyright: ignore[reportPrivateUsage]
    share = torch.bincount(ids[usable].long(), minlength=codes) / len(usable)
    perplexity = float(torch.exp(-(share * (share + 1e-12).log()).sum()))
    say(f"{codes} codes, perplexity {perplexity:.0f}, {int((share == 0).sum())} unused")
    return naming, ids.numpy()


def _mean(heard: Sequence[NDArray[np.float16]]) -> Tensor:
    longest = min(PLACES, max(map(len, heard)))
    total, count = np.zeros((longest, heard[0].shape[1])), np.zeros(longest)
    for frames in heard:
        for begin in range(0, len(frames), PLACES):
            piece = frames[begin : begin + PLACES]
            total[: len(piece)] += piece
            count[: len(piece)] += 1
    mean = torch.as_tensor(total / count[:, None]).float()
    # Few clips are long: places with few frames take the mean of all that are as late.
    late = int(np.argmax(count < 200)) if (count < 200).any() else longest
    late = max(1, late)
    mean[late:] = mean[max(0, late - 50) : late].mean(0)
    return mean


def _pooled(heard: Sequence[NDArray[np.float16]], mean: Tensor) -> tuple[Tensor, Tensor]:
    """For each frame the mean of the four from `LEAD` before it, and whether all of them were heard."""
    means: list[Tensor] = []
    for frames in heard:
        place = torch.arange(len(frames)) % PLACES
        x = torch.as_tensor(frames).float() - mean[place.clamp(max=len(mean) - 1)]
        running = torch.cat([x.new_zeros(1, x.shape[1]), x.cumsum(0)])
        at = torch.arange(len(x)) - LEAD
        first, last = at.clamp(min=0), (at + PER_FRAME).clamp(max=len(x))
        means.append((running[last] - running[first]) / (last - first)[:, None])
    pooled = torch.cat(means)
    known = torch.ones(len(pooled), dtype=torch.bool)
    ends = np.cumsum([len(frames) for frames in heard])
    for back in range(1, PER_FRAME - LEAD):
        known[torch.as_tensor(ends - back)] = False
    return pooled, known


def nearest(points: Tensor, entries: Tensor) -> Tensor:
    """Index of the nearest entry of every point."""
    return (entries.square().sum(1) - 2 * points @ entries.T).argmin(1)


def kmeans(points: Tensor, codes: int, generator: torch.Generator, say: Callable[[str], None]) -> Tensor:
    """Lloyd's algorithm from random points; an entry that nobody wants moves to a random point."""
    if len(points) < codes:
        raise ConfigError(f"{len(points)} frames of speech are too few for {codes} codes")
    entries = points[torch.randperm(len(points), generator=generator)[:codes]].clone()
    for round_ in range(ROUNDS):
        ids = torch.cat([nearest(part, entries) for part in torch.split(points, 50_000)])
        total = torch.zeros_like(entries).index_add_(0, ids, points)
        count = torch.bincount(ids, minlength=codes)
        entries = total / count.clamp(min=1)[:, None]
        empty = (count == 0).nonzero().squeeze(1)
        entries[empty] = points[torch.randint(len(points), (len(empty),), generator=generator)]
        if round_ in (0, ROUNDS - 1):
            missed = (points - entries[ids]).square().mean() / points.var(0).mean()
            say(f"round {round_ + 1}: relative error {float(missed):.3f}")
    return entries
