"""What a slot of an engine holds, taken out as named tensors and put into another one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..errors import ConfigError

Snapshot = dict[str, Tensor]


def take_out(rows: Mapping[str, Tensor], slot: int) -> Snapshot:
    """Copies of row `slot` of every tensor [slots, ...]; they can be kept in a safetensors file."""
    return {name: value[slot].clone() for name, value in rows.items()}


def put_in(rows: Mapping[str, Tensor], slot: int, kept: Snapshot) -> None:
    """Write what `take_out` gave into row `slot` of every tensor; nothing is written if it does not fit.

    Raises:
        ConfigError: names, shapes or types are those of another model, or of an engine made otherwise.
    """
    odd = sorted(rows.keys() ^ kept.keys())
    odd += [
        name
        for name, value in rows.items()
        if name in kept and (kept[name].shape != value.shape[1:] or kept[name].dtype != value.dtype)
    ]
    if odd:
        raise ConfigError(
            f"snapshot: {odd[0]} is not what this engine holds; restore it into one of the same model, with "
            "the same chunk and type of weights"
        )
    for name, value in rows.items():
        value[slot] = kept[name].to(value.device)
