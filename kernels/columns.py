"""int8 weights in the order in which `numba_dense.py` reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .int8 import round_weight

COLUMNS = 32  # outputs that lie side by side

Columns = tuple[NDArray[np.int8], NDArray[np.float32]]


def in_columns(weight: Tensor) -> Columns:
    """Round float weights [out, in] to int8 [blocks, in, COLUMNS] and scales [blocks * COLUMNS].

    Outputs are filled up with zeros to whole blocks.
    """
    whole, scale = round_weight(weight.detach())
    outputs, inputs = whole.shape
    more = -outputs % COLUMNS
    blocks = np.pad(whole.numpy(), ((0, more), (0, 0))).reshape(-1, COLUMNS, inputs)
    return np.ascontiguousarray(blocks.swapaxes(1, 2)), np.pad(scale.numpy(), (0, more))


def layers_in_columns(weights: Sequence[Tensor]) -> Columns:
    """The same for layers of one shape: int8 [layers, blocks, in, COLUMNS], scales [layers, ...]."""
    pairs = [in_columns(weight) for weight in weights]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])
