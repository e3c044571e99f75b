"""The command line. Imports typer only: every command imports what it needs inside its body."""

from __future__ import annotations

import typer

app = typer.Typer(name="rillvox", no_args_is_help=True, add_completion=False)


@app.callback()
def root() -> None:
    """Live speech recognition at any size."""


def main() -> None:
    """Run the command line; the entry point of the `rillvox` script."""
    app()
