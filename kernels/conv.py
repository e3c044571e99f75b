"""Causal convolution and transposed convolution, whole or step by step."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .state import StateTree, active_rows, leaf, put, spread, take

PadMode = Literal["zeros", "replicate", "reflect"]


class CausalConv1d(nn.Conv1d):
    """1-D convolution that sees only the past.

    The left pad is kernel - stride, so output t sees inputs up to stride * (t + 1) - 1. What
    stands before the first sample is the `past_mode`: zeros (Voxtral Realtime), or the first
    input repeated or mirrored (Voxtral Codec). `step` gives what `forward` would give for the
    same inputs, whatever the chunking.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        bias: bool = True,
        past_mode: PadMode = "zeros",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias=bias)
        self.past_mode: PadMode = past_mode
        self.past = kernel_size - stride

    def initial_state(
        self, slots: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StateTree:
        """No past: [slots, channels, kernel - stride] zeros and a flag that nothing was heard."""
        return {
            "past": torch.zeros((slots, self.in_channels, self.past), dtype=dtype, device=device),
            "heard": torch.zeros(slots, dtype=torch.bool, device=device),
        }

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time] -> [batch, out_channels, ceil(time / stride)].

        A ragged end is completed to a whole stride in the past mode (zeros, or the last input).
        """
        time, stride = x.shape[-1], self.stride[0]
        ragged = -time % stride
        short = self.past - time + 1 if self.past_mode == "reflect" else 0
        if short > 0:
            # Mirroring needs more signal than pad: append zeros, cut their outputs afterwards.
            x = F.pad(x, (0, short))
        x = torch.cat([self._first_past(x), x], dim=-1)
        if short > 0:
            x = x[..., : self.past + time]
        if ragged:
            x = F.pad(x, (0, ragged)) if self.past_mode == "zeros" else F.pad(x, (0, ragged), mode="replicate")
        return F.conv1d(x, self.weight, self.bias, self.stride)

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """Convolve the next chunk.

        Args:
            x: [slots, channels, time], time a multiple of the stride; with a mirrored past the
                first chunk of a slot must be longer than the pad.
            state: from `initial_state`; updated in place.
            active: [slots] bool; other slots keep their state bit for bit.

        Returns:
            [slots, out_channels, time / stride]; zero for slots that are not active.

        Raises:
            ValueError: time is zero, not a multiple of the stride, or too short to mirror.
        """
        slots, _, time = x.shape
        if time == 0 or time % self.stride[0]:
            raise ValueError(f"a step takes a multiple of {self.stride[0]} inputs, got {time}")
        if not bool(active.any()):
            return x.new_zeros(slots, self.out_channels, time // self.stride[0])
        rows = active_rows(active)
        x = take(x, rows)
        past = take(leaf(state, "past"), rows).to(x.dtype)
        if self.past_mode != "zeros":
            fresh = ~take(leaf(state, "heard"), rows)
            if bool(fresh.any()):
                if self.past_mode == "reflect" and time <= self.past:
                    raise ValueError(f"the first chunk must be longer than {self.past} inputs, got {time}")
                past = torch.where(fresh[:, None, None], self._first_past(x), past)
            put(leaf(state, "heard"), rows, torch.ones_like(fresh))
        padded = torch.cat([past, x], dim=-1)
        if self.past:
            put(leaf(state, "past"), rows, padded[..., -self.past :])
        y = F.conv1d(padded, self.weight, self.bias, self.stride)
        return spread(y, rows, slots)

    def _first_past(self, x: Tensor) -> Tensor:
        if self.past_mode == "zeros" or self.past == 0:
            return x.new_zeros(*x.shape[:-1], self.past)
        if self.past_mode == "replicate":
            return x[..., :1].expand(*x.shape[:-1], self.past)
        return x[..., 1 : self.past + 1].flip(-1)


class CausalConvTranspose1d(nn.ConvTranspose1d):
    """Transposed convolution that upsamples by its stride and sees only the past.

    The last kernel - stride outputs, which later inputs would still change, are dropped, so
    `time` inputs give exactly `stride * time` outputs.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, *, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, bias=bias)
        # Inputs before the current one that still reach into its outputs.
        self.past = -(-kernel_size // stride) - 1

    def initial_state(
        self, slots: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StateTree:
        """No past: [slots, channels, ceil(kernel / stride) - 1] zeros."""
        return {"past": torch.zeros((slots, self.in_channels, self.past), dtype=dtype, device=device)}

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[batch, channels, time] -> [batch, out_channels, stride * time]."""
        if output_size is not None:
            raise ValueError("the output length follows from the input; output_size is not taken")
        y = F.conv_transpose1d(x, self.weight, self.bias, self.stride)
        return y[..., : x.shape[-1] * self.stride[0]]

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """[slots, channels, time] -> [slots, out_channels, stride * time]; see `CausalConv1d.step`."""
        slots, _, time = x.shape
        if time == 0:
            raise ValueError("a step takes at least one input, got none")
        if not bool(active.any()):
            return x.new_zeros(slots, self.out_channels, time * self.stride[0])
        rows = active_rows(active)
        x = take(x, rows)
        padded = torch.cat([take(leaf(state, "past"), rows).to(x.dtype), x], dim=-1)
        if self.past:
            put(leaf(state, "past"), rows, padded[..., -self.past :])
        y = F.conv_transpose1d(padded, self.weight, self.bias, self.stride)
        begin = self.past * self.stride[0]
        return spread(y[..., begin : begin + time * self.stride[0]], rows, slots)
