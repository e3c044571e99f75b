"""Choosing tokens: greedy, temperature, top-p, and a counter-based generator with one stream per slot.

A random number is a function of (session seed, step, stream, index) and of nothing else, so a
session draws the same alone, in any row of any batch, and after it was saved and resumed.
PyTorch's own generators advance once per call for the whole batch and cannot do that.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .state import StateTree, leaf

_LOW = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox 4x32-10: four pseudorandom 32-bit words for a counter and a key.

    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). All words are int64
    tensors that hold 0 .. 2**32 - 1 and broadcast against each other.
    """
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # The 64-bit product wraps to a negative int64; its bits, and so both halves, are right.
        x, y = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = _high(y) ^ b ^ k0, y & _LOW, _high(x) ^ d ^ k1, x & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return a, b, c, d


def uniform(seed: Tensor, step: Tensor, count: int = 1, *, stream: int = 0) -> Tensor:
    """Numbers in [0, 1), float64 [slots, count], all 53 bits random.

    Args:
        seed, step: int64 [slots]; a session keeps its seed and counts its steps.
        count: how many numbers each slot gets; the first ones do not depend on how many follow.
        stream: another one for every purpose that draws in the same step.
    """
    index = torch.arange((count + 1) // 2, device=seed.device)
    seed, step = seed.unsqueeze(-1), step.unsqueeze(-1)
    counter = (step & _LOW, _high(step), index, torch.full_like(index, stream))
    a, b, c, d = philox(counter, (seed & _LOW, _high(seed)))
    pairs = torch.stack([_fraction(a, b), _fraction(c, d)], dim=-1)
    return pairs.flatten(-2)[..., :count]


def normal(seed: Tensor, step: Tensor, count: int, *, stream: int = 0) -> Tensor:
    """Standard normal numbers, float32 [slots, count]; arguments as for `uniform`."""
    u = uniform(seed, step, 2 * count, stream=stream).view(*seed.shape, count, 2)
    # Box and Muller; 1 - u is never zero.
    radius = (-2 * torch.log1p(-u[..., 0])).sqrt()
    return (radius * torch.cos(2 * math.pi * u[..., 1])).float()


def greedy(logits: Tensor) -> Tensor:
    """The most likely token of [..., vocab_size], int64 [...]; of several equal ones the lowest id."""
    return logits.argmax(-1)


def sample(
    logits: Tensor,
    seed: Tensor,
    step: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    top_p: float | Tensor = 1.0,
    stream: int = 0,
) -> Tensor:
    """Draw a token for every slot.

    Args:
        logits: [slots, vocab_size].
        seed, step, stream: as for `uniform`.
        temperature: divides the logits; a float or [slots]. Slots at 0 are greedy.
        top_p: draw among the most likely tokens whose probabilities reach this sum; a float or
            [slots], more than 0.

    Returns:
        Token ids, int64 [slots].
    """
    heat = _per_slot(temperature, logits)
    # float64, because a cumulative sum over 131072 float32 probabilities drifts by 1e-4.
    scores = logits.double() / torch.where(heat > 0, heat, 1.0)
    # Stable, so that of equal tokens the lower id comes first on every device.
    ordered, ids = scores.sort(dim=-1, descending=True, stable=True)
    chances = ordered.softmax(-1)
    before = chances.cumsum(-1) - chances
    # The first token stays whatever happens: nothing comes before it.
    kept = torch.where(before < _per_slot(top_p, logits), chances, 0.0)
    kept[..., 0] = chances[..., 0]
    reach = kept.cumsum(-1)
    mark = uniform(seed, step, stream=stream) * reach[..., -1:]
    # Rounding may put the mark on the very end: stay among the kept tokens.
    last = (kept > 0).sum(-1) - 1
    place = torch.minimum((reach <= mark).sum(-1), last)
    drawn = ids.gather(-1, place.unsqueeze(-1)).squeeze(-1)
    return torch.where(heat.squeeze(-1) > 0, drawn, greedy(logits))


def initial_state(slots: int, *, device: torch.device | str = "cpu") -> StateTree:
    """Seed and step of every slot, int64 [slots] zeros."""
    return {name: torch.zeros(slots, dtype=torch.int64, device=device) for name in ("seed", "step")}


def draw(
    logits: Tensor,
    state: StateTree,
    active: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    top_p: float | Tensor = 1.0,
) -> Tensor:
    """`sample` with the seeds and steps of `state`, in which active slots advance by one."""
    step = leaf(state, "step")
    ids = sample(logits, leaf(state, "seed"), step, temperature=temperature, top_p=top_p)
    step += active
    return ids


def _high(x: Tensor) -> Tensor:
    return (x >> 32) & _LOW


def _fraction(a: Tensor, b: Tensor) -> Tensor:
    """53 of 64 random bits as a float64 in [0, 1)."""
    return ((a >> 5) * 2**26 + (b >> 6)).double() * 2.0**-53


def _per_slot(value: float | Tensor, logits: Tensor) -> Tensor:
    """[slots or 1, 1] float64."""
    return torch.as_tensor(value, dtype=torch.float64, device=logits.device).reshape(-1, 1)
