"""What a speaker learns, as a module whose `forward(batch)` gives a loss and figures.

Semantic codes and the pointer by cross-entropy; acoustic codes by flow matching (Voxtral TTS, arXiv
2603.25551 section 3), several draws of noise and time for one pass of the backbone; `distil` by Lagrangian
self-distillation (arXiv 2505.18825), which makes one step of many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..kernels.transformer import Transformer
from .aligned import Place
from .config import END, TTSConfig
from .flow import MANY_STEPS, FlowHead
from .model import SpeakerModel
from .rows import SpeechBatch

UNCONDITIONED = 0.1  # of the rows of the flow know nothing of the hidden state
APART_FRAMES, APART_NOISE = 384, 0.5  # see `TTSTask.apart`
FOLLOWED_STEPS = 8  # of the teacher's, for one of the head's
MISSED = 0.03  # about what is missed at first, divided by: so the rate of `distill` is right for it
MOST_STEPS = 4  # that a distilled head speaks with
SPOKEN_NOISE = (0.4, 1.0)  # its spread, see `Manner.noise`
UNNAMED = 0.3  # of them don't know the semantic code: what is said must not hang on one guess


@dataclass(frozen=True)
class Recipe:
    """Numbers of a stage."""

    distil: bool = False
    selfless: bool = False  # distil without its second term: the negative control
    follow: bool = False  # the teacher's path, in place of that: see `_followed`
    draws: int = 4  # of noise and time for each frame
    dropout: float = 0.2
    semantic: float = 0.5
    advance: float = 0.3
    flow: float = 1.0
    guidance: float = 2.0  # that is baked in while distilling
    head_only: bool = False  # the flow alone is learned, on a backbone that stays as it is


class TTSTask(nn.Module):
    """A speaker with its losses.

    Args:
        teacher: the head whose guided velocities are distilled; the model's own is trained then, and nothing
            else.
    """

    def __init__(
        self,
        config: TTSConfig,
        recipe: Recipe,
        *,
        model: SpeakerModel | None = None,
        teacher: FlowHead | None = None,
        amp: bool = False,
    ) -> None:
        super().__init__()
        if config.text is None:
            raise ValueError("only speakers with text beside their frames are trained here")
        self.config, self.recipe, self.amp = config, recipe, amp
        self.model = fresh(SpeakerModel(config)) if model is None else model
        self.teacher = teacher
        self.doubt = (
            nn.Linear(2, 1) if recipe.distil and not recipe.follow else None
        )  # nothing unused: see DDP
        if recipe.distil or recipe.head_only:
            self.model.requires_grad_(False)
            self.model.flow.requires_grad_(True)
            self.model.flow.semantic_codebook_output.requires_grad_(False)
        if self.doubt is not None:
            nn.init.zeros_(self.doubt.weight)
            nn.init.zeros_(self.doubt.bias)
        if teacher is not None:
            teacher.requires_grad_(False)
        drop_out(self.model.backbone, recipe.dropout)

    def forward(self, batch: SpeechBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the losses."""
        kind = batch.codes.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=self.amp, cache_enabled=False):
            if self.recipe.distil:
                with torch.no_grad():
                    hidden = self.hidden(batch)
                return self._followed(batch, hidden) if self.recipe.follow else self._distilled(batch, hidden)
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.recipe.head_only):
                hidden = self.hidden(batch)
            naming, figures = self._named(batch, hidden)
            values, chosen, semantic = self._picked(batch, hidden)
            flow = self._flow(values, chosen, semantic)
        figures["flow"] = flow.detach()
        return naming + self.recipe.flow * flow, figures

    def hidden(self, batch: SpeechBatch) -> Tensor:
        """[batch, time, dim], after the final norm."""
        model = self.model
        fed = model.frame_embedding(batch.codes)
        fed = torch.where(batch.first[..., None], model.text.begin.to(fed), fed)
        beside = model.text(Place(batch.tokens, batch.moved, batch.age))
        x = fed + torch.where(batch.voice[..., None], model.text.beside.to(beside), beside)
        return model(x)

    def _named(self, batch: SpeechBatch, hidden: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        flow = self.model.flow
        logits = flow.semantic_codebook_output(hidden)[..., : flow.semantic].float()
        known = batch.semantic >= 0
        each = F.cross_entropy(
            logits.transpose(1, 2),
            batch.semantic.clamp(min=0),
            reduction="none",
        )
        semantic = (each * known).sum() / known.sum()
        ends = batch.semantic == END
        right = (logits.argmax(-1) == batch.semantic) & known
        moves = self.model.text.advance(hidden).float()
        told = batch.advance >= 0
        each_move = F.cross_entropy(moves.transpose(1, 2), batch.advance.clamp(min=0), reduction="none")
        advance = (each_move * told).sum() / told.sum()
        return self.recipe.semantic * semantic + self.recipe.advance * advance, {
            "semantic": semantic.detach(),
            "right": right.sum() / known.sum(),
            "end": ((each.detach() * ends).sum() / ends.sum().clamp(min=1)),
            "advance": advance.detach(),
        }

    def _picked(self, batch: SpeechBatch, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values [rows, 36], hidden states and codes of the picked positions, `draws` times."""
        draws = self.recipe.draws
        at = batch.picked
        levels = torch.gather(batch.acoustic, 1, at[..., None].expand(-1, -1, batch.acoustic.shape[-1]))
        chosen = torch.gather(hidden, 1, at[..., None].expand(-1, -1, hidden.shape[-1]))
        # A frame that the teacher has no code for has the empty one.
        semantic = torch.gather(batch.semantic, 1, at).clamp(min=0).repeat(draws, 1)
        unnamed = torch.rand(semantic.shape, device=semantic.device) < UNNAMED
        semantic = torch.where(unnamed, torch.zeros_like(semantic), semantic)
        top = self.config.codec.acoustic_levels - 1
        # Anywhere within its level: a flow to points would learn the rounding.
        values = (levels.float() + torch.rand_like(levels, dtype=torch.float32) - 0.5) * 2 / top - 1
        return (
            values.flatten(0, 1).repeat(draws, 1),
            chosen.flatten(0, 1).repeat(draws, 1),
            semantic.flatten(),
        )

    def _flow(self, values: Tensor, hidden: Tensor, semantic: Tensor) -> Tensor:
        flow = self.model.flow
        time = _times(len(values), values.device)
        noise = torch.randn_like(values)
        x = torch.lerp(noise, values, time[:, None])
        token = flow.condition(hidden, semantic)
        free = torch.rand(len(values), 1, device=values.device) < UNCONDITIONED
        token = torch.where(free, torch.zeros_like(token), token)
        return F.mse_loss(flow.velocity(x, time, token), values - noise)

    def _distilled(self, batch: SpeechBatch, hidden: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """LSD: the map is right on its diagonal, and its own velocity along the way."""
        flow, teacher, doubt = self.model.flow, self.teacher, self.doubt
        assert teacher is not None
        assert doubt is not None
        values, chosen, semantic = self._picked(batch, hidden)
        rows = len(values)
        time, noise = _times(rows, values.device), torch.randn_like(values)
        x = torch.lerp(noise, values, time[:, None])
        with torch.no_grad():
            known = teacher.condition(chosen, semantic)
            wanted = self._guided(x, time, known)
        token = flow.condition(chosen, semantic)
        nowhere = torch.zeros_like(time)
        diagonal = (flow.velocity(x, time, token, nowhere) - wanted).square().mean(-1)
        loss = 0.75 * self._doubted(diagonal, time, nowhere)
        figures = {"diagonal": diagonal.mean().detach()}
        if self.recipe.selfless:
            return loss, figures
        # The second term, on a quarter of the rows.
        part = rows // 4
        pair = torch.stack([_times(part, values.device), _times(part, values.device)])
        begin, end = pair.min(0).values, pair.max(0).values
        x, token, part_noise = values[:part], token[:part], noise[:part]
        x = torch.lerp(part_noise, x, begin[:, None])

        def along(to: Tensor) -> Tensor:
            return flow.velocity(x, begin, token, to - begin)

        # Of all attention kernels only the plain one can be differentiated forwards.
        with sdpa_kernel(SDPBackend.MATH):
            velocity, change = _along(along, end)
        span = (end - begin)[:, None]
        with torch.no_grad():
            there = flow.velocity(x + span * velocity, end, token, nowhere[:part])
        missed = (velocity + span * change - there).square().mean(-1)
        figures["self"] = missed.mean().detach()
        return loss + 0.25 * self._doubted(missed, begin, end - begin), figures

    @torch.no_grad()
    def apart(self, batch: SpeechBatch, steps: int) -> Tensor:
        """How far the head gets in few steps from where its teacher gets in many, from the same noise.

        The mean square of acoustic values, which reach from -1 to 1; of some hundred frames.
        """
        assert self.teacher is not None
        _, chosen, semantic = self._picked(batch, self.hidden(batch))
        some = slice(None, None, max(1, len(chosen) // APART_FRAMES))
        chosen, semantic = chosen[some], semantic[some]
        noise = torch.randn(len(chosen), self.model.flow.values, device=chosen.device) * APART_NOISE
        few = self.model.flow.solve(chosen, noise, semantic=semantic, steps=steps)
        many = self.teacher.solve(
            chosen, noise, semantic=semantic, steps=MANY_STEPS, guidance=self.recipe.guidance
        )
        return (few.clamp(-1, 1) - many.clamp(-1, 1)).square().mean()

    def _guided(self, x: Tensor, time: Tensor, token: Tensor) -> Tensor:
        """The teacher's velocity."""
        teacher, alpha, rows = self.teacher, self.recipe.guidance, len(x)
        assert teacher is not None
        if alpha == 1:
            return teacher.velocity(x, time, token)
        both = teacher.velocity(x.repeat(2, 1), time.repeat(2), torch.cat([token, torch.zeros_like(token)]))
        return alpha * both[:rows] + (1 - alpha) * both[rows:]

    def _followed(self, batch: SpeechBatch, hidden: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """A step gets where the teacher's small ones get, from where speaking is.

        What LSD leaves to be done. Its law of times hardly ever gives 0, where every frame begins; it begins
        between noise and data of the recordings, where speaking with less noise and with guidance isn't; and
        its velocities along the way are its own. Here a step is one of those that frames are spoken with, or
        a part of one, on the way that the head itself has come, and the teacher goes on from there.
        """
        flow, teacher = self.model.flow, self.teacher
        assert teacher is not None
        _, chosen, semantic = self._picked(batch, hidden)
        rows, device = len(chosen), chosen.device
        steps = torch.randint(1, MOST_STEPS + 1, (rows,), device=device)
        place, part, spread = torch.rand(3, rows, device=device)
        step = (place * steps).floor()
        begin, span = step / steps, part / steps
        least, most = SPOKEN_NOISE
        noise = torch.randn(rows, flow.values, device=device) * (least + (most - least) * spread)[:, None]
        token = flow.condition(chosen, semantic)
        with torch.no_grad():
            come = flow.velocity(noise, torch.zeros_like(begin), token, begin)
            x = noise + begin[:, None] * come
            known = teacher.condition(chosen, semantic)
            there = x
            for number in range(FOLLOWED_STEPS):
                time = begin + span * (number / FOLLOWED_STEPS)
                there = there + self._guided(there, time, known) * (span / FOLLOWED_STEPS)[:, None]
        missed = (x + span[:, None] * flow.velocity(x, begin, token, span) - there).square().mean()
        return missed / MISSED, {"missed": missed.detach()}

    def _doubted(self, missed: Tensor, time: Tensor, span: Tensor) -> Tensor:
        """Weighted by a learned log-variance of where on the way it is."""
        assert self.doubt is not None
        weight = self.doubt(torch.stack([time, span], -1))[:, 0].float()
        return (missed * weight.exp() - weight).mean()


def _times(count: int, device: torch.device) -> Tensor:
    """More of the middle and of the data's side than of the ends."""
    return torch.sigmoid(torch.randn(count, device=device) + 0.4)


def _along(function: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, Tensor]:
    """What a function of [rows] gives, and how fast that changes with each row's number."""
    found: Any = torch.func.jvp(function, (at,), (torch.ones_like(at),))
    return found[0], found[1]


def drop_out(stack: Transformer, share: float) -> None:
    """While training, zero a share of what every sublayer adds."""

    def hook(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return F.dropout(output, share, module.training)

    for block in stack.blocks if share else []:
        block.attention.register_forward_hook(hook)
        block.feed_forward.register_forward_hook(hook)


def fresh(model: SpeakerModel) -> SpeakerModel:
    """Weights to begin with: sums of 37 embeddings, and outputs of deep stacks, of moderate size."""
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.5)
    nn.init.normal_(model.frame_embedding.embeddings.weight, std=0.5 / model.config.codec.codes**0.5)
    for stack in (model.backbone, model.flow.stack):
        depth = (2 * len(stack.layers)) ** 0.5
        for block in stack.blocks:
            with torch.no_grad():
                block.attention.wo.weight /= depth
                block.feed_forward.w2.weight /= depth
    nn.init.normal_(model.text.begin, std=0.5)
    if model.flow.span_projection is not None:
        nn.init.zeros_(model.flow.span_projection.weight)
    nn.init.zeros_(model.flow.acoustic_codebook_output.weight)
    return model
