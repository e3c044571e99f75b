"""Training of a speaker of our own in stages: `rillvox train tts`.

`rillvox train speech` comes first, once for every speed: recordings as codes, with what they say and when.

1. `speak`: backbone, pointer and flow head.
2. `dpo`, which may be left out: all of them again, towards the better of two takes of a text; the takes come
   from `rillvox train pairs`.
3. `distill`: the flow head alone, until one step does what many did, guidance included. `selfless` is its
   negative control, without the term that makes the difference.
4. `follow`, which may be left out: the distilled head goes on, along its teacher's path, from where speaking
   begins.
5. `export`: the averaged weights as a model folder.

Every stage resumes from its folder, logs to `log.jsonl` and keeps averaged weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
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
from .own import folder_of, load_own, save_own
from .pairs import PairRows, with_takes
from .preference import PreferenceTask
from .pronounce import SHIPPED
from .rows import SpeechBatch, SpeechRows
from .speech import Speech
from .tasks import Recipe, TTSTask
from .undistilled import undistilled

RECIPES = {
    "speak": Recipe(),
    "dpo": Recipe(dropout=0.0),
    "distill": Recipe(distil=True, dropout=0.0),
    "selfless": Recipe(distil=True, dropout=0.0, selfless=True),
    "follow": Recipe(distil=True, dropout=0.0, draws=1, follow=True),
}
STAGES = (*RECIPES, "export")
INITIAL = ("speak", "distill", "follow")  # stages that may begin where another run's ended
RATES = {
    "speak": 1.2e-3,
    # The paper's is 8e-8, for 4 billion parameters; AdamW moves every weight by about the rate, however many
    # there are. Once over 16 pairs, two in a step, with 1e-6, 1e-5 and 1e-4: the flow's preference went from
    # 0.693 to 0.651, 0.421 and 0.842 (overshot), its plain loss on held-out speech from 0.5148 to 0.5149,
    # 0.5158 and 0.5236.
    "dpo": 1e-5,
    "distill": 4e-4,
    "selfless": 4e-4,
    "follow": 3e-4,
}
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
    init: Path | str | None = None  # another run, or a model: `speak` begins with it, or `distill` its head
    head_only: bool = False  # `speak` trains the flow head alone
    guidance: float | None = None  # that is baked in while distilling; None: the config's
    pairs: Path | None = None  # that `dpo` learns from
    head: str | None = None  # the stage that is exported; None: the last one


def main_train_tts(stage: str, run: TTSRun, say: Callable[[str], None] = print) -> None:
    """One stage of a run; the earlier ones must have been through.

    Raises:
        ConfigError: an unknown stage, no speech, or a setting that another stage knows.
        CheckpointError: an earlier stage that is missing.
    """
    if stage not in STAGES:
        raise ConfigError(f"stage must be {', '.join(STAGES)}, got {stage!r}")
    if run.init is not None and stage not in INITIAL:
        raise ConfigError(f"--init is known to {', '.join(INITIAL)}, not to {stage}")
    if (run.pairs is None) == (stage == "dpo"):
        raise ConfigError(
            "--pairs is missing" if stage == "dpo" else f"--pairs belongs to dpo, not to {stage}"
        )
    if run.head_only and stage != "speak":
        raise ConfigError(f"--head-only is known to speak, not to {stage}: what distils trains nothing else")
    if run.guidance is not None and (stage not in RECIPES or not RECIPES[stage].distil):
        raise ConfigError(f"--guidance is known to distill, selfless and follow, not to {stage}")
    if run.head is not None and (stage != "export" or run.head not in RECIPES):
        raise ConfigError(f"--head is known to export alone: {', '.join(RECIPES)}; got {run.head}")
    if run.graph and stage == "dpo":
        raise ConfigError("--graph knows rows of one length; takes are as long as they are")
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
    torch.manual_seed(run.seed)  # pyright: ignore[reportUnknownMemberType]
    config = _config(run)
    recipe = run.recipe or RECIPES[stage]
    if recipe.distil:
        recipe = replace(recipe, guidance=config.flow.guidance if run.guidance is None else run.guidance)
    if run.head_only:
        recipe = replace(recipe, head_only=True, dropout=0.0)
    teacher = pairs = None
    if recipe.distil:
        model = SpeakerModel(replace(config, flow=replace(config.flow, spans=True)))
        span = model.flow.span_projection
        assert span is not None
        nn.init.zeros_(span.weight)
        more = {"flow.span_projection.weight": span.weight.detach()}
        init = run.init or (run.out if stage == "follow" else None)
        if init is not None:
            # Much the same head, and most of the way is behind it.
            more = {k: v for k, v in _initial(init, "follow", "distill").items() if k.startswith("flow.")}
        _fill(model, _spoken(run, stage), more)
        whole = SpeakerModel(config)
        _fill(whole, _spoken(run, stage))
        teacher = whole.flow
        config = model.config
        task = TTSTask(config, recipe, model=model, teacher=teacher, amp=False)
    elif run.pairs is not None:
        pairs = PairRows(run.pairs, config)
        model = spoken_model(run).requires_grad_(True)
        task = PreferenceTask(config, recipe, model=model)
        # More than once makes speech mechanical, the paper found.
        say(f"{len(pairs)} pairs, each {run.steps * run.rows * run.devices / len(pairs):.1f} times")
    else:
        task = TTSTask(config, recipe, amp=run.graph)
        if run.init is not None:
            _fill_with(task.model, _initial(run.init, "speak"), run.init)
    peak = RATES[stage] * run.rate
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
        batch = rows.draw(run.rows, rng)
        return batch if pairs is None else with_takes(batch, pairs.draw(run.rows, rng))

    def evaluate(trained: nn.Module) -> Figures:
        assert isinstance(trained, TTSTask)
        found: Figures = {} if dev is None else dev_figures(trained, dev)
        if isinstance(trained, PreferenceTask) and pairs is not None and pairs.judged:
            found = {**found, **preferred_figures(trained, pairs.batch(pairs.judged))}
        return found

    train(
        make_fabric(run.devices, run.precision),
        LoopConfig(
            run.steps,
            warmup=100 if pairs is None else max(1, run.steps // 10),
            clip=1.0,
            # What a short run began with is forgotten by its end.
            ema=min(0.999, max(0.5, 1 - 9 / run.steps)),
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
    with _same_draws(task, batch) as batch:
        _, figures = task(batch)
        if task.recipe.distil:
            figures["apart"] = task.apart(batch, DISTILLED_STEPS)
        else:
            wrong = replace(batch, tokens=batch.tokens.roll(1, 0))
            figures["wrong_text"] = task(wrong)[1]["semantic"]
    return _dev(figures)


@torch.no_grad()
def preferred_figures(task: PreferenceTask, takes: SpeechBatch) -> Figures:
    """The preferences among pairs that are not trained on."""
    with _same_draws(task, takes) as takes:
        return _dev(task.preferred(takes)[1])


@contextmanager
def _same_draws(task: nn.Module, batch: SpeechBatch) -> Generator[SpeechBatch]:
    """The batch on the task's device, and there every time the same random numbers."""
    device = next(task.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # pyright: ignore[reportUnknownMemberType]
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
        yield SpeechBatch(*(getattr(batch, name).to(device) for name in batch.__dataclass_fields__))


def _dev(figures: Mapping[str, Tensor]) -> Figures:
    return {f"dev_{name}": round(float(value), 4) for name, value in figures.items()}


def export(run: TTSRun, say: Callable[[str], None]) -> None:
    """`model/` in the run's folder: the speaker, with the distilled head if there is one.

    Of a stage that was asked for, `model-STAGE/`: a distilled head is measured against the one before it.
    """
    config = _config(run)
    last, folder = _spoken(run, "distill"), run.out / "model"
    if run.head is not None:
        last, folder = run.out / run.head, run.out / f"model-{run.head}"
    else:
        made = [run.out / stage for stage in ("distill", "follow") if (run.out / stage / CHECKPOINT).exists()]
        if len(made) == 2 and _written(made[1]) < _written(made[0]):
            say("the stage follow is older than distill, which it begins with: left out; run it anew")
            del made[1]
        last = made[-1] if made else last
    if RECIPES[last.name].distil:
        config = replace(config, flow=replace(config.flow, spans=True, steps=DISTILLED_STEPS))
    model = SpeakerModel(config)
    _fill(model, last)
    codec = Codec.load(run.codec, weights="float32")
    save_own(model, folder, run.codec, codec.fingerprint)
    if not (folder / SHIPPED.name).exists():
        # What it reads text with; speech prepared with another lexicon wants its own.
        shutil.copyfile(SHIPPED, folder / SHIPPED.name)
        say(f"{SHIPPED.name}: the default's; speech of another lexicon wants one of `train pronounce`")
    say(f"wrote {folder}, the head of the stage {last.name}")


def _written(stage: Path) -> float:
    return (stage / CHECKPOINT).stat().st_mtime


def _spoken(run: TTSRun, distilled: str) -> Path:
    """Folder of the stage that a distilled one follows: `dpo`, if it was run, or `speak`.

    Raises:
        CheckpointError: the distilled stage was begun from other weights than `dpo` has now.
    """
    dpo, after = run.out / "dpo", run.out / distilled
    if not (dpo / CHECKPOINT).exists():
        return run.out / "speak"
    if (after / CHECKPOINT).exists():
        frozen = "text.begin"  # stays as it was while a head is distilled
        if not torch.equal(averaged(after)[frozen], averaged(dpo)[frozen]):
            raise CheckpointError(
                f"{after}: distilled from other weights than `dpo` has now; delete it, and distil again"
            )
    return dpo


def spoken_model(run: TTSRun) -> SpeakerModel:
    """The speaker that the stage `speak` has made, with averaged weights, for speaking.

    Raises:
        CheckpointError: the stage has not been run, or with another codec.
    """
    model = SpeakerModel(_config(run))
    _fill(model, run.out / "speak")
    return model.eval().requires_grad_(False)


def _config(run: TTSRun) -> TTSConfig:
    return run.config or small_tts(Codec.load(run.codec, weights="float32").config)


def _initial(init: Path | str, *stages: str) -> dict[str, Tensor]:
    """What a stage begins with: averaged weights of another run's last of these stages, or a speaker's.

    Raises:
        CheckpointError: there is no such thing; a head that isn't distilled, where one is asked for.
    """
    for stage in stages:
        if (Path(init) / stage / CHECKPOINT).exists():
            return averaged(Path(init) / stage)
    try:
        model = load_own(folder_of(str(init)))[0]
    except CheckpointError as error:
        wanted = " or ".join(f"`{stage}`" for stage in reversed(stages))
        raise CheckpointError(f"{init}: no run with a stage {wanted}, and no speaker ({error})") from error
    if stages == ("speak",):
        return undistilled(model).state_dict()
    if not model.config.flow.spans:
        raise CheckpointError(f"{init}: its head is not a distilled one")
    return model.state_dict()


def _fill(model: SpeakerModel, folder: Path, more: Mapping[str, Tensor] | None = None) -> None:
    _fill_with(model, {**averaged(folder), **(more or {})}, folder)


def _fill_with(model: SpeakerModel, weights: Mapping[str, Tensor], origin: Path | str) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{origin}: trained another shape") from error


def averaged(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of a stage's speaker."""
    try:
        kept = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: no checkpoint; run the stage `{folder.name}` first") from error
    weights: dict[str, Tensor] = kept["average"]
    return {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
