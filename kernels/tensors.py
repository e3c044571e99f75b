"""Named tensors in one or several safetensors files, read one at a time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from .section import read_json

# Types that weights are stored in; anything else is a quantised file, or no weight.
FLOATS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class _Slice(Protocol):
    def get_shape(self) -> list[int]: ...
    def get_dtype(self) -> str: ...


class _Handle(Protocol):
    def __enter__(self) -> _Handle: ...
    def __exit__(self, *error: object) -> None: ...
    def keys(self) -> list[str]: ...
    def get_slice(self, name: str) -> _Slice: ...
    def get_tensor(self, name: str) -> Tensor: ...


class TensorFiles:
    """The tensors of a checkpoint by name; a context manager that holds the files open.

    Raises:
        CheckpointError: a file is missing, cut short or no safetensors file, or two of them hold
            a tensor of the same name.
    """

    def __init__(self, paths: list[Path], device: torch.device) -> None:
        self._open = ExitStack()
        self._where: dict[str, tuple[Path, _Handle]] = {}
        try:
            for path in paths:
                handle = self._enter(path, device)
                for name in handle.keys():  # noqa: SIM118  (a safetensors handle is no mapping)
                    if name in self._where:
                        raise CheckpointError(f"{path}: {name} is in {self._where[name][0].name} already")
                    self._where[name] = path, handle
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> TensorFiles:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def names(self) -> list[str]:
        """All names, file by file."""
        return list(self._where)

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def path(self, name: str) -> Path:
        """The file that a tensor is in."""
        return self._where[name][0]

    def shape(self, name: str) -> list[int]:
        """Shape, from the header alone."""
        return self._where[name][1].get_slice(name).get_shape()

    def dtype(self, name: str) -> torch.dtype:
        """Type of the stored numbers.

        Raises:
            CheckpointError: they are no floats.
        """
        path, handle = self._where[name]
        found = handle.get_slice(name).get_dtype()
        if found not in FLOATS:
            raise CheckpointError(
                f"{path}: {name}: expected one of {', '.join(FLOATS)}, found {found}; "
                "quantised files are not read"
            )
        return FLOATS[found]

    def read(self, name: str) -> Tensor:
        """The tensor, on the device; on a CPU it may be a view of the file that copies on write."""
        path, handle = self._where[name]
        try:
            return handle.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise CheckpointError(f"{path}: {name}: cannot be read: {error}") from error

    def _enter(self, path: Path, device: torch.device) -> _Handle:
        if not path.is_file():
            raise CheckpointError(f"{path}: is missing")
        try:
            opened: object = safe_open(path, framework="pt", device=str(device))
            return self._open.enter_context(cast("_Handle", opened))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{path}: is no whole safetensors file ({error}); was the download cut short?"
            ) from error


def shards(index: Path) -> list[Path]:
    """The files that a `*.safetensors.index.json` lists, in its order.

    Raises:
        CheckpointError: the index is no index, or points out of its folder.
    """
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CheckpointError(f"{index}: weight_map must be an object with an entry for each tensor")
    names: dict[str, None] = {}
    for tensor, name in cast("dict[str, object]", table).items():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index}: {tensor}: {name!r} is no safetensors file beside the index")
        names[name] = None
    return [index.parent / name for name in names]
