"""The seed law: a random choice depends on the session's seed and its step, on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from laws.play import bits

Draw = Callable[[Tensor, Tensor], Tensor]


def assert_seed_law(
    draw: Draw, *, seed: int = 12345, steps: int = 40, batches: Sequence[int] = (2, 5)
) -> None:
    """The same (seed, step) gives the same bits alone, in every row of a batch, and after a pause.

    Args:
        draw: int64 seeds [rows] and int64 steps [rows] to choices [rows, ...].
        seed: of the session that is followed.
        steps: how many choices are compared.
        batches: sizes of the batches that the session sits in.

    Raises:
        AssertionError: a choice differs, or ignores the seed or the step.
    """

    def one(seed: int, step: int) -> Tensor:
        return draw(torch.tensor([seed]), torch.tensor([step]))[0].clone()

    alone = [one(seed, step) for step in range(steps)]
    for rows in batches:
        for row in range(rows):
            for step in range(steps):
                seeds = torch.arange(rows) + seed + 1
                at = (torch.arange(rows) * 7 + step * 3) % 1000
                seeds[row], at[row] = seed, step
                if not torch.equal(bits(draw(seeds, at)[row]), bits(alone[step])):
                    raise AssertionError(
                        f"row {row} of {rows}, step {step}: the choice differs from the one alone"
                    )
    for step in reversed(range(steps)):
        if not torch.equal(bits(one(seed, step)), bits(alone[step])):
            raise AssertionError(f"step {step}: taken again, the choice differs; something remembers")
    if steps > 1 and all(torch.equal(bits(alone[0]), bits(choice)) for choice in alone[1:]):
        raise AssertionError("every step makes the same choice")
    other = [one(seed + 1, step) for step in range(steps)]
    if all(torch.equal(bits(a), bits(b)) for a, b in zip(alone, other, strict=True)):
        raise AssertionError("another seed makes the same choices")
