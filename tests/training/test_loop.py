"""The training loop: interrupted or not, the same run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("lightning_fabric")

from rillvox.errors import CheckpointError, ConfigError
from rillvox.training.loop import LoopConfig, make_fabric, train


class Line(nn.Module):
    """Fits y = 3 x + 1."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(1, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.linear(x) - (3 * x + 1)).square().mean()
        return loss, {"size": x.abs().mean()}


def draw(rng: np.random.Generator, done: float) -> Tensor:
    return torch.from_numpy(rng.standard_normal((8, 1)).astype(np.float32))


def bias(task: nn.Module) -> dict[str, float]:
    assert isinstance(task, Line)
    return {"bias": task.linear.bias.item()}


def run(
    folder: Path, steps: int, stop: int | None = None, task: Line | None = None, workers: int = 0
) -> tuple[Line, dict[str, Tensor]]:
    task = task or Line()
    calls = 0

    def interrupted(rng: np.random.Generator, done: float) -> Tensor:
        nonlocal calls
        calls += 1
        if stop is not None and calls > stop:
            raise KeyboardInterrupt
        return draw(rng, done)

    config = LoopConfig(steps, warmup=5, log_every=5, evaluate_every=10, save_seconds=0.0)
    groups = [{"params": list(task.parameters()), "lr": 0.1}]
    fabric = make_fabric(precision="32-true")
    average = train(fabric, config, folder, task, groups, interrupted, bias, lambda _: None, workers)
    return task, average


def test_a_run_learns_and_logs_what_it_evaluates(tmp_path: Path) -> None:
    task, average = run(tmp_path, 120)
    assert abs(task.linear.weight.item() - 3) < 0.2
    assert abs(average["linear.bias"].item() - 1) < 0.5
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(5, 121, 5))
    assert rows[-1]["loss"] < rows[0]["loss"] / 10
    assert [row["step"] for row in rows if "bias" in row] == list(range(10, 121, 10))


def test_an_interrupted_run_ends_where_a_whole_one_does(tmp_path: Path) -> None:
    whole, whole_average = run(tmp_path / "whole", 20)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 20, stop=7)
    task, average = run(tmp_path / "cut", 20)
    assert torch.equal(task.linear.weight, whole.linear.weight)
    assert torch.equal(average["linear.bias"], whole_average["linear.bias"])


def test_whoever_draws_the_batches_they_are_the_same(tmp_path: Path) -> None:
    alone, _ = run(tmp_path / "alone", 20)
    helped, _ = run(tmp_path / "helped", 20, workers=2)
    assert torch.equal(alone.linear.weight, helped.linear.weight)


def test_weights_that_are_no_numbers_end_the_run_and_keep_the_last_checkpoint(tmp_path: Path) -> None:
    class Breaks(Line):
        calls = 0

        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            self.calls += 1
            loss, figures = super().forward(x)
            return (loss * float("nan") if self.calls > 12 else loss), figures

    with pytest.raises(CheckpointError, match="--rate"):
        run(tmp_path, 20, task=Breaks())
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 10
    assert bool(torch.isfinite(kept["task"]["linear.weight"]).all())


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    run(tmp_path, 5)
    with pytest.raises(CheckpointError, match="fresh --out"):
        run(tmp_path, 10, task=Line(width=2))


def test_the_rate_warms_up_and_falls() -> None:
    config = LoopConfig(100, warmup=10, final_rate=0.1)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) > 0.95
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(("field", "value"), [("steps", 0), ("ema", 1.0)])
def test_a_setting_out_of_range_is_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        LoopConfig(**{"steps": 5, field: value})  # type: ignore[arg-type]
