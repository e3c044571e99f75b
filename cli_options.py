"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DELAY_MS = 480

Model = Annotated[str, typer.Option(help="A model that comes along, or the path of a model folder.")]
DelayMs = Annotated[
    int,
    typer.Option(help="How much audio after a word the model waits for; a multiple of 80, more is surer."),
]
CodecModel = Annotated[str, typer.Option(help="A codec that comes along, or the path of a model folder.")]


def kept(path: Path | None) -> Path | None:
    """A file to write, refused before the work whose result could not be kept."""
    if path is not None:
        from .commands.outputs import check_output

        check_output(path)
    return path
