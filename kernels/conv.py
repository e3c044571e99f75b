"""Causal convolution and transposed convolution, whole or step by step."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dispatch import Operation
from .state import StateTree, active_rows, leaf, put, spread, take

PadMode = Literal["zeros", "replicate", "reflect"]


class Step(Protocol):
    """A faster `step` of a layer, with the layer's state."""

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor: ...


class CausalConv1d(nn.Module):
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
        super().__init__()
        if kernel_size < stride:
            raise ValueError(f"a kernel of {kernel_size} skips inputs at stride {stride}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = kernel_size, stride
        self.past_mode: PadMode = past_mode
        self.past = kernel_size - stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.matrix: nn.Module | None = None  # [channels * kernel] to [out_channels], once packed
        self.fused: Step | None = None  # once packed
        _draw(self.weight, self.bias, in_channels * kernel_size)

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

        A ragged end is completed to a whole stride, in the past mode too.
        """
        time = x.shape[-1]
        ragged = -time % self.stride
        # Mirroring needs more signal than pad: append zeros, cut them off afterwards.
        short = max(max(self.past, ragged) - time + 1, 0) if self.past_mode == "reflect" else 0
        x = F.pad(x, (0, short))
        x = F.pad(x, (self.past, ragged), "constant" if self.past_mode == "zeros" else self.past_mode)
        x = x[..., : x.shape[-1] - short]
        if self.matrix is not None:
            return self._by_matrix(x)
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
        if time == 0 or time % self.stride:
            raise ValueError(f"a step takes a multiple of {self.stride} inputs, got {time}")
        if self.fused is not None:
            return self.fused.step(x, state, active)
        if not bool(active.any()):
            return x.new_zeros(slots, self.out_channels, time // self.stride)
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
        if self.matrix is None:
            y = CONVOLVE.on(x.device)(padded, self.weight, self.bias, self.stride)
        else:
            y = self._by_matrix(padded)
        return spread(y, rows, slots)

    def _by_matrix(self, x: Tensor) -> Tensor:
        assert self.matrix is not None
        # Contiguous: on a strided tensor an activation takes another route, and its last bit may differ.
        return self.matrix(pieces(x, self.kernel_size, self.stride)).transpose(1, 2).contiguous()

    def _first_past(self, x: Tensor) -> Tensor:
        if self.past_mode == "zeros" or self.past == 0:
            return x.new_zeros(*x.shape[:-1], self.past)
        if self.past_mode == "replicate":
            return x[..., :1].expand(*x.shape[:-1], self.past)
        return x[..., 1 : self.past + 1].flip(-1)


class CausalConvTranspose1d(nn.Module):
    """Transposed convolution that upsamples by its stride and sees only the past.

    The last kernel - stride outputs, which later inputs would still change, are dropped, so
    `time` inputs give exactly `stride * time` outputs.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        if kernel_size < stride:
            raise ValueError(f"a kernel of {kernel_size} leaves gaps at stride {stride}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = kernel_size, stride
        # Inputs before the current one that still reach into its outputs.
        self.past = -(-kernel_size // stride) - 1
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.fused: Step | None = None  # once packed
        _draw(self.weight, self.bias, out_channels * kernel_size)

    def initial_state(
        self, slots: int, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> StateTree:
        """No past: [slots, channels, ceil(kernel / stride) - 1] zeros."""
        return {"past": torch.zeros((slots, self.in_channels, self.past), dtype=dtype, device=device)}

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time] -> [batch, out_channels, stride * time]."""
        y = F.conv_transpose1d(x, self.weight, self.bias, self.stride)
        return y[..., : x.shape[-1] * self.stride]

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """[slots, channels, time] -> [slots, out_channels, stride * time]; see `CausalConv1d.step`."""
        slots, _, time = x.shape
        if time == 0:
            raise ValueError("a step takes at least one input, got none")
        if self.fused is not None:
            return self.fused.step(x, state, active)
        if not bool(active.any()):
            return x.new_zeros(slots, self.out_channels, time * self.stride)
        rows = active_rows(active)
        x = take(x, rows)
        padded = torch.cat([take(leaf(state, "past"), rows).to(x.dtype), x], dim=-1)
        if self.past:
            put(leaf(state, "past"), rows, padded[..., -self.past :])
        y = CONVOLVE_TRANSPOSED.on(x.device)(padded, self.weight, self.bias, self.stride)
        begin = self.past * self.stride
        return spread(y[..., begin : begin + time * self.stride], rows, slots)


def _draw(weight: Tensor, bias: Tensor | None, fan_in: int) -> None:
    """Uniform in +-1 / sqrt(fan_in), as PyTorch's own convolutions begin."""
    bound = fan_in**-0.5
    nn.init.uniform_(weight, -bound, bound)
    if bias is not None:
        nn.init.uniform_(bias, -bound, bound)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """[batch, channels, time] -> [batch, out_channels, (time - kernel) / stride + 1]."""
    return F.conv1d(x, weight, bias, stride)


def convolve_as_matrix(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """The same as one matrix product over unfolded inputs.

    The CPU's convolution rearranges its weights in every call: 512 x 512 x 3 weights and 4 output
    frames cost 1.5 ms that way and 0.6 ms as a product, 32 frames the same both ways.
    """
    return F.linear(pieces(x, weight.shape[-1], stride), weight.flatten(1), bias).transpose(1, 2)


def pieces(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    """What each output sees, [batch, channels, time] -> [batch, out_time, channels * kernel]."""
    return x.unfold(-1, kernel_size, stride).transpose(1, 2).flatten(2)


def convolve_transposed(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """[batch, channels, time] -> [batch, out_channels, (time - 1) * stride + kernel]."""
    return F.conv_transpose1d(x, weight, bias, stride)


def transposed_as_matrix(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """The same as one matrix product, whose pieces are overlapped and added.

    The CPU's own is slow for a few inputs; `rillvox bench codec` has it in every step.
    """
    parts = x.transpose(1, 2).contiguous() @ weight.flatten(1)
    return overlapped(parts, weight.shape[-1], bias, stride)


def overlapped(parts: Tensor, kernel: int, bias: Tensor | None, stride: int) -> Tensor:
    """[batch, time, out_channels * kernel] -> [batch, out_channels, (time - 1) * stride + kernel]."""
    batch, time, width = parts.shape
    parts = parts.view(batch, time, width // kernel, kernel)
    y = parts.new_zeros(batch, width // kernel, (time - 1) * stride + kernel)
    for offset in range(kernel):
        y[..., offset : offset + (time - 1) * stride + 1 : stride] += parts[..., offset].transpose(1, 2)
    return y if bias is None else y + bias[:, None]


CONVOLVE_TRANSPOSED = Operation("transposed convolution of a chunk", convolve_transposed)
CONVOLVE_TRANSPOSED.add("cpu", "matrix product", transposed_as_matrix)
CONVOLVE = Operation("convolution of a chunk", convolve)
CONVOLVE.add("cpu", "matrix product", convolve_as_matrix)
