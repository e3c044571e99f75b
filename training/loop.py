"""The training loop that all models share: one task, one folder, as often interrupted as you like.

A task is a module whose `forward(batch)` gives (loss, figures). Lightning Fabric carries precision
and data parallelism; the loop adds the schedule, the moving average of the weights, the log, and
checkpoints from which a run goes on exactly where it stopped, random numbers included (but those of a
captured step, which begin anew).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from .graphs import GraphedStep

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Figures = Mapping[str, float]
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class LoopConfig:
    """Length and habits of a run. Rates follow a warm-up and a cosine over `steps`, never the clock."""

    steps: int
    warmup: int = 60
    final_rate: float = 0.03  # share of the peak rate that the cosine ends at
    clip: float = 1.0
    ema: float = 0.995
    log_every: int = 20
    evaluate_every: int = 200
    save_seconds: float = 180.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps must be at least 1, got {self.steps}")
        if not 0 < self.ema < 1:
            raise ConfigError(f"ema must lie between 0 and 1, got {self.ema}")

    def rate(self, step: int) -> float:
        """Share of the peak rate at `step`."""
        warm = min(1.0, (step + 1) / self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return warm * (self.final_rate + (1 - self.final_rate) * cosine)


def make_fabric(devices: int = 1, precision: str = "auto") -> Fabric:
    """Fabric on what the machine has; bf16 where the processor computes it and doesn't emulate it."""
    from lightning_fabric import Fabric

    if precision == "auto":
        precision = "bf16-mixed" if _has_fast_bf16() else "32-true"
    strategy = "ddp" if devices > 1 else "auto"
    fabric = Fabric(accelerator="auto", devices=devices, strategy=strategy, precision=precision)  # pyright: ignore
    fabric.launch()
    return fabric


