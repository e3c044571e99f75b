"""Which implementation of an operation runs, and one log line that says so.

An operation has a reference, plain and readable, and may have faster twins for a kind of device.
All of them give the same numbers; tests run each twin against the reference.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

import torch

from ..errors import ConfigError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

REFERENCE = "reference"


@dataclass
class _Wish:
    """What everybody asked for: the fastest, or the references only."""

    references_only: bool


def wants_references() -> bool:
    """What the environment says.

    Raises:
        ConfigError: RILLVOX_KERNELS is neither `fastest` nor `reference`.
    """
    wish = os.environ.get("RILLVOX_KERNELS", "fastest")
    if wish not in ("fastest", REFERENCE):
        raise ConfigError(f"RILLVOX_KERNELS must be fastest or {REFERENCE}, got {wish!r}")
    return wish == REFERENCE


_wish = _Wish(wants_references())


class Operation(Generic[P, T]):
    """One function, several implementations.

    `operation.on(device)` is the function to call. The first call for a kind of device logs what
    it chose, at level INFO under this module's name.
    """

    def __init__(self, name: str, reference: Callable[P, T]) -> None:
        self.name = name
        self.reference = reference
        self.twins: dict[str, tuple[str, Callable[P, T]]] = {}
        self._chosen: dict[tuple[str, bool], Callable[P, T]] = {}

    def add(self, device_type: str, name: str, twin: Callable[P, T]) -> Callable[P, T]:
        """Let `twin` run on devices of this type instead of the reference."""
        self.twins[device_type] = (name, twin)
        self._chosen.pop((device_type, False), None)
        return twin

    def on(self, device: torch.device) -> Callable[P, T]:
        """The implementation that runs on this device."""
        case = (device.type, _wish.references_only)
        chosen = self._chosen.get(case)
        if chosen is None:
            name, chosen = REFERENCE, self.reference
            if not _wish.references_only:
                name, chosen = self.twins.get(device.type, (name, chosen))
            log.info("%s on %s: %s", self.name, device.type, name)
            self._chosen[case] = chosen
        return chosen


@contextmanager
def references_only() -> Generator[None]:
    """Run references alone inside this block, as the environment's RILLVOX_KERNELS=reference does.

    For the whole process, not for one thread: meant for tests and for hunting a wrong number.
    """
    before = _wish.references_only
    _wish.references_only = True
    try:
        yield
    finally:
        _wish.references_only = before
