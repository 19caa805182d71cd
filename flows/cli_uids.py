"""``clipcurate export uids``: a version's selection as DataComp's tools read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.options import JsonOpt, places

app = typer.Typer(name="export", no_args_is_help=True, help="Write a version in the formats of others.")


@app.callback()
def _group() -> None:
    """Keep the command's name, although it is the only one."""


@app.command()
def uids(
    ref: Annotated[str, typer.Argument(metavar="NAME@VER")],
    out: Annotated[Path, typer.Option("--out", help="the .npy file to write")],
    as_json: JsonOpt = False,
) -> None:
    """Write the sorted uids of a version as DataComp's subset file."""
    from flows.screen import out as screen
    from flows.screen import print_json
    from flows.uid_file import write_uids

    number = write_uids(places.catalog.open(ref), out)
    if as_json:
        print_json({"version": ref, "file": str(out), "uids": number})
    else:
        screen.print(f"wrote {number:,} uids to {out}")
