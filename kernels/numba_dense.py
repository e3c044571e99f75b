"""Linear layers with int8 weights and float inputs for a few rows, compiled by numba.

A loop that numba turns into vector code by itself adds up along a row, and pays for the end of every sum.
Here a vector holds neighbouring outputs, so that weights are stored in columns of `COLUMNS` outputs, and what
is turned to float is used for several rows. Written in LLVM's own language, since nothing in numba's keeps
sums in registers. An output is added up in the order of its inputs, whatever else is computed beside it.
"""

from __future__ import annotations

from typing import Any, cast

from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]
from numba.core import cgutils, types
from numba.extending import intrinsic

from .columns import COLUMNS
from .numba_decoder import Bytes, Floats, compiled_in_order

_LANES = 8  # of a vector; where the machine's are shorter, LLVM takes two
_TYPES, _IR, _UTILS = cast("Any", types), cast("Any", ir), cast("Any", cgutils)


def _tile(rows: int, columns: int) -> Any:
    """A function that writes y[row : row + rows, begin : begin + columns]; both in registers."""

    def tile(
        _: Any, x: Any, _row: Any, weight: Any, _column: Any, scale: Any, y: Any, _begin: Any
    ) -> tuple[Any, Any]:
        """`weight` int8 [in, COLUMNS], taken from a column on; `scale` and `y` are those of all outputs."""
        size = _TYPES.intp
        return _TYPES.void(x, size, weight, size, scale, y, size), generate

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        single, byte, size = _IR.FloatType(), _IR.IntType(8), _IR.IntType(64)
        vector, group = _IR.VectorType(single, _LANES), range(columns // _LANES)
        arrays = {
            at: context.make_array(signature.args[at])(context, builder, given[at]) for at in (0, 2, 4, 5)
        }
        x, weight, scale, y = arrays[0], arrays[2], arrays[4], arrays[5]
        row, column, begin = given[1], given[3], given[6]
        width, outputs = builder.extract_value(x.shape, 1), builder.extract_value(y.shape, 1)
        every = [builder.add(row, size(r)) for r in range(rows)]
        inputs = [builder.gep(x.data, [builder.mul(r, width)]) for r in every]
        nothing, unset = _IR.Constant(vector, [0.0] * _LANES), _IR.Constant(vector, _IR.Undefined)
        first = _IR.Constant(_IR.VectorType(_IR.IntType(32), _LANES), [0] * _LANES)
        sums = [[_UTILS.alloca_once_value(builder, nothing) for _ in group] for _ in every]

        def vectors(data: Any, at: Any, kind: Any) -> list[Any]:
            places = [builder.gep(data, [builder.add(at, size(v * _LANES))]) for v in group]
            return [builder.bitcast(place, _IR.VectorType(kind, _LANES).as_pointer()) for place in places]

        with _UTILS.for_range(builder, width) as loop:
            at = builder.add(builder.mul(loop.index, size(COLUMNS)), column)
            weights = [
                builder.sitofp(builder.load(place, align=1), vector)
                for place in vectors(weight.data, at, byte)
            ]
            for line, row_sums in zip(inputs, sums, strict=True):
                value = builder.load(builder.gep(line, [loop.index]))
                value = builder.insert_element(unset, value, _IR.IntType(32)(0))
                value = builder.shuffle_vector(value, unset, first)
                for w, place in zip(weights, row_sums, strict=True):
                    product = builder.fmul(value, w, flags=("contract",))
                    builder.store(builder.fadd(builder.load(place), product, flags=("contract",)), place)
        scales = [builder.load(place, align=4) for place in vectors(scale.data, begin, single)]
        for r, row_sums in zip(every, sums, strict=True):
            out = vectors(y.data, builder.add(builder.mul(r, outputs), begin), single)
            for s, total, place in zip(scales, row_sums, out, strict=True):
                builder.store(builder.fmul(builder.load(total), s), place, align=4)
        return context.get_dummy_value()

    return intrinsic(tile)


_one, _two, _three, _four = (
    _tile(1, COLUMNS),
    _tile(2, COLUMNS),
    _tile(3, COLUMNS // 2),
    _tile(4, COLUMNS // 2),
)  # 4, 8, 6 and 8 registers of sums


@compiled_in_order
def dense_many(x: Floats, weight: Bytes, scale: Floats, y: Floats) -> None:
    """y [rows, out] = x [rows, in] times int8 [out / COLUMNS, in, COLUMNS], with a scale for each output.

    All of them contiguous: nothing is checked.
    """
    rows = x.shape[0]
    for block in range(weight.shape[0]):
        begin = block * COLUMNS
        r = 0
        while r + 4 <= rows:
            _four(x, r, weight[block], 0, scale, y, begin)
            _four(x, r, weight[block], COLUMNS // 2, scale, y, begin + COLUMNS // 2)
            r += 4
        if r + 3 <= rows:
            _three(x, r, weight[block], 0, scale, y, begin)
            _three(x, r, weight[block], COLUMNS // 2, scale, y, begin + COLUMNS // 2)
            r += 3
        if r + 2 <= rows:
            _two(x, r, weight[block], 0, scale, y, begin)
            r += 2
        if r < rows:
            _one(x, r, weight[block], 0, scale, y, begin)
