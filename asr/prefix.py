"""The start that all streams of one delay share.

The steps before the first real sample hear nothing but padding, and their tokens are forced, so what they
leave in the state is a constant of the model: computed once, copied into a slot when a session begins.
"""

from __future__ import annotations

import torch

from ..tekken import Tekken
from .bank import Bank, Listener
from .ears import Ear, block_steps
from .lanes import Lane

_KEPT = 8


class Prefix:
    """One ear and one lane that have heard the left padding, up to the last whole block without audio."""

    def __init__(
        self, listener: Listener, tokenizer: Tekken, delay: int, block: int, max_tokens: int
    ) -> None:
        left_pad = listener.model.config.left_pad_tokens
        self.steps = silent_steps(left_pad, block)
        self.bank = Bank(listener, 1, 1, max_tokens)
        ear = Ear(0, block, left_pad, left_pad + 1)
        lane = Lane(ear, 0, tokenizer, delay, block)
        parts: list[torch.Tensor] = []
        with torch.inference_mode():
            while ear.tokens < self.steps:
                most = min(max_tokens, self.steps - ear.tokens)
                _, steps = ear.ready(most)
                parts.append(self.bank.hear({0: ear.take(block, steps)}, block)[0])
            dim = listener.model.config.dim
            # Adapter vectors [steps, dim].
            self.vectors = torch.cat(parts) if parts else torch.zeros(0, dim, device=listener.device)
            for vector in self.vectors:
                lane.accept(self.bank.read([lane], vector.unsqueeze(0))[0])


class Prefixes:
    """The prefixes of one model, made when first asked for."""

    def __init__(self, listener: Listener, tokenizer: Tekken, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._listener, self._tokenizer = listener, tokenizer
        self._made: dict[tuple[int, int], Prefix] = {}

    def get(self, delay: int, block: int) -> Prefix:
        """The prefix for a delay in tokens and an encoder block; the last few are kept."""
        prefix = self._made.get((delay, block))
        if prefix is None:
            prefix = Prefix(self._listener, self._tokenizer, delay, block, self.max_tokens)
            while len(self._made) >= _KEPT:
                self._made.pop(next(iter(self._made)))
            self._made[delay, block] = prefix
        return prefix


def silent_steps(left_pad_tokens: int, block: int) -> int:
    """Steps, in whole blocks, that hear nothing but padding: the last step before the audio touches it."""
    unit = block_steps(block)
    return (left_pad_tokens - 1) // unit * unit
