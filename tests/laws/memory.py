"""The memory law: a session costs a constant, known number of bytes, however long it lasts."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch

from laws.play import Axes, Inputs, Signals, Streaming
from rillvox.kernels.state import flatten, nbytes


def assert_memory_law(
    module: Streaming,
    x: Inputs,
    *,
    time_axis: Axes = 1,
    grain: int = 1,
    rounds: int = 5,
    state_options: Mapping[str, Any] | None = None,
) -> int:
    """The state stays the same tensors, no tensor is hoarded elsewhere, each slot costs the same.

    The signal is played `rounds` times over, one grain a step, without a reset.

    Returns:
        Bytes of one session.

    Raises:
        AssertionError: with the tensor that grew or moved.
    """
    signals = Signals.of(x, time_axis)
    options = dict(state_options or {})
    one, three = (nbytes(module.initial_state(slots, **options)) for slots in (1, 3))
    if one * 3 != three:
        raise AssertionError(f"one slot costs {one} bytes, three cost {three}")
    state = module.initial_state(1, **options)
    before = {name: (leaf.data_ptr(), leaf.shape, leaf.dtype) for name, leaf in flatten(state)}
    active = torch.ones(1, dtype=torch.bool)

    def listen() -> None:
        begins = {0: 0}
        with torch.inference_mode():
            while begins[0] + grain <= signals.time:
                module.step(*signals.chunk({0: 0}, begins, grain, 1), state, active)
                begins[0] += grain

    listen()  # whatever is made once and kept, is made now
    gc.collect()
    gc.freeze()  # all that lives now is out of sight of `gc.get_objects`
    try:
        for _ in range(rounds - 1):
            listen()
        grown = _living_bytes()
    finally:
        gc.unfreeze()
    after = {name: (leaf.data_ptr(), leaf.shape, leaf.dtype) for name, leaf in flatten(state)}
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            raise AssertionError(f"state {name}: was {before.get(name)}, is {after.get(name)}")
    if grown > 0:
        raise AssertionError(f"{grown} bytes of tensors were kept over {rounds - 1} rounds")
    return one


def _living_bytes() -> int:
    """Of all tensors since the last `gc.freeze`."""
    gc.collect()
    # Storages, not tensors: several views share one.
    storages: dict[int, int] = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
