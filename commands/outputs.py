"""Files to write: refused before the work whose result could not be kept."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ConfigError


def check_output(path: Path) -> None:
    """Refuse a file that could not be written later; nothing is made.

    Raises:
        ConfigError: a folder, in a folder that does not exist, or where one may not write.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file to write to")
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{path} cannot be written: permission denied")
