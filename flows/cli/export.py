"""``clipcurate export``: a version in the layouts of other tools."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import JsonOpt, places

app = typer.Typer(name="export", no_args_is_help=True, help="A version in the layouts of other tools.")


class Captions(StrEnum):
    """Which captions get a row."""

    FIRST = "first"
    ALL = "all"


@app.command()
def embeddings(
    ref: Annotated[str, typer.Argument(metavar="NAME@VER")],
    out: Annotated[Path, typer.Option("--out", help="the folder to make; must not exist")],
    captions: Annotated[
        Captions, typer.Option("--captions", help="first: a row an image; all: a row a caption")
    ] = Captions.FIRST,
    as_json: JsonOpt = False,
) -> None:
    """Write a version's embeddings as clip-retrieval lays them out: npy files and a parquet of metadata."""
    from curation.vectors.export import export_embeddings
    from flows.terminal.console import out as screen
    from flows.terminal.console import print_json

    version = places.catalog.open(ref)
    rows = export_embeddings(version, out, captions.value)
    if as_json:
        print_json({"version": version.ref, "rows": rows, "folder": str(out)})
    else:
        screen.print(f"{version.ref}: {rows} rows in {out}/img_emb, {out}/text_emb and {out}/metadata", markup=False)


@app.command()
def uids(
    ref: Annotated[str, typer.Argument(metavar="NAME@VER")],
    out: Annotated[Path, typer.Option("--out", help="the .npy file to write")],
    as_json: JsonOpt = False,
) -> None:
    """Write the sorted uids of a version as DataComp's subset file."""
    from flows.cli.datacomp_uids import write_uids
    from flows.terminal.console import out as screen
    from flows.terminal.console import print_json

    number = write_uids(places.catalog.open(ref), out)
    if as_json:
        print_json({"version": ref, "file": str(out), "uids": number})
    else:
        screen.print(f"wrote {number:,} uids to {out}")
