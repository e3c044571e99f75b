"""Training of a speaker of our own in stages: `rillvox train tts`.

`rillvox train speech` comes first, once for every speed: recordings as codes, with what they say and when.

1. `speak`: backbone, pointer and flow head.
2. `distill`: the flow head alone, until one step does what many did, guidance included. `selfless` is its
   negative control, without the term that makes the difference.
3. `export`: the averaged weights as a model folder.

Every stage resumes from its folder, logs to `log.jsonl` and keeps averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..codec.stream import Codec
from ..errors import CheckpointError, ConfigError
from ..training.loop import CHECKPOINT, Figures, LoopConfig, make_fabric, train
from .config import TTSConfig, small_tts
from .model import SpeakerModel
from .own import save_own
from .rows import SpeechBatch, SpeechRows
from .speech import Speech
from .tasks import Recipe, TTSTask

RECIPES = {
    "speak": Recipe(),
    "distill": Recipe(distil=True, dropout=0.0),
    "selfless": Recipe(distil=True, dropout=0.0, selfless=True),
}
STAGES = (*RECIPES, "export")
DEV_ROWS = 24
DISTILLED_STEPS = 2  # of a distilled head where nobody asks for another number; see training/LOG.md


@dataclass(frozen=True)
class TTSRun:
    """Where everything of one training lies, and how long its stages are."""

    speech: tuple[Path, ...]
    out: Path
    steps: int = 5000
    rows: int = 8
    time: int = 256  # positions of a row
    devices: int = 1
    precision: str = "auto"
    seed: int = 0
    rate: float = 1.0
    recipe: Recipe | None = None
    config: TTSConfig | None = None  # None: the default shape
    codec: str = "codec-24k"
    workers: int = 0
    graph: bool = False
    picked: int = 96  # positions of a row whose acoustic codes are learned in a step
    evaluate_every: int = 500
    save_seconds: float = 180.0


def main_train_tts(stage: str, run: TTSRun, say: Callable[[str], None] = print) -> None:
    """One stage of a run; the earlier ones must have been through.

    Raises:
        ConfigError: an unknown stage, or no speech.
        CheckpointError: an earlier stage that is missing.
    """
    if stage not in STAGES:
        raise ConfigError(f"stage must be {', '.join(STAGES)}, got {stage!r}")
    if run.graph and run.precision != "32-true":
        raise ConfigError("--graph needs --precision 32-true: what is captured has one precision")
    if stage == "export":
        export(run, say)
        return
    speeches = [Speech(folder) for folder in run.speech]
    if not speeches:
        raise ConfigError("--speech is missing: a folder made by `rillvox train speech`")
    frames = sum(clip.frames for speech in speeches for clip in speech.training())
    say(f"{len(speeches)} folders, {frames * 0.08 / 3600:.2f} hours to train on")
    train_stage(stage, run, speeches, say)


def train_stage(stage: str, run: TTSRun, speeches: Sequence[Speech], say: Callable[[str], None]) -> None:
    """Any stage that learns."""
    recipe = run.recipe or RECIPES[stage]
    torch.manual_seed(run.seed)  # pyright: ignore[reportUnknownMemberType]
    config = _config(run)
    teacher = None
    if recipe.distil:
        model = SpeakerModel(replace(config, flow=replace(config.flow, spans=True)))
        span = model.flow.span_projection
        assert span is not None
        nn.init.zeros_(span.weight)
        _fill(model, run.out / "speak", {"flow.span_projection.weight": span.weight.detach()})
        whole = SpeakerModel(config)
        _fill(whole, run.out / "speak")
        teacher = whole.flow
        config = model.config
        task = TTSTask(config, recipe, model=model, teacher=teacher, amp=False)
    else:
        task = TTSTask(config, recipe, amp=run.graph)
    peak = (4e-4 if recipe.distil else 1.2e-3) * run.rate
    learning = [p for p in task.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learning if p.dim() > 1], "lr": peak, "weight_decay": 0.05},
        {"params": [p for p in learning if p.dim() <= 1], "lr": peak, "weight_decay": 0.0},
    ]
    assert config.text is not None
    rows = SpeechRows(speeches, config.text, run.time, picked=run.picked)
    judged = SpeechRows(speeches[:1], config.text, run.time, picked=run.picked, held_out=True)
    dev = judged.draw(DEV_ROWS, np.random.default_rng(0)) if judged.there else None

    def draw(rng: np.random.Generator, _done: float) -> Any:
        return rows.draw(run.rows, rng)

    def evaluate(trained: nn.Module) -> Figures:
        assert isinstance(trained, TTSTask)
        return {} if dev is None else dev_figures(trained, dev)

    train(
        make_fabric(run.devices, run.precision),
        LoopConfig(
            run.steps,
            warmup=100,
            clip=1.0,
            ema=0.999,
            evaluate_every=run.evaluate_every,
            save_seconds=run.save_seconds,
            seed=run.seed,
        ),
        run.out / stage,
        task,
        groups,
        draw,
        evaluate,
        say,
        run.workers,
        run.graph,
    )


@torch.no_grad()
def dev_figures(task: TTSTask, batch: SpeechBatch) -> Figures:
    """The losses on held-out speakers, and of the semantic codes with a neighbour's text."""
    device = next(task.parameters()).device
    batch = SpeechBatch(*(getattr(batch, name).to(device) for name in batch.__dataclass_fields__))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
        _, figures = task(batch)
        if not task.recipe.distil:
            wrong = replace(batch, tokens=batch.tokens.roll(1, 0))
            figures["wrong_text"] = task(wrong)[1]["semantic"]
    return {f"dev_{name}": round(float(value), 4) for name, value in figures.items()}


def export(run: TTSRun, say: Callable[[str], None]) -> None:
    """`model/` in the run's folder: the speaker, with the distilled head if there is one."""
    config = _config(run)
    last = "distill" if (run.out / "distill" / CHECKPOINT).exists() else "speak"
    if last == "distill":
        config = replace(config, flow=replace(config.flow, spans=True, steps=DISTILLED_STEPS))
    model = SpeakerModel(config)
    _fill(model, run.out / last)
    codec = Codec.load(run.codec, weights="float32")
    save_own(model, run.out / "model", run.codec, codec.fingerprint)
    say(f"wrote {run.out / 'model'}, the head of the stage {last}")


def _config(run: TTSRun) -> TTSConfig:
    return run.config or small_tts(Codec.load(run.codec, weights="float32").config)


def _fill(model: SpeakerModel, folder: Path, more: Mapping[str, Tensor] | None = None) -> None:
    try:
        model.load_state_dict({**averaged(folder), **(more or {})})
    except RuntimeError as error:
        raise CheckpointError(f"{folder}: trained another shape") from error


def averaged(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of a stage's speaker."""
    try:
        kept = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: no checkpoint; run the stage `{folder.name}` first") from error
    weights: dict[str, Tensor] = kept["average"]
    return {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