def train(
    fabric: Fabric,
    config: LoopConfig,
    folder: Path,
    task: nn.Module,
    groups: Sequence[dict[str, Any]],
    draw: Callable[[np.random.Generator, float], Any],
    evaluate: Callable[[nn.Module], Figures] | None = None,
    say: Callable[[str], None] = print,
    workers: int = 0,
    graph: bool = False,
) -> dict[str, Tensor]:
    """Run or resume, and give the averaged weights of the task.

    Args:
        folder: log, checkpoint and nothing else; made if missing.
        groups: AdamW parameter groups with their peak `lr`.
        draw: a batch from a generator and the share of the run that is done; every rank and every step has a
            generator of its own, so a batch is the same whoever draws it.
        evaluate: figures of the task with averaged weights, for the log.
        workers: processes that draw ahead; 0: none, a batch is drawn when it is needed.
        graph: replay one captured step (see `graphs.py`) where there is one CUDA device and full precision;
            matrix products are TF32 then.

    Raises:
        CheckpointError: the folder's checkpoint is of another task, or the weights are no numbers any more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    peaks = [group["lr"] for group in groups]
    # One pass over the weights in place of ten: on a CPU that is felt in every step.
    device = fabric.device
    graph = graph and device.type == "cuda" and fabric.world_size == 1
    optimizer = torch.optim.AdamW(list(groups), betas=(0.9, 0.98), fused=True, capturable=graph)
    bare = optimizer
    model, optimizer = fabric.setup(task, optimizer)
    average = {name: value.detach().clone() for name, value in task.state_dict().items()}
    step = _resume(folder / CHECKPOINT, task, optimizer, average)
    if graph:
        torch.set_float32_matmul_precision("high")
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros((), device=device)
            group["capturable"] = True  # a checkpoint made without it says otherwise
    replayed = GraphedStep(task, bare, config.clip) if graph else None
    started = saved = time.monotonic()
    seen: list[dict[str, Tensor]] = []
    for batch in _batches(config, fabric.global_rank, draw, step, workers):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            if graph:
                group["lr"].fill_(peak * config.rate(step))
            else:
                group["lr"] = peak * config.rate(step)
        task.train()
        if not graph:
            # What a step draws belongs to the step, as its batch does; a captured step goes on by itself.
            torch.manual_seed(_seed_of(config.seed, fabric.global_rank, step))  # pyright: ignore[reportUnknownMemberType]
        if replayed is not None:
            loss, figures = replayed(batch)
        else:
            loss, figures = model(fabric.to_device(batch))
            optimizer.zero_grad()
            fabric.backward(loss)
            # Nothing in a step asks the device for a number: it would wait for all that was queued before.
            fabric.clip_gradients(model, optimizer, max_norm=config.clip, error_if_nonfinite=False)
            optimizer.step()
        step += 1
        _update(average, task, min(config.ema, step / (step + 10)))
        seen.append({"loss": loss.detach(), **figures})
        done = step == config.steps
        if step % config.log_every == 0 or done:
            row: dict[str, float] = {"step": step, "seconds": round(time.monotonic() - started, 1)}
            row |= {name: value for name, value in _means(seen).items() if name == "loss" or value == value}
            if not math.isfinite(row["loss"]):
                raise CheckpointError(
                    f"{folder}: the loss is no number any more at step {step}; go on from the last "
                    "checkpoint with a lower --rate"
                )
            seen = []
            if evaluate is not None and (step % config.evaluate_every == 0 or done):
                row |= _with_average(task, average, evaluate)
            if fabric.is_global_zero:
                say(json.dumps(row))
                with (folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(row) + "\n")
        # Only after a look at the loss.
        if done or (not seen and time.monotonic() - saved > config.save_seconds):
            saved = time.monotonic()
            _save(fabric, folder / CHECKPOINT, task, optimizer, average, step)
    return average


def _seed_of(seed: int, rank: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1, np.uint64)[0] >> 1)


class _Steps(torch.utils.data.Dataset[Any]):
    """The batch of each step, from a generator that belongs to the step."""

    def __init__(
        self, config: LoopConfig, rank: int, draw: Callable[[np.random.Generator, float], Any]
    ) -> None:
        self.config, self.rank, self.draw = config, rank, draw

    def __getitem__(self, index: int) -> Any:
        rng = np.random.default_rng([self.config.seed, self.rank, index])
        return self.draw(rng, index / self.config.steps)


def _batches(
    config: LoopConfig,
    rank: int,
    draw: Callable[[np.random.Generator, float], Any],
    first: int,
    workers: int,
) -> Iterable[Any]:
    return torch.utils.data.DataLoader(
        _Steps(config, rank, draw),
        batch_size=None,
        sampler=range(first, config.steps),
        num_workers=workers,
        collate_fn=_as_it_is,
        prefetch_factor=4 if workers else None,
        # What draws is a closure over a pool of gigabytes: only a fork takes it along.
        multiprocessing_context="fork" if workers else None,
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _means(seen: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Of every figure; a batch without any of what a figure counts, such as speech, has none."""
    found: dict[str, float] = {}
    for name in seen[0]:
        values = torch.stack([torch.as_tensor(each[name]).detach().float() for each in seen])
        found[name] = round(float(values.nanmean()), 4)
    if not all(math.isfinite(float(each["loss"])) for each in seen):
        found["loss"] = math.nan
    return found


def _update(average: dict[str, Tensor], task: nn.Module, decay: float) -> None:
    with torch.no_grad():
        kept: list[Tensor] = []
        new: list[Tensor] = []
        for name, value in task.state_dict().items():
            if value.is_floating_point():
                kept.append(average[name])
                new.append(value)
            else:
                average[name].copy_(value)
        torch._foreach_lerp_(kept, new, 1 - decay)  # pyright: ignore


def _with_average(
    task: nn.Module, average: Mapping[str, Tensor], evaluate: Callable[[nn.Module], Figures]
) -> Figures:
    kept = {name: value.detach().clone() for name, value in task.state_dict().items()}
    task.load_state_dict(average)
    task.eval()
    try:
        with torch.no_grad():
            return evaluate(task)
    finally:
        task.load_state_dict(kept)
        task.train()


def _save(
    fabric: Fabric,
    path: Path,
    task: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor],
    step: int,
) -> None:
    if not fabric.is_global_zero:
        return
    draft = path.with_suffix(".tmp")
    torch.save(
        {
            "task": task.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": dict(average),
            "step": step,
        },
        draft,
    )
    draft.replace(path)


def _resume(
    path: Path,
    task: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
) -> int:
    if not path.exists():
        return 0
    kept = torch.load(path, map_location="cpu", weights_only=True)
    try:
        task.load_state_dict(kept["task"])
        optimizer.load_state_dict(kept["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: of another task or shape; use a fresh --out folder") from error
    for name, value in kept["average"].items():
        average[name].copy_(value)
    return int(kept["step"])


def _has_fast_bf16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
