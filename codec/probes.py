"""What codes give away: small classifiers that try to read from them what should not be there.

After SecoustiCodec (arXiv 2508.02849): who speaks should not be in the semantic codes, which phone is said
should be there and less so in the acoustic ones. A probe that finds nothing proves nothing unless the same
probe finds it where it must be, so each comes with its controls: the other half of the codes, and labels that
were shuffled. `leak = (accuracy - chance) / (1 - chance)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WINDOW = 25  # frames whose mean says who speaks: 2 s
FOLDS = 5
PENALTY = 1e-2  # on the weights, whose inputs are of unit variance
ROUNDS = 60

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Leak:
    """How much of a label a linear classifier reads, on clips that it was not fitted to."""

    accuracy: float
    chance: float  # share of the commonest label
    samples: int

    @property
    def leak(self) -> float:
        """0: no better than always guessing the commonest; 1: always right."""
        return (self.accuracy - self.chance) / max(1e-9, 1 - self.chance)


def probe(inputs: Floats, labels: Labels, groups: Labels) -> Leak:
    """Logistic regression, fitted and judged on different groups, in turns.

    Args:
        inputs: [samples, features].
        labels: [samples], any whole numbers.
        groups: [samples], what must not be on both sides, such as the clip.

    Raises:
        ValueError: fewer than two groups or two labels.
    """
    names, classes = np.unique(labels, return_inverse=True)
    places = np.unique(groups, return_inverse=True)[1]
    if len(names) < 2 or places.max() < 1:
        raise ValueError("a probe needs two labels and two groups at least")
    folds = min(FOLDS, int(places.max()) + 1)
    # Groups go to folds in a drawn order: clips of a speaker lie side by side in lists.
    fold = np.random.default_rng(0).permutation(int(places.max()) + 1)[places] % folds
    right = 0
    for held in range(folds):
        fit, judge = fold != held, fold == held
        mean, spread = inputs[fit].mean(0), inputs[fit].std(0) + 1e-6
        x = torch.as_tensor((inputs - mean) / spread, dtype=torch.float32)
        weights = _fit(x[fit], torch.as_tensor(classes[fit]), len(names))
        right += int((weights(x[judge]).argmax(-1).numpy() == classes[judge]).sum())
    chance = np.bincount(classes).max() / len(classes)
    return Leak(right / len(classes), float(chance), len(classes))


def _fit(x: Tensor, y: Tensor, classes: int) -> nn.Linear:
    layer = nn.Linear(x.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(layer(x), y) + PENALTY * layer.weight.square().sum()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        return loss

    optimizer.step(closure)  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
    return layer


def leaks(
    semantic: Sequence[Floats],
    acoustic: Sequence[Floats],
    speakers: Sequence[str],
    phones: Sequence[Labels] | None,
) -> dict[str, dict[str, float]]:
    """All probes with their controls.

    Args:
        semantic, acoustic: per clip [frames, features], what the decoder is given for the codes.
        speakers: one a clip.
        phones: per clip the phone of every frame, 0 where there is none; None leaves those probes out.

    Returns:
        By name `accuracy`, `chance`, `leak` and `samples`. Speakers are left out where fewer than two have
        two clips, phones where fewer than two clips or phones are heard.
    """
    found: dict[str, Leak] = {}
    rng = np.random.default_rng(0)
    often = {name for name in speakers if speakers.count(name) > 1}
    names = sorted(often)
    if len(names) > 1:
        clips = [index for index, name in enumerate(speakers) if name in often]
        who, group, means = _windows(clips, [names.index(speakers[i]) for i in clips], semantic, acoustic)
        found["speaker from semantic codes"] = probe(means[0], who, group)
        found["speaker from acoustic codes (control)"] = probe(means[1], who, group)
        mixed = dict(zip(clips, rng.permutation([names.index(speakers[i]) for i in clips]), strict=True))
        found["shuffled speaker from acoustic codes (control)"] = probe(
            means[1], np.array([mixed[int(g)] for g in group]), group
        )
    if phones is not None:
        label = np.concatenate(phones)
        group = np.repeat(np.arange(len(phones)), [len(each) for each in phones])
        said = label > 0
        if len(set(group[said].tolist())) < 2 or len(set(label[said].tolist())) < 2:
            return _table(found)
        a, s = np.concatenate(acoustic)[said], np.concatenate(semantic)[said]
        label, group = label[said], group[said]
        found["phone from acoustic codes"] = probe(a, label, group)
        found["phone from semantic codes (control)"] = probe(s, label, group)
        found["shuffled phone from semantic codes (control)"] = probe(s, rng.permutation(label), group)
    return _table(found)


def _table(found: dict[str, Leak]) -> dict[str, dict[str, float]]:
    return {name: asdict(leak) | {"leak": leak.leak} for name, leak in found.items()}


def _windows(
    clips: Sequence[int], who: Sequence[int], semantic: Sequence[Floats], acoustic: Sequence[Floats]
) -> tuple[Labels, Labels, tuple[Floats, Floats]]:
    """Means over two seconds: speaker, clip and both kinds of features of each."""
    labels: list[int] = []
    groups: list[int] = []
    means: tuple[list[Floats], list[Floats]] = ([], [])
    for clip, name in zip(clips, who, strict=True):
        count = max(1, len(semantic[clip]) // WINDOW)
        for part in np.array_split(np.arange(len(semantic[clip])), count):
            labels.append(name)
            groups.append(clip)
            for kept, source in zip(means, (semantic, acoustic), strict=True):
                kept.append(source[clip][part].mean(0))
    return np.array(labels), np.array(groups), (np.stack(means[0]), np.stack(means[1]))
