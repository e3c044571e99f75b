"""The training loop that all models share: one task, one folder, as often interrupted as you like.

A task is a module whose `forward(batch)` gives (loss, figures). Lightning Fabric carries precision
and data parallelism; the loop adds the schedule, the moving average of the weights, the log, and
checkpoints from which a run goes on exactly where it stopped, random numbers included.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError

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
) -> dict[str, Tensor]:
    """Run or resume, and give the averaged weights of the task.

    Args:
        folder: log, checkpoint and nothing else; made if missing.
        groups: AdamW parameter groups with their peak `lr`.
        draw: a batch from a generator and the share of the run that is done; every rank draws its own.
        evaluate: figures of the task with averaged weights, for the log.

    Raises:
        CheckpointError: the folder's checkpoint is of another task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    peaks = [group["lr"] for group in groups]
    # One pass over the weights in place of ten: on a CPU that is felt in every step.
    optimizer = torch.optim.AdamW(list(groups), betas=(0.9, 0.98), fused=True)
    model, optimizer = fabric.setup(task, optimizer)
    rng = np.random.default_rng([config.seed, fabric.global_rank])
    average = {name: value.detach().clone() for name, value in task.state_dict().items()}
    step = _resume(folder / CHECKPOINT, task, optimizer, average, rng)
    started = saved = time.monotonic()
    seen: list[dict[str, float]] = []
    while step < config.steps:
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * config.rate(step)
        task.train()
        loss, figures = model(fabric.to_device(draw(rng, step / config.steps)))
        optimizer.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=config.clip)
        optimizer.step()
        step += 1
        _update(average, task, min(config.ema, step / (step + 10)))
        seen.append({"loss": float(loss.detach()), **{k: float(v) for k, v in figures.items()}})
        done = step == config.steps
        if step % config.log_every == 0 or done:
            row: dict[str, float] = {"step": step, "seconds": round(time.monotonic() - started, 1)}
            # A batch without any of what a figure counts, such as speech, has none.
            row |= {k: round(float(np.nanmean([s[k] for s in seen])), 4) for k in seen[0]}
            seen = []
            if evaluate is not None and (step % config.evaluate_every == 0 or done):
                row |= _with_average(task, average, evaluate)
            if fabric.is_global_zero:
                say(json.dumps(row))
                with (folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(row) + "\n")
        if done or time.monotonic() - saved > config.save_seconds:
            saved = time.monotonic()
            _save(fabric, folder / CHECKPOINT, task, optimizer, average, rng, step)
    return average


def _update(average: dict[str, Tensor], task: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for name, value in task.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value.to(average[name]), 1 - decay)
            else:
                average[name].copy_(value)


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
    rng: np.random.Generator,
    step: int,
) -> None:
    states: list[Any] = [rng.bit_generator.state]
    if fabric.world_size > 1:
        states = [None] * fabric.world_size
        torch.distributed.all_gather_object(states, rng.bit_generator.state)
    if not fabric.is_global_zero:
        return
    draft = path.with_suffix(".tmp")
    torch.save(
        {
            "task": task.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": dict(average),
            "generators": json.dumps(states),
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
    rng: np.random.Generator,
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
    states = json.loads(kept["generators"])
    rank = int(torch.distributed.get_rank()) if torch.distributed.is_initialized() else 0
    if rank < len(states):
        rng.bit_generator.state = states[rank]
    return int(kept["step"])


def _has_fast_bf16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
