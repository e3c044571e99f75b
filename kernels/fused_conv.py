"""Steps of causal convolutions on a CPU in one call each, with int8 weights and float inputs.

Every row runs through the same loops by itself, so neither neighbours nor cuts change its bits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .columns import in_columns
from .conv import CausalConv1d, CausalConvTranspose1d
from .fused import as_array
from .state import StateTree, active_rows, leaf, spread, take


class FusedConv:
    """A convolution's `step` with the same state; what stands before the first input is no mirror."""

    def __init__(self, layer: CausalConv1d) -> None:
        """Copy the weights of a layer in float."""
        if layer.past_mode == "reflect":
            raise ValueError("a past that mirrors what is still to come takes more than one call")
        self.kernel, self.stride, self.outputs = layer.kernel_size, layer.stride, layer.out_channels
        self.repeats = layer.past_mode == "replicate"
        # What one output sees lies side by side: whole positions one after the other.
        self.whole, self.scale = in_columns(layer.weight.transpose(1, 2).flatten(1))
        self.bias = None if layer.bias is None else _padded(layer.bias, len(self.scale))

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """See `CausalConv1d.step`."""
        from .numba_conv import seen
        from .numba_dense import dense_many

        slots, _, time = x.shape
        rows = active_rows(active)
        if rows is not None and not len(rows):
            return x.new_zeros(slots, self.outputs, time // self.stride)
        windows = seen(
            as_array(take(x, rows).transpose(1, 2)),
            np.arange(slots) if rows is None else rows.numpy(),
            leaf(state, "past").numpy(),
            leaf(state, "heard").numpy(),
            self.repeats,
            self.kernel,
            self.stride,
        )
        y = np.empty((len(windows), len(self.scale)), np.float32)
        dense_many(windows, self.whole, self.scale, y)
        if self.bias is not None:
            y += self.bias
        y = y.reshape(-1, time // self.stride, len(self.scale))[..., : self.outputs]
        found = torch.from_numpy(y).transpose(1, 2)  # pyright: ignore[reportUnknownMemberType]
        return spread(found.to(x.dtype), rows, slots)


class FusedConvTranspose:
    """A transposed convolution's `step` with the same state."""

    def __init__(self, layer: CausalConvTranspose1d) -> None:
        """Copy the weights of a layer in float."""
        self.kernel, self.stride, self.outputs = layer.kernel_size, layer.stride, layer.out_channels
        self.whole, self.scale = in_columns(layer.weight.permute(2, 1, 0).flatten(0, 1))
        self.bias = _padded(layer.bias, self.outputs)

    def step(self, x: Tensor, state: StateTree, active: Tensor) -> Tensor:
        """See `CausalConvTranspose1d.step`."""
        from .numba_conv import convolve_transposed

        slots, _, time = x.shape
        rows = active_rows(active)
        if rows is not None and not len(rows):
            return x.new_zeros(slots, self.outputs, time * self.stride)
        y = convolve_transposed(
            as_array(take(x, rows).transpose(1, 2)),
            np.arange(slots) if rows is None else rows.numpy(),
            leaf(state, "past").numpy(),
            self.outputs,
            self.kernel,
            self.stride,
            self.whole,
            self.scale,
            self.bias,
        )
        found = torch.from_numpy(y).transpose(1, 2)  # pyright: ignore[reportUnknownMemberType]
        return spread(found.to(x.dtype), rows, slots)


def _padded(bias: Tensor | None, size: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    padded = np.zeros(size, np.float32)
    if bias is not None:
        padded[: len(bias)] = as_array(bias)
    return padded
