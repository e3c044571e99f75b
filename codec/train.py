"""Training of the codec in stages: `rillvox train codec`.

`rillvox train sounds` comes first: recordings to 24 kHz and the teacher's codes (`prepare.py`).

1. `reconstruct`: encoder and decoder from spectra and samples, the semantic latent from the teacher.
2. `adversarial`: slim discriminators; the encoder stays as it is, so that codes made before stay valid.
3. `export`: the averaged weights as a model folder.

Instead of the first two, `published` trains all at once by the paper's losses, and by what a head with a
source needs besides (its pitch, its power), for those who have the GPUs; `encoder` fits an encoder to a
frozen decoder and codebook, as those of the released checkpoint. With `words` their codes learn from a
Whisper's decoder instead of its encoder, once `rillvox train words` has run it (`prepare_words.py`).

Every stage resumes from its folder, logs to `log.jsonl`, keeps averaged weights, and leaves what it sounds
and looks like in `heard/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..training.loop import CHECKPOINT, Figures, LoopConfig, make_fabric, train
from ..training.noises import Noises
from ..training.pool import HELD_OUT
from ..training.sounds import RATE, Sounds
from ..training.sounds_text import Texts
from ..training.sounds_words import Words
from .checkpoint import load_model, save_model
from .config import CodecConfig, small_codec
from .dumps import dump
from .initial import settle, settle_encoder
from .losses import mel_distance
from .model import CodecEncoder, CodecModel
from .rows import TOP, WIDE_SHARE, WaveRows
from .tasks import RECIPES, CodecTask, Recipe

SETTLING_ROWS = 16
STAGES = (*RECIPES, "export")


@dataclass(frozen=True)
class CodecRun:
    """Where everything of one training lies, and how long its stages are."""

    sounds: Path
    out: Path
    steps: int = 5000
    rows: int = 8
    frames: int = 12
    devices: int = 1
    precision: str = "auto"
    seed: int = 0
    init: Path | None = None
    rate: float = 1.0
    decoder: Path | None = None  # a model folder whose decoder and codebook stay as they are
    noise: Path | None = None  # a folder of noises and rooms, for some of the items
    recipe: Recipe | None = None  # None: the stage's own
    words: bool = False  # the codes learn from what `rillvox train words` left
    workers: int = 0  # processes that draw batches ahead
    graph: bool = False  # replay one captured step, on a GPU in full precision
    blend: float = 0.0  # share of what `reconstruct` left in what is exported


def main_train_codec(stage: str, run: CodecRun, say: Callable[[str], None] = print) -> None:
    """One stage of a run; the earlier ones must have been through.

    Raises:
        ConfigError: an unknown stage, or one whose input is missing.
        CheckpointError: an earlier stage or a model that is missing.
    """
    if stage not in STAGES:
        raise ConfigError(f"stage must be {', '.join(STAGES)}, got {stage!r}")
    if stage == "encoder" and run.decoder is None:
        raise ConfigError("stage encoder needs --freeze-decoder, the model folder that it is fitted to")
    if run.decoder is not None and stage not in ("encoder", "export"):
        raise ConfigError(f"--freeze-decoder is for the stages encoder and export, not {stage}")
    if run.blend and stage != "export":
        raise ConfigError(f"--blend is for the stage export, not {stage}")
    if run.graph and run.words:
        raise ConfigError("--graph and --words exclude each other: batches of words are not alike")
    if run.graph and run.precision != "32-true":
        raise ConfigError("--graph needs --precision 32-true: what is captured has one precision")
    if run.words and stage != "export" and (run.recipe or RECIPES[stage]).semantic == "teacher":
        raise ConfigError(
            "--words is for codes that the codec makes itself: --semantic learned or fsq, "
            "or the stages published and encoder"
        )
    sounds = Sounds(run.sounds)
    say(f"{len(sounds.clips)} clips, {sum(clip.seconds for clip in sounds.clips) / 3600:.2f} hours")
    if stage == "export":
        export(run, sounds, say)
    else:
        train_stage(stage, run, sounds, say)


def recipe_of(
    stage: str,
    *,
    semantic: str | None = None,
    revive: bool = True,
    balance: bool = False,
    critics: str | None = None,
    channels: int | None = None,
    lm: float = 0.0,
    contrast: float = 0.0,
    text_control: bool = False,
) -> Recipe:
    """The stage's recipe with what a command changes in it.

    Raises:
        ConfigError: a way of coding that is none, or sizes that are none.
    """
    recipe = replace(
        RECIPES.get(stage, Recipe()),
        revive=revive,
        balance=balance,
        along=lm,
        contrast=contrast,
        text_control=text_control,
    )
    if semantic is not None:
        if semantic not in ("teacher", "learned", "fsq"):
            raise ConfigError(f"--semantic must be teacher, learned or fsq, got {semantic}")
        if stage == "encoder":
            raise ConfigError("--semantic: the codes of a frozen decoder are what they are")
        recipe = replace(recipe, semantic=semantic)
    if critics is not None:
        parts = critics.split(",")
        if not all(part.isascii() and part.isdigit() and int(part) >= 16 for part in parts):
            raise ConfigError(f"--critics must be sizes of at least 16 with commas between, got {critics!r}")
        recipe = replace(recipe, critics=tuple(map(int, parts)))
    if channels is not None:
        recipe = replace(recipe, channels=channels)
    return recipe


def config_of(sounds: Sounds, recipe: Recipe) -> CodecConfig:
    """The default shape; its codebook is the teacher's, or has as many entries as the released one."""
    return small_codec(8192 if recipe.semantic == "fsq" else len(sounds.codebook))


