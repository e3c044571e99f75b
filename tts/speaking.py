"""Several utterances spoken side by side, a frame of 80 ms for each of them with every tick.

Every random number of an utterance is a function of its seed and the frame, so it sounds the same alone, in
any row of any batch, and after a pause.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from operator import index

import torch
from torch import Tensor

from ..errors import ConfigError
from ..kernels.sampling import greedy, normal, sample
from ..kernels.state import StateTree, flatten, reset
from .config import END
from .model import SpeakerModel
from .resume import Snapshot, put_in, take_out

NOISE, WORDS = 0, 1  # streams of random numbers
MANNERS = ("steps", "guidance", "noise", "temperature", "top_p")  # what an engine has of them for each slot
SLOWEST, FASTEST = 0.7, 1.4  # within which paces were measured (`aligned_speaking.haste_of`)
SEEDS = 1 << 63


@dataclass(frozen=True)
class Manner:
    """How one utterance is spoken.

    The defaults are the released model's; `replace(tts.manner, pace=0.9)` keeps what a loaded speaker is used
    to otherwise.

    Raises:
        ConfigError: a number outside its range; the message names it.
    """

    seed: int = 0
    guidance: float | None = None  # None: the model's
    steps: int | None = None  # of Euler's method for a frame; None: the model's, 7 for the released one
    noise: float = 1.0  # spread of what the flow begins with; less is flatter
    temperature: float = 0.0  # of the semantic codes; 0: the likeliest
    top_p: float = 1.0
    min_frames: int = 0  # before which the audio must not end
    pace: float = 1.0  # 0.7 to 1.4 times as many phones a second; for models with text beside their frames

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "seed", index(self.seed))  # numpy's whole numbers are some, too
        except TypeError as error:
            raise ConfigError(f"manner.seed must be a whole number, got {self.seed!r}") from error
        for name, least, most in (
            ("seed", -SEEDS, SEEDS - 1),
            ("guidance", -math.inf, math.inf),
            ("steps", 1, 1000),
            ("noise", 0, math.inf),
            ("temperature", 0, math.inf),
            ("top_p", 1e-9, 1),
            ("min_frames", 0, SEEDS - 1),
            ("pace", SLOWEST, FASTEST),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # nan is in no range
                raise ConfigError(f"manner.{name} must be {least:g} to {most:g}, got {value}")


def of_sentence(manner: Manner, number: int) -> Manner:
    """The manner of a text's sentence: each draws differently, and the same whatever came before it."""
    return replace(manner, seed=(manner.seed + 0x9E3779B97F4A7C15 * number) % SEEDS)


class Speaking:
    """Slots for utterances of one model.

    `open` reads a prompt, `tick` speaks the next frame of the given slots, `close` frees one.
    """

    def __init__(self, model: SpeakerModel, slots: int = 1, *, chunk: int = 256) -> None:
        self.model, self.slots, self.chunk = model, slots, chunk
        weight = model.kind
        self.device, self.dtype = weight.device, weight.dtype
        self.state: StateTree = model.initial_state(
            slots, max_chunk=chunk, dtype=weight.dtype, device=weight.device
        )
        flow, whole = model.config.flow, torch.int64
        self.hidden = torch.zeros(slots, model.config.backbone.dim, dtype=self.dtype, device=self.device)
        self.frame = torch.zeros(slots, dtype=whole, device=self.device)
        self.seed = torch.zeros_like(self.frame)
        self.least = torch.zeros_like(self.frame)
        self.steps = torch.full_like(self.frame, flow.steps)
        self.guidance, self.noise, self.temperature, self.top_p = (
            torch.full((slots,), value, device=self.device) for value in (flow.guidance, 1.0, 0.0, 1.0)
        )

    @torch.inference_mode()
    def open(self, slot: int, prompt: Tensor, manner: Manner) -> None:
        """Begin an utterance: prompt [positions, dim], embedded; what was in the slot is forgotten."""
        reset(self.state, [slot])
        active = torch.zeros(self.slots, dtype=torch.bool, device=self.device)
        active[slot] = True
        for begin in range(0, len(prompt), self.chunk):
            part = prompt[begin : begin + self.chunk].to(self.dtype)
            x = part.new_zeros(self.slots, len(part), part.shape[1])
            x[slot] = part
            self.hidden[slot] = self.model.step(x, self.state, active)[slot, -1]
        flow = self.model.config.flow
        self.frame[slot], self.seed[slot], self.least[slot] = 0, manner.seed, manner.min_frames
        self.steps[slot] = flow.steps if manner.steps is None else manner.steps
        self.guidance[slot] = flow.guidance if manner.guidance is None else manner.guidance
        self.noise[slot], self.temperature[slot] = manner.noise, manner.temperature
        self.top_p[slot] = manner.top_p

    @torch.inference_mode()
    def tick(self, active: Tensor, noise: Tensor | None = None) -> Tensor:
        """The next frame of every active slot, int64 [slots, codes] with special ids; junk for the others.

        A frame whose semantic code is `END` ends its utterance and holds no sound; what is fed back in that
        case doesn't matter. `noise` [slots, acoustic_dim] stands in for the utterances' own.
        """
        model = self.model
        semantic = self._semantic()
        if noise is None:
            noise = normal(self.seed, self.frame, model.flow.values, stream=NOISE) * self.noise[:, None]
        x = model.flow.solve(self.hidden, noise, semantic=semantic, steps=self.steps, guidance=self.guidance)
        codes = model.flow.round(x, semantic)
        fed = model.frame_embedding(codes)[:, None].to(self.dtype)
        self.hidden = torch.where(active[:, None], model.step(fed, self.state, active)[:, 0], self.hidden)
        self.frame += active
        return codes

    @torch.inference_mode()
    def close(self, slot: int) -> None:
        """Forget an utterance, over or not; the slot is as it was when it was new, the others as they are."""
        reset(self.state, [slot])
        self.hidden[slot], self.frame[slot] = 0, 0

    def snapshot(self, slot: int) -> Snapshot:
        """All that an utterance is after any frame, as named tensors; see `restore`."""
        return take_out(self._rows(), slot)

    @torch.inference_mode()
    def restore(self, slot: int, kept: Snapshot) -> None:
        """Go on with an utterance in any slot of any engine of this model and `chunk`, bit for bit.

        Raises:
            ConfigError: it is of another model, or of an engine made otherwise; the slot stays as it is.
        """
        put_in(self._rows(), slot, kept)

    def _rows(self) -> dict[str, Tensor]:
        """Everything that has a row for each slot."""
        rows = {name: getattr(self, name) for name in ("hidden", "frame", "seed", "least", *MANNERS)}
        return rows | {f"state.{name}": leaf for name, leaf in flatten(self.state)}

    def _semantic(self) -> Tensor:
        logits = self.model.flow.semantic_logits(self.hidden)
        early = self.frame < self.least
        logits[:, END] = torch.where(early, float("-inf"), logits[:, END])
        if not bool((self.temperature > 0).any()):
            return greedy(logits)
        return sample(
            logits,
            self.seed,
            self.frame,
            temperature=self.temperature,
            top_p=self.top_p,
            stream=WORDS,
        )
