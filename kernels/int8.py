"""Linear layers with int8 weights whose sums are exact, for CPUs.

A weight is rounded to 7 bits with one scale for each output, an input to 8 bits with one scale and one
offset for each row. Unusual, and the reason for both choices:
- a row is rounded by itself, so no neighbour in the batch and no cut of the stream changes what it gives;
  the usual single scale for all rows lets a loud neighbour change another session's words;
- integer sums have no order: a row gives the same bits among 1 row and among 1000, on 1 thread and on 16;
- 7 bits, because AVX2 adds pairs of products in 16 bits: 2 * 255 * 63 fits, 2 * 255 * 127 would saturate.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .dispatch import Operation

WEIGHT_LEVELS = 63  # -63 ... 63
INPUT_LEVELS = 255  # 0 ... 255
_CLIPS = torch.linspace(0.55, 1.0, 19)


class Int8Linear(nn.Module):
    """Stands in for one `nn.Linear`, or for several that share an input, side by side."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """Round float weights [out, in]; `bias` [out] stays float32."""
        super().__init__()
        rounded, scale = round_weight(weight.detach())
        self.in_features, self.out_features = weight.shape[1], weight.shape[0]
        self.weight: Tensor
        self.scale: Tensor
        self.bias: Tensor
        self.row_sum: Tensor
        self.register_buffer("weight", rounded)
        self.register_buffer("scale", scale)
        kept = torch.zeros(self.out_features) if bias is None else bias.detach().float().clone()
        self.register_buffer("bias", kept)
        # What an input of ones gives: the share of the rows' offsets.
        self.register_buffer("row_sum", (rounded.double().sum(1) * scale.double()).float())
        self.packed: Any = None  # for whoever computes the product

    @classmethod
    def beside(cls, linears: Sequence[nn.Linear]) -> Int8Linear:
        """One layer that gives the outputs of all, in order."""
        weight = torch.cat([linear.weight for linear in linears])
        if all(linear.bias is None for linear in linears):  # pyright: ignore[reportUnnecessaryComparison]
            return cls(weight)
        biases = [
            linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias  # pyright: ignore[reportUnnecessaryComparison]
            for linear in linears
        ]
        return cls(weight, torch.cat(biases))

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        rows = x.reshape(-1, self.in_features)
        low, high = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)  # aminmax takes 10 times as long
        step = ((high - low) / INPUT_LEVELS).clamp_(min=1e-30)
        y = INT8_PRODUCT.on(x.device)((rows - low).div_(step), self)
        y = torch.addcmul(self.bias, low, self.row_sum).addcmul_(y, step)
        return y.view(*x.shape[:-1], self.out_features)


def round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 [out, in] and float32 [out] such that their product is near float [out, in].

    Each row's scale is the one of 19 with the least squared error; clipping a row's few largest
    weights costs less than a coarser step for all others.
    """
    weight = weight.float().cpu()
    peak = weight.abs().amax(dim=1).clamp(min=1e-30)
    best = torch.full_like(peak, float("inf"))
    scale = peak / WEIGHT_LEVELS
    for clip in _CLIPS:
        tried = peak * clip / WEIGHT_LEVELS
        rounded = _rounded(weight, tried) * tried[:, None]
        error = (rounded - weight).square().sum(1)
        better = error < best
        best, scale = torch.where(better, error, best), torch.where(better, tried, scale)
    return _rounded(weight, scale).to(torch.int8), scale


def _rounded(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight / scale[:, None]).round().clamp(-WEIGHT_LEVELS, WEIGHT_LEVELS)


def product(x: Tensor, layer: Int8Linear) -> Tensor:
    """Round x [rows, in] to whole numbers 0 ... 255, multiply, and scale by output: float32 [rows, out]."""
    # float64 holds every such sum exactly, so the result does not depend on an order either.
    whole = x.round().clamp(0, INPUT_LEVELS).double()
    return (whole @ layer.weight.double().T).float() * layer.scale


def product_by_fbgemm(x: Tensor, layer: Int8Linear) -> Tensor:
    """The same by the quantised matrix product that PyTorch brings for x86."""
    if layer.packed is None:
        layer.packed = _pack(layer)
    one, zero = _constants()
    run: Any = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    return run(x, one, zero, layer.packed)


def has_fast_int8() -> bool:
    """Whether this build and CPU multiply int8 faster than float32."""
    engines: list[str] = torch.backends.quantized.supported_engines
    names: Any = torch.ops.quantized
    return "fbgemm" in engines and hasattr(names, "linear_with_input_q_dq_qweight_dq_output_fp32")


def _pack(layer: Int8Linear) -> Any:
    quantized: Any = torch.backends.quantized
    before = quantized.engine
    quantized.engine = "fbgemm"
    try:
        with warnings.catch_warnings():
            # The product is no quantised tensor, but it takes its weight as one.
            warnings.simplefilter("ignore")
            zeros = torch.zeros(layer.out_features, dtype=torch.int64)
            make: Any = torch._make_per_channel_quantized_tensor  # pyright: ignore
            ops: Any = torch.ops.quantized
            return ops.linear_prepack(make(layer.weight, layer.scale.double(), zeros, 0), None)
    finally:
        quantized.engine = before


_ONE_ZERO: list[Tensor] = []


def _constants() -> tuple[Tensor, Tensor]:
    if not _ONE_ZERO:
        with torch.inference_mode(False):
            _ONE_ZERO.extend([torch.tensor(1.0), torch.tensor(0)])
    return _ONE_ZERO[0], _ONE_ZERO[1]


INT8_PRODUCT = Operation("int8 product", product)
if has_fast_int8():
    INT8_PRODUCT.add("cpu", "fbgemm", product_by_fbgemm)
