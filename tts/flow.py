"""The flow head: from a hidden state and noise to 36 acoustic values, by a few steps of Euler's method.

Voxtral TTS (arXiv 2603.25551) section 2.2. Three tokens, the values, the time and the hidden state, attend to
each other; the first one becomes a velocity. Time runs from noise at 0 to data at 1. Guidance takes the
velocity with the hidden state and the one without (zeros), `a v + (1 - a) v0`.

Unusual: time counts in 0..1, unscaled, cosines first; values are clamped once, at the end.
Here every row has its own number of steps, its own step and its own guidance (`Solving`), so sessions that
began at different times share a call; both branches of guidance are rows of one call; what doesn't change
between steps, the tokens of times and of the hidden state, is made once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..kernels.fused_tokens import FusedTokens, fits_tokens
from ..kernels.pack import pack_linears
from ..kernels.transformer import Transformer
from .config import EMPTY, END, SPECIAL, TTSConfig

MANY_STEPS = 16  # of Euler's, that stand for the whole way of which a distilled head knows a short one


@dataclass
class Solving:
    """Rows on their way from noise to values; a value that `FlowHead.advance` moves on."""

    x: Tensor  # [rows, acoustic_dim] float32
    hidden: Tensor  # [2 rows, dim]: tokens of the hidden states, then of none
    step: Tensor  # int64 [rows]
    steps: Tensor  # int64 [rows]
    guidance: Tensor  # float32 [rows]

    @property
    def left(self) -> Tensor:
        """Bool [rows]: who is not there yet."""
        return self.step < self.steps


class FlowHead(nn.Module):
    """Semantic head and flow; names follow the released checkpoint's `acoustic_transformer`."""

    def __init__(self, config: TTSConfig) -> None:
        super().__init__()
        flow, hidden = config.flow, config.backbone.dim
        self.config, self.values = flow, config.codec.acoustic_dim
        self.levels, self.semantic = config.codec.acoustic_levels, config.alphabets[0]
        self.input_projection = nn.Linear(self.values, flow.dim, bias=False)
        self.time_projection = nn.Linear(flow.dim, flow.dim, bias=False)
        self.llm_projection = nn.Linear(hidden, flow.dim, bias=False)
        self.stack = Transformer(flow.stack)
        self.fused: FusedTokens | None = None  # in its place, see `pack`
        self.euler = False  # of a head with spans: steps as if it knew of none, along its velocity
        self.code_embeddings = nn.Embedding(config.semantic_rows, flow.dim) if flow.named else None
        self.span_projection = nn.Linear(flow.dim, flow.dim, bias=False) if flow.spans else None
        self.acoustic_codebook_output = nn.Linear(flow.dim, self.values, bias=False)
        self.semantic_codebook_output = nn.Linear(hidden, config.semantic_rows, bias=False)

    def semantic_logits(self, hidden: Tensor) -> Tensor:
        """[..., dim] -> float32 [..., rows]; what is no code, and the empty one, at minus infinity."""
        logits = self.semantic_codebook_output(hidden).float()
        logits[..., EMPTY] = float("-inf")
        logits[..., self.semantic :] = float("-inf")
        return logits

    def time_embedding(self, time: Tensor) -> Tensor:
        """[...] in 0..1 -> [..., dim]: cosines, then sines, of time itself."""
        half = self.config.dim // 2
        exponent = -torch.arange(half, dtype=torch.float32, device=time.device) / half
        angles = time.float()[..., None] * torch.pow(10000.0, exponent)
        return torch.cat([angles.cos(), angles.sin()], -1)

    def condition(self, hidden: Tensor, semantic: Tensor | None = None) -> Tensor:
        """The third token [rows, dim] of hidden states [rows, backbone dim] and chosen codes int64 [rows]."""
        token = self.llm_projection(hidden)
        if self.code_embeddings is None:
            return token
        if semantic is None:
            raise ValueError("this head wants to know the semantic codes")
        return token + self.code_embeddings(semantic)

    def velocity(self, x: Tensor, time: Tensor, hidden: Tensor, span: Tensor | None = None) -> Tensor:
        """The way that values are going.

        Args:
            x: values [rows, acoustic_dim].
            time: [rows], in 0..1.
            hidden: [rows, dim], from `condition`, or zeros.
            span: [rows], how far the step goes, where the head knows of that; None: nowhere.

        Returns:
            float32 [rows, acoustic_dim].
        """
        kind = hidden.dtype
        when = self.time_projection(self.time_embedding(time).to(kind))
        if self.span_projection is not None:
            far = torch.zeros_like(time) if span is None else span
            when = when + self.span_projection(self.time_embedding(far).to(kind))
        tokens = [self.input_projection(x.to(kind)), when, hidden]
        x = torch.stack(tokens, 1)
        y = self.stack(x)[:, 0] if self.fused is None else self.fused.first(x)
        return self.acoustic_codebook_output(y).float()

    def pack(self) -> None:
        """Int8 weights, and the stack in one call where it fits; for a CPU, see `pack_linears`."""
        if fits_tokens(self.stack):
            self.fused = FusedTokens(self.stack)
            del self.stack
        pack_linears(self)

    def begin(
        self,
        hidden: Tensor,
        noise: Tensor,
        *,
        semantic: Tensor | None = None,
        steps: Tensor | int | None = None,
        guidance: Tensor | float | None = None,
    ) -> Solving:
        """Rows before their first step.

        Args:
            hidden: [rows, backbone dim], after the final norm.
            noise: [rows, acoustic_dim], standard normal.
            semantic: int64 [rows], the codes of these frames, for a head that knows them.
            steps, guidance: one for all, or [rows]; None: the config's.
        """
        rows, device = len(hidden), hidden.device
        asked = self.config.steps if steps is None else steps
        alpha = self.config.guidance if guidance is None else guidance
        token = self.condition(hidden, semantic)
        return Solving(
            noise.float(),
            torch.cat([token, torch.zeros_like(token)]),
            torch.zeros(rows, dtype=torch.int64, device=device),
            torch.as_tensor(asked, device=device).expand(rows),
            torch.as_tensor(alpha, dtype=torch.float32, device=device).expand(rows),
        )

    def advance(self, solving: Solving) -> None:
        """One step of every row that is not there yet, in place."""
        rows = len(solving.x)
        time = (solving.step / solving.steps).float()
        after = ((solving.step + 1) / solving.steps).float()
        if self.span_projection is not None:
            # Guidance is in the weights.
            span = None if self.euler else after - time
            velocity = self.velocity(solving.x, time, solving.hidden[:rows], span)
        else:
            both = self.velocity(torch.cat([solving.x] * 2), torch.cat([time] * 2), solving.hidden)
            alpha = solving.guidance[:, None]
            velocity = alpha * both[:rows] + (1 - alpha) * both[rows:]
        moved = solving.x + velocity * (after - time)[:, None]
        left = solving.left
        solving.x = torch.where(left[:, None], moved, solving.x)
        solving.step = solving.step + left

    def solve(
        self,
        hidden: Tensor,
        noise: Tensor,
        *,
        semantic: Tensor | None = None,
        steps: Tensor | int | None = None,
        guidance: Tensor | float | None = None,
    ) -> Tensor:
        """All steps of all rows at once: float32 [rows, acoustic_dim], before the clamp. See `begin`."""
        solving = self.begin(hidden, noise, semantic=semantic, steps=steps, guidance=guidance)
        for _ in range(int(solving.steps.max())):
            self.advance(solving)
        return solving.x

    def round(self, x: Tensor, semantic: Tensor) -> Tensor:
        """A frame of codes, int64 [rows, 1 + acoustic_dim], of values and semantic codes [rows].

        Of the frame that ends the audio all acoustic codes are those of nothing.
        """
        levels = torch.round((x.clamp(-1, 1) + 1) / 2 * (self.levels - 1)).long()
        levels = torch.where((semantic == END)[:, None], EMPTY, levels)
        return torch.cat([semantic[:, None], levels + SPECIAL], -1)
