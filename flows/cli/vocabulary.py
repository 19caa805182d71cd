"""``clipcurate vocabulary``: files of words that exclude each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import RefArg

app = typer.Typer(name="vocabulary", no_args_is_help=True, help="Files of words that exclude each other.")


@app.callback()
def _group() -> None:
    """Keep `suggest` a command of its own: a group of one command would be called by the group's name."""


@app.command()
def suggest(
    ctx: typer.Context,
    ref: RefArg,
    out: Annotated[Path, typer.Option("--out", help="the file to write")] = Path("vocabulary.toml"),
) -> None:
    """Write what a version learned as a file to edit and to give by --vocabulary."""
    from flows.terminal.contrasts import write_suggestion

    write_suggestion(ctx.obj, ref, out)
