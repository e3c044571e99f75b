"""Utterances of a speaker with text beside its frames, side by side: 80 ms of each with every tick.

Like `speaking.py`, whose random numbers and manners are used: an utterance sounds the same alone, in any row
of any batch, after a pause, and where it is resumed in another engine. Text may come while it is spoken; a
frame waits until the tokens that it looks ahead to are there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, VoiceError
from ..kernels.fused import FusedStack, fits_one_call
from ..kernels.pack import pack_linears
from ..kernels.sampling import normal, sample, uniform
from ..kernels.state import StateTree, flatten, reset
from ..kernels.state import leaf as leaf_of
from .aligned import Place
from .config import END
from .model import SpeakerModel
from .resume import Snapshot, put_in, take_out
from .speaking import MANNERS, NOISE, WORDS, Manner
from .tokens import PAUSE

MOVES = 2  # stream of random numbers, after those of `speaking`
STUCK = 12  # frames after which the pointer is pushed on; a phone of a second is none
LONGEST_PAUSE = 8  # the same for a pause
TAIL = 5  # frames after the last token; then it ends, whatever the model says


@dataclass
class Text:
    """Tokens of an utterance so far, and whether more may come."""

    tokens: list[int] = field(default_factory=list[int])
    whole: bool = False


class AlignedSpeaking:
    """Slots for utterances of one model: `open`, `say`, `tick`, `close`."""

    def __init__(
        self, model: SpeakerModel, slots: int = 1, *, chunk: int = 128, fused: FusedStack | None = None
    ) -> None:
        """`fused`: the backbone's step as one call, see `pack_speaker`."""
        text = model.config.text
        if text is None:
            raise ValueError("this model reads its text before it speaks: see Speaking")
        self.model, self.slots, self.chunk, self.config = model, slots, chunk, text
        weight = model.kind
        self.device, self.dtype = weight.device, weight.dtype
        self.state: StateTree = model.initial_state(
            slots, max_chunk=chunk, dtype=weight.dtype, device=weight.device
        )
        # Tokens from the pointer on that a frame may look at or begin.
        self.needed = max(text.ahead, text.most)
        self.text = [Text() for _ in range(slots)]
        flow, whole = model.config.flow, torch.int64
        self.fed = torch.zeros(slots, model.config.backbone.dim, dtype=self.dtype, device=self.device)
        self.timbre = torch.zeros_like(self.fed)  # of the voice, see `timbre.py`
        self.frame = torch.zeros(slots, dtype=whole, device=self.device)
        self.pointer, self.moved, self.age, self.seed, self.least = (
            torch.zeros_like(self.frame) for _ in range(5)
        )
        self.steps = torch.full_like(self.frame, flow.steps)
        self.guidance, self.noise, self.temperature, self.top_p = (
            torch.full((slots,), value, device=self.device) for value in (flow.guidance, 1.0, 0.0, 1.0)
        )
        self.haste = torch.zeros(slots, dtype=torch.float64, device=self.device)
        self.fused = fused

    @torch.inference_mode()
    def read(self, slot: int, rows: Tensor) -> None:
        """Forget what was in the slot and hear a voice: embedded frames [frames, dim]."""
        reset(self.state, [slot])
        active = torch.zeros(self.slots, dtype=torch.bool, device=self.device)
        active[slot] = True
        heard = (rows.to(self.device) + self.model.text.beside).to(self.dtype)
        for begin in range(0, len(heard), self.chunk):
            part = heard[begin : begin + self.chunk]
            x = part.new_zeros(self.slots, *part.shape)
            x[slot] = part
            self.model.step(x, self.state, active)

    def heard(self, slot: int, rows: int) -> dict[str, Tensor]:
        """What a slot remembers of the `rows` frames that it has read, keys and values of every layer."""
        return {name: leaf[slot, :, :rows].clone() for name, leaf in flatten(self.state) if leaf.dim() == 4}

    @torch.inference_mode()
    def open(
        self,
        slot: int,
        manner: Manner,
        heard: Mapping[str, Tensor] | None = None,
        timbre: Tensor | None = None,
    ) -> None:
        """Begin an utterance after what the slot has read, or after what another has; see `heard`.

        `timbre` [dim] is what the voice adds to every hidden state before the flow head; see `timbre.py`.

        Raises:
            VoiceError: what was heard is not of this model.
        """
        if heard is not None:
            self._recall(slot, heard)
        flow = self.model.config.flow
        self.text[slot] = Text()
        self.fed[slot] = self.model.text.begin.to(self.dtype)
        self.timbre[slot] = 0 if timbre is None else timbre.to(self.timbre)
        for counter in (self.frame, self.pointer, self.moved, self.age):
            counter[slot] = 0
        self.seed[slot], self.least[slot] = manner.seed, manner.min_frames
        self.haste[slot] = haste_of(manner.pace)
        self.steps[slot] = flow.steps if manner.steps is None else manner.steps
        self.guidance[slot] = flow.guidance if manner.guidance is None else manner.guidance
        self.noise[slot], self.temperature[slot] = manner.noise, manner.temperature
        self.top_p[slot] = manner.top_p

    def say(self, slot: int, tokens: Sequence[int], *, whole: bool) -> None:
        """More text; `whole`: there will be none after it."""
        self.text[slot].tokens.extend(tokens)
        self.text[slot].whole = whole

    def ready(self, slot: int) -> bool:
        """Whether the tokens that the next frame looks at are there."""
        text = self.text[slot]
        return text.whole or len(text.tokens) >= int(self.pointer[slot]) + self.needed

    @torch.inference_mode()
    def tick(self, active: Tensor) -> Tensor:
        """The next frame of every active slot, int64 [slots, codes] with special ids; junk for the others.

        A frame whose semantic code is `END` ends its utterance and holds no sound.
        """
        model = self.model
        around = self._windows()
        left = torch.tensor([len(text.tokens) for text in self.text], device=self.device) - self.pointer
        x = self.fed + model.text(Place(around, self.moved, self.age)).to(self.dtype)
        hidden = self._step(x[:, None], active)[:, 0]
        semantic = self._semantic(hidden, left)
        noise = normal(self.seed, self.frame, model.flow.values, stream=NOISE) * self.noise[:, None]
        values = model.flow.solve(
            hidden + self.timbre, noise, semantic=semantic, steps=self.steps, guidance=self.guidance
        )
        codes = model.flow.round(values, semantic)
        self.fed = torch.where(active[:, None], model.frame_embedding(codes).to(self.dtype), self.fed)
        self._move(hidden, left, around[:, self.config.behind], active)
        self.frame += active
        return codes

    @torch.inference_mode()
    def close(self, slot: int) -> None:
        """Forget an utterance, over or not; the slot is as it was when it was new, the others as they are."""
        reset(self.state, [slot])
        self.text[slot] = Text()
        for value in (self.fed, self.timbre, self.frame, self.pointer, self.moved, self.age):
            value[slot] = 0

    def snapshot(self, slot: int) -> Snapshot:
        """All that an utterance is after any frame, as named tensors; see `restore`."""
        text = self.text[slot]
        return take_out(self._rows(), slot) | {
            "tokens": torch.tensor(text.tokens, dtype=torch.int64),
            "whole": torch.tensor(text.whole),
        }

    @torch.inference_mode()
    def restore(self, slot: int, kept: Snapshot) -> None:
        """Go on with an utterance in any slot of any engine of this model and `chunk`, bit for bit.

        Raises:
            ConfigError: it is of another model, or of an engine made otherwise; the slot stays as it is.
        """
        text = {name: kept[name] for name in ("tokens", "whole") if name in kept}
        if len(text) < 2:
            raise ConfigError(
                "snapshot: tokens and whole are missing; take one with AlignedSpeaking.snapshot"
            )
        put_in(self._rows(), slot, {name: value for name, value in kept.items() if name not in text})
        tokens: list[int] = text["tokens"].tolist()  # pyright: ignore
        self.text[slot] = Text(tokens, bool(text["whole"]))

    def _rows(self) -> dict[str, Tensor]:
        """Everything that has a row for each slot."""
        names = ("fed", "timbre", "frame", "pointer", "moved", "age", "seed", "least", "haste")
        rows = {name: getattr(self, name) for name in (*names, *MANNERS)}
        return rows | {f"state.{name}": leaf for name, leaf in flatten(self.state)}

    def _recall(self, slot: int, heard: Mapping[str, Tensor]) -> None:
        leaves = {name: leaf for name, leaf in flatten(self.state) if leaf.dim() == 4}
        wrong = [n for n, leaf in leaves.items() if n not in heard or heard[n].shape[::2] != leaf.shape[1::2]]
        if wrong or len(heard) != len(leaves):
            raise VoiceError("this voice was heard by a model of another shape; clone it again with this one")
        reset(self.state, [slot])
        rows = 0
        for name, leaf in leaves.items():
            rows = heard[name].shape[1]
            if rows > leaf.shape[2]:
                raise VoiceError(f"this voice takes {rows} positions, there are {leaf.shape[2]}")
            leaf[slot, :, :rows] = heard[name].to(leaf)
        leaf_of(self.state, "position")[slot] = rows

    def _step(self, x: Tensor, active: Tensor) -> Tensor:
        if self.fused is None:
            return self.model.step(x, self.state, active)
        scale = torch.zeros_like(x)
        return self.fused.step(x, self.state, active, [scale] * self.model.config.backbone.n_layers)

    def _windows(self) -> Tensor:
        """int64 [slots, window]: tokens around the pointers."""
        config = self.config
        rows: list[list[int]] = []
        places: list[int] = self.pointer.tolist()  # pyright: ignore
        for text, pointer in zip(self.text, places, strict=True):
            first = pointer - 1 - config.behind
            row = [0] * max(0, -first) + text.tokens[max(0, first) : first + config.window]
            rows.append(row + [0] * (config.window - len(row)))
        return torch.tensor(rows, dtype=torch.int64, device=self.device)

    def _semantic(self, hidden: Tensor, left: Tensor) -> Tensor:
        logits = self.model.flow.semantic_logits(hidden)
        over = torch.tensor([text.whole for text in self.text], device=self.device) & (left <= 0)
        over &= self.frame >= self.least
        # The end comes after the text, and then soon.
        logits[:, END] = torch.where(over, logits[:, END], float("-inf"))
        late = over & (self.age >= TAIL)
        logits[late] = float("-inf")
        logits[late, END] = 0.0
        return sample(
            logits, self.seed, self.frame, temperature=self.temperature, top_p=self.top_p, stream=WORDS
        )

    def _move(self, hidden: Tensor, left: Tensor, said: Tensor, active: Tensor) -> None:
        """Draw how many of the `left` tokens begin in the next frame, now that `said` is being said."""
        most = self.config.most
        logits = self.model.text.advance(hidden).float()
        longest = torch.where(said == PAUSE, LONGEST_PAUSE, STUCK)
        stuck = (self.age + 1 >= longest) & (left > 0)
        logits[:, 0] = torch.where(stuck, float("-inf"), logits[:, 0])
        beyond = torch.arange(most + 1, device=self.device) > left[:, None].clamp(min=0)
        logits = logits.masked_fill(beyond, float("-inf"))
        mark = uniform(self.seed, self.frame, stream=MOVES)
        haste = self.haste[:, None] * torch.arange(most + 1, device=self.device)
        chances = (logits.double() / MOVE_TEMPERATURE + haste).softmax(-1)
        move = (chances.cumsum(-1) <= mark).sum(-1).clamp(max=most)
        self.moved = torch.where(active, move, self.moved)
        self.age = torch.where(active, torch.where(move > 0, 0, self.age + 1), self.age)
        self.pointer += torch.where(active, move, 0)


def pack_speaker(model: SpeakerModel) -> FusedStack | None:
    """Give text and flow head int8 weights, in place, and the backbone's step as one call; for a CPU.

    What a row gives then doesn't depend on how many there are. The backbone stays: it reads voices, many
    frames at once.
    """
    pack_linears(model.text)
    model.flow.pack()
    return FusedStack(model.backbone) if fits_one_call(model.backbone) else None


def haste_of(pace: float) -> float:
    """What each token that begins in a frame adds to the logit of that move, for speech so much faster."""
    paces, hastes = zip(*HASTE, strict=True)
    return float(np.interp(math.log(pace), np.log(paces), hastes))


# Measured with the default model, not derived: the model feels how long it has been at a token and makes up
# for some of it. `tests/tts/test_default_speaker.py` measures what comes out.
HASTE = ((0.7, -4.1), (1.0, 0.0), (1.2, 2.1), (1.29, 2.4), (1.43, 2.6))
MOVE_TEMPERATURE = 0.5  # of the pointer; the likeliest move alone makes speech hasty and even
