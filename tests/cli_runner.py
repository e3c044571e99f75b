"""`rillvox` in this process."""

from __future__ import annotations

import pytest

from rillvox.cli import main


def run(*args: object) -> int:
    """The exit status of `rillvox ARGS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["rillvox", *map(str, args)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0