def fresh_model(run: CodecRun, sounds: Sounds, recipe: Recipe) -> tuple[CodecConfig, CodecModel | None, bool]:
    """The shape of what is trained, the model that it begins with, and whether its encoder is fresh.

    None in place of a model: all of it is fresh.
    """
    if run.decoder is None:
        return config_of(sounds, recipe), None, True
    model = load_model(run.decoder).train()
    fresh = model.encoder is None
    if fresh:
        # Written without weight norm: the encoder is ours, and in memory there is none anyway.
        model.encoder = CodecEncoder(model.config)
    return model.config, model, fresh


def train_stage(stage: str, run: CodecRun, sounds: Sounds, say: Callable[[str], None]) -> None:
    """Any stage that learns."""
    recipe = run.recipe or RECIPES[stage]
    adversarial = bool(recipe.critics)
    torch.manual_seed(run.seed)  # pyright: ignore[reportUnknownMemberType]
    config, model, fresh = fresh_model(run, sounds, recipe)
    texts = Texts(run.sounds) if recipe.along or recipe.contrast else None
    words = Words(run.sounds) if run.words else None
    task = CodecTask(
        config,
        sounds.codebook,
        recipe,
        model=model,
        text_width=None if texts is None else texts.width,
        words_width=None if words is None else words.width,
    )
    if run.init is not None:
        fill(task.model, run.init)
    elif stage == "adversarial":
        fill(task.model, run.out / "reconstruct")
    peak = (4e-4 if stage == "adversarial" else 1.2e-3) * run.rate
    critics = list(task.critics.parameters()) if task.critics is not None else []
    judging = {id(p) for p in critics}
    learning = [p for p in task.parameters() if p.requires_grad and id(p) not in judging]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learning if p.dim() > 1], "lr": peak, "weight_decay": 0.01},
        {"params": [p for p in learning if p.dim() <= 1], "lr": peak, "weight_decay": 0.0},
    ]
    if critics:
        groups.append({"params": critics, "lr": 3e-4, "betas": (0.8, 0.99), "weight_decay": 0.0})
    noises = None if run.noise is None else Noises(run.noise)
    rows = WaveRows(sounds, config, run.frames, noises, texts, words)
    if fresh and run.init is None and stage != "adversarial":
        some = rows.draw(SETTLING_ROWS, np.random.default_rng(run.seed), 0.0)
        if model is None:
            settle(task.model, some.heard, some.ids)
        else:
            settle_encoder(task.model, some.heard)
    if run.graph and recipe.critics:
        rows.judged = round(run.rows * WIDE_SHARE * 0.6)  # batches that are to be replayed are alike

    def draw(rng: np.random.Generator, done: float) -> Any:
        batch = rows.draw(run.rows, rng, done if adversarial else 0.0)
        return replace(batch, fade=torch.tensor(recipe.fade ** (done * run.steps)))

    def evaluate(trained: nn.Module) -> Figures:
        assert isinstance(trained, CodecTask)
        dump(trained.model, sounds, run.out / stage / "heard")
        return dev_figures(trained, sounds)

    train(
        make_fabric(run.devices, run.precision),
        LoopConfig(run.steps, warmup=100, clip=5.0, ema=0.998, evaluate_every=500, seed=run.seed),
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
def dev_figures(task: nn.Module, sounds: Sounds) -> Figures:
    """Of the first seconds of held-out clips: distance, the teacher's codes named right, codes in use."""
    assert isinstance(task, CodecTask)
    device = next(task.parameters()).device
    frame, count = task.config.frame, 36
    mel: list[float] = []
    right = total = 0
    used: list[Tensor] = []
    encoder = task.model.encoder
    assert encoder is not None
    for clip in [clip for clip in sounds.clips if clip.corpus in HELD_OUT][::6]:
        frames = min(count, clip.samples // frame)
        wave = torch.as_tensor(sounds.samples(clip, 0, frames * frame))[None].to(device)
        codes = task.model.quantizer.encode(encoder(wave))
        found = task.model.decoder(task.model.quantizer.decode(codes))
        known = torch.tensor([min(RATE, TOP * clip.native / 2)], device=device)
        mel.append(float(mel_distance(found, wave, known)))
        if task.recipe.semantic == "teacher":
            ids = sounds.codes(clip, 0, frames)
            right += int((codes[0, :, 0].cpu().numpy() == ids).sum())
            total += int((ids >= 0).sum())
        used.append(codes[0].cpu())
    if not mel:
        return {}
    codes = torch.cat(used)
    levels = task.config.acoustic_levels - 1
    share = torch.bincount(codes[:, 0]).float() / len(codes)
    named = {"dev_teacher_right": round(right / total, 4)} if total else {}
    return {
        "dev_mel": round(float(np.mean(mel)), 4),
        **named,
        "dev_end_levels": round(float(((codes[:, 1:] == 0) | (codes[:, 1:] == levels)).float().mean()), 4),
        "dev_perplexity": round(float(torch.exp(-(share * (share + 1e-12).log()).sum())), 1),
    }


def export(run: CodecRun, sounds: Sounds, say: Callable[[str], None]) -> None:
    """`model/` in the run's folder, of the last stage that has run."""
    stages = [stage for stage in RECIPES if (run.out / stage / CHECKPOINT).exists()]
    last = stages[-1] if stages else "reconstruct"
    _, model, _ = fresh_model(run, sounds, RECIPES[last])
    if model is None:
        entries = averaged(run.out / last)["quantizer.semantic_codebook.embedding_sum"]
        model = CodecModel(small_codec(len(entries)))  # whatever way of coding the stage was asked for
    fill(model, run.out / last)
    if run.blend:
        if last != "adversarial":
            raise ConfigError(f"--blend: mixes reconstruct with adversarial, and {last} was the last stage")
        mix(model, averaged(run.out / "reconstruct"), run.blend)
    save_model(model, run.out / "model", dtype=torch.float16)
    say(f"wrote {run.out / 'model'}")


def fill(model: CodecModel, folder: Path) -> None:
    """Give a model the averaged weights of a stage.

    Raises:
        CheckpointError: the stage has not run, or trained another shape.
    """
    try:
        model.load_state_dict(averaged(folder))
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder}: trained another shape; give the --semantic and --freeze-decoder of that training"
        ) from error


def mix(model: CodecModel, other: Mapping[str, Tensor], share: float) -> None:
    """Put `share` of other weights of the same names in place of as much of the model's.

    Raises:
        ConfigError: no share between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"--blend must lie between 0 and 1, got {share}")
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.lerp_(other[name].to(value), share)


def averaged(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of a stage's codec."""
    try:
        kept = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{folder}: no checkpoint; run the stage `{folder.name}` first") from error
    weights: dict[str, Tensor] = kept["average"]
    return {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
