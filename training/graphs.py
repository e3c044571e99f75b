"""A training step as one CUDA graph.

A small model's step is thousands of kernels; starting them one by one takes a processor longer than running
them takes the card. What is captured is forward, backward, clipping and the optimizer. Whatever changes from
step to step, such as the rate, has to be a tensor on the device; batches are alike in every other value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

EAGER_STEPS = 3  # ordinary ones, which also make the caches and the optimizer's state


class GraphedStep:
    """`step(batch)` gives loss and figures; after a few calls by replaying one capture."""

    def __init__(self, task: nn.Module, optimizer: torch.optim.Optimizer, clip: float) -> None:
        """`optimizer` is capturable, with rates that are tensors on the device of `task`."""
        self.task, self.optimizer, self.clip = task, optimizer, clip
        self.device = next(task.parameters()).device
        self.stream = torch.cuda.Stream(self.device)
        self.taken = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: Any = None
        self.names: tuple[str, ...] = ()
        self.numbers = torch.zeros(0)

    def __call__(self, batch: Any) -> tuple[Tensor, Mapping[str, Tensor]]:
        """One step on a batch, a dataclass of tensors on any device and of what all batches share.

        Raises:
            ValueError: the batch differs from the captured one in a shape or in a value that is no tensor.
        """
        if self.batch is None:
            self.batch = self._copy(batch)
        else:
            self._fill(batch)
        self.taken += 1
        if self.taken <= EAGER_STEPS:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                names, numbers = self._step()
            torch.cuda.current_stream().wait_stream(self.stream)
            return numbers[0], dict(zip(names[1:], numbers[1:].unbind(), strict=True))
        if self.graph is None:
            self.optimizer.zero_grad(set_to_none=True)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.names, self.numbers = self._step()
        self.graph.replay()
        kept = self.numbers.clone()
        return kept[0], dict(zip(self.names[1:], kept[1:].unbind(), strict=True))

    def _step(self) -> tuple[tuple[str, ...], Tensor]:
        loss, figures = self.task(self.batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learning = [p for p in self.task.parameters() if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(learning, self.clip)
        self.optimizer.step()
        values = [loss.detach(), *figures.values()]
        return ("loss", *figures), torch.stack([value.float() for value in values])

    def _copy(self, batch: Any) -> Any:
        assert is_dataclass(batch)
        assert not isinstance(batch, type)
        tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
        moved = {k: v.to(self.device, copy=True) for k, v in tensors.items() if isinstance(v, Tensor)}
        return replace(batch, **moved)

    def _fill(self, batch: Any) -> None:
        for field in fields(batch):
            new, old = getattr(batch, field.name), getattr(self.batch, field.name)
            if isinstance(old, Tensor):
                if new.shape != old.shape:
                    raise ValueError(f"{field.name}: {list(new.shape)} after {list(old.shape)} was captured")
                old.copy_(new, non_blocking=True)
            elif new != old:
                raise ValueError(f"{field.name}: {new} after {old} was captured")
