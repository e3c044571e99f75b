"""A captured step does what the ordinary one does."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from rillvox.training.graphs import EAGER_STEPS, GraphedStep

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@dataclass
class Pair:
    x: Tensor
    y: Tensor
    count: int


class Fit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 1))

    def forward(self, batch: Pair) -> tuple[Tensor, dict[str, Tensor]]:
        missed = self.layers(batch.x[: batch.count]) - batch.y[: batch.count]
        return missed.square().mean(), {"worst": missed.detach().abs().max()}


def pairs(steps: int) -> list[Pair]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(8, 4, generator=generator) for _ in range(steps)]
    return [Pair(x, x.sum(1, keepdim=True).sin(), 6) for x in drawn]


def made() -> tuple[Fit, torch.optim.Optimizer]:
    torch.manual_seed(1)
    task = Fit().cuda()
    optimizer = torch.optim.AdamW(task.parameters(), fused=True, capturable=True)
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros((), device="cuda")
    return task, optimizer


@pytest.mark.gpu
@needs_cuda
def test_replayed_steps_learn_what_ordinary_ones_do() -> None:
    losses: dict[bool, list[float]] = {}
    for graph in (False, True):
        task, optimizer = made()
        step = GraphedStep(task, optimizer, clip=1.0)
        losses[graph] = []
        for number, batch in enumerate(pairs(40)):
            optimizer.param_groups[0]["lr"].fill_(1e-2 / (1 + number))
            if not graph:
                step.taken = 0  # never enough of them to be captured
            loss, figures = step(batch)
            losses[graph].append(float(loss))
            assert set(figures) == {"worst"}
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)
    assert losses[True][-1] < losses[True][0]


@pytest.mark.gpu
@needs_cuda
def test_a_batch_unlike_the_captured_one_is_refused() -> None:
    task, optimizer = made()
    step = GraphedStep(task, optimizer, clip=1.0)
    for batch in pairs(EAGER_STEPS + 2):
        step(batch)
    with pytest.raises(ValueError, match="count: 5 after 6"):
        step(Pair(torch.zeros(8, 4), torch.zeros(8, 1), 5))
    with pytest.raises(ValueError, match="x: "):
        step(Pair(torch.zeros(9, 4), torch.zeros(9, 1), 6))
