"""What a speaker prefers: direct preference optimisation of codes, moves and flow.

Voxtral TTS (arXiv 2603.25551) section 3: DPO (arXiv 2305.18290) on the semantic codes, its flow-matching
counterpart on the acoustic ones, both with equal weight, and the plain objective on recordings beside them.

- The pointer's moves belong to what is preferred. They are drawn from the model like the codes, so a take's
  probability is the product over both, and skipped or drawn-out words, which this stage is to cure, are made
  of moves more than of codes. Where the speaker was forced (an end, a push onwards, nothing left to begin),
  nothing was chosen, and nothing counts.
- The stage comes before `distill`: a flow map's diagonal would learn, but its long steps, which are what is
  spoken with, would not follow. A head that knows of spans is refused; distil again from these weights.
- Sums over frames, not means: dividing by the length made the paper's training unstable.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from .config import SPECIAL, TTSConfig
from .model import SpeakerModel
from .pairs import PairBatch
from .rows import SpeechBatch
from .tasks import Recipe, TTSTask

BETA, FLOW_BETA = 0.1, 0.5


class Preferences(NamedTuple):
    """Of takes [2 pairs]: how much likelier each is than it was to the reference."""

    named: Tensor  # log-ratio of codes and moves, float32 [2 pairs]
    flowed: Tensor  # minus the change of the flow's squared error, float32 [2 pairs]


class PreferenceTask(TTSTask):
    """A speaker with a frozen copy of itself as it was in the beginning.

    Args:
        model: the weights to begin with.
        plain: weight of the objective on recordings.

    Raises:
        ConfigError: a distilled head, or a recipe with dropout: against a reference that is whole, what it
            drops would count as preference.
    """

    def __init__(self, config: TTSConfig, recipe: Recipe, *, model: SpeakerModel, plain: float = 1.0) -> None:
        if config.flow.spans:
            raise ConfigError("preferences are learned before the flow head is distilled, not after")
        if recipe.dropout:
            raise ConfigError(f"preferences are learned without dropout, got {recipe.dropout}")
        super().__init__(config, recipe, model=model)
        self.plain = plain
        self.reference = TTSTask(config, recipe, model=copy.deepcopy(model))
        self.reference.requires_grad_(False)

    def forward(self, batch: SpeechBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Preferences and the plain objective of a `PairBatch`; the latter alone where no pairs are judged.

        Raises:
            ConfigError: a batch to learn from that has no pairs, or half a pair.
        """
        if not isinstance(batch, PairBatch):
            if self.training:
                raise ConfigError("a batch without pairs: there is nothing to prefer in it")
            return super().forward(batch)
        loss, figures = super().forward(batch)
        preferred, more = self.preferred(batch.takes)
        return preferred + self.plain * loss, {**figures, **more}

    def preferred(self, takes: SpeechBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Both losses of takes [2 pairs], added, and figures: each alone, and how many pairs are right."""
        found = self.compared(takes)
        named, flowed = preference_loss(found.named, BETA), preference_loss(found.flowed, FLOW_BETA)
        better, worse = found.named.detach().chunk(2)
        flow_better, flow_worse = found.flowed.detach().chunk(2)
        return named + flowed, {
            "preference": named.detach(),
            "preference_flow": flowed.detach(),
            "preferred": (better > worse).float().mean(),
            "preferred_flow": (flow_better > flow_worse).float().mean(),
            # Both may fall while their difference grows; a fall of the better one is what to watch.
            "better": better.mean(),
            "worse": worse.mean(),
        }

    def compared(self, takes: SpeechBatch) -> Preferences:
        """Policy against reference, with the same times and noise for both.

        Raises:
            ConfigError: no pairs, half a pair, or takes of nothing.
        """
        count = len(takes.codes)
        if not count or count % 2:
            raise ConfigError(f"takes come in pairs, got {count} of them")
        if not bool((takes.semantic >= SPECIAL).any()):
            raise ConfigError("takes hold frames that sound, these have none")
        # Differences of long sums of squares: in bfloat16 rounding would be preferred.
        with torch.autocast(takes.codes.device.type, enabled=False):
            values, time, noise = self._drawn(takes)
            policy = self.hidden(takes)
            with torch.no_grad():
                before = self.reference.hidden(takes)
                named = named_likelihood(self.reference.model, takes, before)
                missed = flow_error(self.reference.model, takes, before, values, time, noise)
            return Preferences(
                named_likelihood(self.model, takes, policy) - named,
                missed - flow_error(self.model, takes, policy, values, time, noise),
            )

    def _drawn(self, takes: SpeechBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Values [frames, 36] within their levels, times [frames] and noise [frames, 36] of all takes."""
        levels = takes.acoustic[takes.semantic >= SPECIAL].float()
        top = self.config.codec.acoustic_levels - 1
        values = (levels + torch.rand_like(levels) - 0.5) * 2 / top - 1
        return values, torch.rand(len(values), device=values.device), torch.randn_like(values)


def preference_loss(ratio: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta * (better - worse)), the mean over pairs, of log-ratios [2 pairs] of takes."""
    better, worse = ratio.chunk(2)
    return -F.logsigmoid(beta * (better - worse)).mean()


def named_likelihood(model: SpeakerModel, takes: SpeechBatch, hidden: Tensor) -> Tensor:
    """Sum of the log-probabilities of all chosen codes and moves, float32 [takes].

    As the model gives them, at temperature 1: the manner of speaking isn't learned.
    """
    logits = model.flow.semantic_codebook_output(hidden)[..., : model.flow.semantic].float()
    moves = model.text.advance(hidden).float()
    return _chosen(logits, takes.semantic) + _chosen(moves, takes.advance)


def _chosen(logits: Tensor, chosen: Tensor) -> Tensor:
    each = logits.log_softmax(-1).gather(-1, chosen.clamp(min=0)[..., None])[..., 0]
    return torch.where(chosen >= 0, each, 0.0).sum(-1)


def flow_error(
    model: SpeakerModel, takes: SpeechBatch, hidden: Tensor, values: Tensor, time: Tensor, noise: Tensor
) -> Tensor:
    """Sum over all frames that sound of |v(x_t, t) - (values - noise)|^2, float32 [takes].

    Args:
        values, noise: [frames, 36] of all takes' frames, row by row.
        time: [frames], from noise at 0 to data at 1.
    """
    sounds = takes.semantic >= SPECIAL
    token = model.flow.condition(hidden[sounds], takes.semantic[sounds])
    x = torch.lerp(noise, values, time[:, None])
    missed = (model.flow.velocity(x, time, token) - (values - noise)).square().sum(-1)
    rows = sounds.nonzero()[:, 0]
    return missed.new_zeros(len(sounds)).index_add(0, rows, missed)
