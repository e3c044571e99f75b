"""JSON objects read key by key: every value has a type and a range; what is wrong is named by its path."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..errors import CheckpointError


@dataclass(frozen=True)
class Section:
    """A JSON object whose keys are read with a type and, when wrong, named with their path."""

    values: Mapping[str, object]
    path: str = ""

    def section(self, key: str) -> Section:
        """The object under `key`."""
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.error(key, f"must be an object, got {value!r}")
        return Section(cast("dict[str, object]", value), f"{self.path}{key}.")

    def integer(self, key: str, default: int | None = None, *, minimum: int = 1) -> int:
        """A whole number; digits in a string count as one, as `sliding_window` may be written."""
        value = self._get(key, default)
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(key, f"must be a whole number, got {value!r}")
        if value < minimum:
            raise self.error(key, f"must be at least {minimum}, got {value}")
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self._get(key, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.error(key, f"must be a number, got {value!r}")
        if not math.isfinite(value) or value <= 0:
            raise self.error(key, f"must be above 0 and finite, got {value!r}")
        return float(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._get(key, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise self.error(key, f"must be a finite number, got {value!r}")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, got {value!r}")
        return value

    def text(self, key: str) -> str:
        """Text that is not empty."""
        value = self._get(key, None)
        if not isinstance(value, str) or not value:
            raise self.error(key, f"must be text, got {value!r}")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """One of a few words."""
        value = self._get(key, default)
        if value not in allowed:
            raise self.error(key, f"must be one of {', '.join(allowed)}, got {value!r}")
        return cast("str", value)

    def items(self, key: str, kind: type[int] | type[str]) -> list[object]:
        """A list whose entries are all whole numbers, or all strings."""
        value = self._get(key)
        entries = cast("list[object]", value) if isinstance(value, list) else None
        if entries is None or not all(isinstance(e, kind) and not isinstance(e, bool) for e in entries):
            word = "whole numbers" if kind is int else "strings"
            raise self.error(key, f"must be a list of {word}, got {value!r}")
        return entries

    def expect(self, key: str, value: object) -> None:
        """Refuse anything but the one value that this model family has."""
        found = self._get(key, value)
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            raise self.error(key, f"must be {json.dumps(value)}, got {found!r}")

    def refuse(self, keys: tuple[str, ...]) -> None:
        """Refuse keys that would change the model in a way it does not know."""
        for key in keys:
            if self.values.get(key) not in (None, False):
                raise self.error(key, "is not supported")

    def error(self, key: str, what: str) -> CheckpointError:
        """What is wrong with `key`, by its full path."""
        return CheckpointError(f"{self.path}{key} {what}")

    def _get(self, key: str, default: object = None) -> object:
        value = self.values.get(key, default)
        if value is None:
            raise self.error(key, "is missing")
        return value


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        CheckpointError: the file is missing, cut short, or holds something else.
    """
    try:
        document: object = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: is not JSON ({error}); was it cut short?") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: holds no JSON object")
    return cast("dict[str, object]", document)
