"""A clone that comes nearer to whom it is of: a constant step of the hidden state before the flow head.

What a speaker has kept of a voice names its kind: pitch, sex, age. Which of all people of that kind it is, a
model that has heard few can hardly tell from a few seconds, but it can be sought: the step with which the
head gives, for the frames of the reference, the acoustic codes that are there. A free step would learn the
sentence along with the voice; so it is made of the few ways in which people differ (`train_timbres.py`), as
eigenvoices are (Kuhn et al., Rapid Speaker Adaptation in Eigenvoice Space, IEEE TSAP 8(6), 2000).

What is made small is the energy score (Gneiting and Raftery, JASA 102, 2007) of frames as the head draws
them: a squared error would ask for the mean, which sounds like nobody. The step is added while speaking and
nothing else changes, so it costs nothing there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ..audio import Audio
from ..errors import CheckpointError
from .aligned import Place, pointers, steps_of, windows
from .config import SPECIAL
from .flow import FlowHead
from .model import SpeakerModel
from .tokens import FIRST, PAUSE, PAUSE_FRAMES, STOP

TIMBRES = "timbres.safetensors"
FORMAT = "rillvox-timbres"
STEPS, FRAMES, RATE = 60, 48, 0.1  # of the search: Adam's steps, frames of each, its rate
RESTRAINT = 1e-3  # on the squares of how far it goes each way
NOISE = 0.7  # that the head begins with in the search; speaking takes less, which is clearer
STRENGTH = 0.7  # of what is found: all of it costs more phones than it brings likeness
SEARCH = STEPS, FRAMES, RATE, RESTRAINT, NOISE, STRENGTH  # what decides on what is found
TINY = 1e-12
FRAME, PHONE_FRAME = 0.08, 0.02  # seconds


class HeardPhone(Protocol):
    """A phone 1..39 (`tokens.PHONES`) and its seconds."""

    @property
    def phone(self) -> int: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


class PhoneListener(Protocol):
    """Hears the phones of a recording, as `rillvox.ASR` does."""

    def phones(self, audio: Audio, /) -> Sequence[HeardPhone]: ...


@dataclass(frozen=True)
class Timbres:
    """How people differ.

    `usual` [dim] is what the search takes for granted and speaking leaves out: a reference is not as clear as
    guided speech is. `ways` [ways, dim] are the directions of the search.
    """

    usual: Tensor
    ways: Tensor

    @classmethod
    def load(cls, path: Path, dim: int) -> Timbres:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is damaged, or of another model's width.
        """
        try:
            with safe_open(str(path), "pt") as file:  # pyright: ignore[reportUnknownVariableType]
                about: dict[str, str] = dict(file.metadata() or {})  # pyright: ignore
                kept: list[Tensor] = [file.get_tensor(name).float() for name in ("usual", "ways")]  # pyright: ignore
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: holds no timbres, or is damaged ({error})") from error
        usual, ways = kept
        fits = usual.shape == (dim,) and ways.shape[1:] == (dim,) and len(ways) > 0
        if about.get("format") != FORMAT or not fits:
            raise CheckpointError(f"{path}: holds no timbres of a model {dim} wide")
        if not bool(torch.isfinite(usual).all() and torch.isfinite(ways).all()):
            raise CheckpointError(f"{path}: holds a number that is not finite")
        return cls(usual, ways)

    def save(self, path: Path) -> None:
        """Write the file as float16; it is moved there when it is whole.

        Raises:
            CheckpointError: it cannot be written, or a number is too large.
        """
        draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            kept = {"usual": self.usual.half().contiguous(), "ways": self.ways.half().contiguous()}
            if not all(bool(torch.isfinite(value).all()) for value in kept.values()):
                raise CheckpointError(f"{path}: a number is not finite as float16; nothing is written")
            save_file(kept, draft, metadata={"format": FORMAT})
            draft.replace(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be written: {error}") from error
        finally:
            draft.unlink(missing_ok=True)


def is_timbres(path: Path) -> bool:
    """Whether a file was written by `Timbres.save`."""
    try:
        with safe_open(str(path), "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            return (file.metadata() or {}).get("format") == FORMAT  # pyright: ignore
    except (OSError, SafetensorError):
        return False


@dataclass(frozen=True)
class Lesson:
    """Frames of a reference: what the speaker thinks before each, [frames, dim], and its codes."""

    hidden: Tensor
    codes: Tensor  # int64 [frames, codes], without special ids


def tokens_heard(phones: Sequence[HeardPhone]) -> tuple[list[int], list[float]]:
    """What a speaker reads of phones without words, and when each token begins, in frames of 80 ms."""
    tokens: list[int] = []
    starts: list[float] = []
    end = 0.0
    for number, heard in enumerate(phones):
        apart = heard.start - end > PAUSE_FRAMES * PHONE_FRAME
        if number and apart:
            tokens.append(PAUSE)
            starts.append(end / FRAME)
        tokens.append(heard.phone + FIRST if apart or not number else heard.phone)
        starts.append(heard.start / FRAME)
        end = heard.end
    return [*tokens, STOP], [*starts, end / FRAME]


@torch.no_grad()
def lesson_of(model: SpeakerModel, codes: Tensor, phones: Sequence[HeardPhone]) -> Lesson:
    """Let a model speak each half of a reference after it has heard the other one.

    Args:
        codes: int [frames, codes], from 0, two frames at least.
        phones: what is said in them.
    """
    codes = codes.long()
    tokens, starts = (np.array(part) for part in tokens_heard(phones))
    middle = len(codes) // 2
    halves = [
        _spoken(model, torch.cat([codes[end:], codes[:begin]]), codes[begin:end], tokens, starts - begin)
        for begin, end in ((0, middle), (middle, len(codes)))
    ]
    return Lesson(torch.cat(halves), codes)


def _spoken(
    model: SpeakerModel,
    voice: Tensor,
    said: Tensor,
    tokens: NDArray[np.int64],
    starts: NDArray[np.float64],
) -> Tensor:
    """Hidden states [frames, dim] before every frame that is said after a voice."""
    text = model.config.text
    assert text is not None
    first = int((starts < 0).sum())
    pointer = pointers(starts[first:], len(said) + 1, text.most)
    moved, age = steps_of(pointer)
    around = windows(tokens[first:], pointer, text)
    beside = model.text(Place(*(torch.as_tensor(part) for part in (around, moved, age))))
    fed = model.frame_embedding(torch.cat([voice, said]) + SPECIAL)
    heard, begin = fed[: len(voice)] + model.text.beside, model.text.begin + beside[:1]
    x = torch.cat([heard, begin, fed[len(voice) :] + beside[1:]])
    return model(x[None])[0, len(voice) : len(voice) + len(said)]


def missed(flow: FlowHead, hidden: Tensor, codes: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """The energy score of frames drawn twice, and the codes that were there: lower is nearer.

    Args:
        hidden: [rows, dim].
        codes: int64 [rows, codes].
        noise: how much of it the head begins with.
    """
    rows = len(hidden)
    levels = codes[:, 1:].float() + torch.rand(rows, flow.values, generator=generator) - 0.5
    there = levels * 2 / (flow.levels - 1) - 1
    start = noise * torch.randn(2 * rows, flow.values, generator=generator)
    semantic = (codes[:, 0] + SPECIAL).repeat(2)
    one, other = flow.solve(hidden.repeat(2, 1), start, semantic=semantic).chunk(2)
    near = _length(one - there) + _length(other - there)
    return 0.5 * (near - _length(one - other)).mean()


def _length(x: Tensor) -> Tensor:
    return x.square().sum(1).clamp(min=TINY).sqrt()  # the root has no gradient at 0


def tuned(flow: FlowHead, timbres: Timbres, lesson: Lesson, noise: float = NOISE, *, seed: int = 0) -> Tensor:
    """The step [dim] of a voice, with `STRENGTH` in it; always the same for a seed.

    Args:
        flow: in float32; nothing in it changes.
        noise: see `missed`.
    """
    generator = torch.Generator().manual_seed(seed)
    # Whoever clones may do so in inference mode, whose tensors have no gradient.
    with torch.inference_mode(False), torch.enable_grad():
        far = torch.zeros(len(timbres.ways), requires_grad=True)
        optimizer = torch.optim.Adam([far], lr=RATE)
        lesson = Lesson(lesson.hidden.clone(), lesson.codes.clone())
        timbres = Timbres(timbres.usual.clone(), timbres.ways.clone())
        for _ in range(STEPS):
            some = torch.randperm(len(lesson.codes), generator=generator)[:FRAMES]
            hidden = lesson.hidden[some] + timbres.usual + far @ timbres.ways
            loss = missed(flow, hidden, lesson.codes[some], noise, generator)
            # Of what is sought alone: the head stays as it is, whoever it belongs to.
            (far.grad,) = torch.autograd.grad(loss + RESTRAINT * far.square().mean(), [far])
            optimizer.step()  # pyright: ignore[reportUnknownMemberType]
    return STRENGTH * (far @ timbres.ways).detach()
