"""``clipcurate export``: a version in the layouts of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from data_manifests.outputs import record_output
from flows.cli.options import JsonOpt, RefArg
from flows.terminal import console

app = typer.Typer(name="export", no_args_is_help=True, help="A version in the layouts of other tools.")


@app.command()
def embeddings(
    ctx: typer.Context,
    ref: RefArg,
    out: Annotated[Path, typer.Option("--out", help="the folder to make; must not exist")],
    captions: Annotated[
        Literal["first", "all"], typer.Option("--captions", help="first: one row for each image; all: for each caption")
    ] = "first",
    as_json: JsonOpt = False,
) -> None:
    """Write a version's embeddings as clip-retrieval lays them out: npy files and a parquet of metadata."""
    from curation.vectors.export import export_embeddings

    version = ctx.obj.open(ref)
    rows = export_embeddings(version, out, captions)
    record_output(ctx.obj.workspace, out, "export embeddings")
    if as_json:
        console.print_json({"version": version.ref, "rows": rows, "folder": str(out)})
    else:
        console.out.print(
            f"{version.ref}: {rows} rows in {out}/img_emb, {out}/text_emb and {out}/metadata", markup=False
        )


@app.command()
def uids(
    ctx: typer.Context,
    ref: RefArg,
    out: Annotated[Path, typer.Option("--out", help="the .npy file to write")],
    as_json: JsonOpt = False,
) -> None:
    """Write the sorted uids of a version as DataComp's subset file."""
    from flows.cli.datacomp_uids import write_uids

    number = write_uids(ctx.obj.open(ref), out)
    record_output(ctx.obj.workspace, out, "export uids")
    if as_json:
        console.print_json({"version": ref, "file": str(out), "uids": number})
    else:
        console.out.print(f"wrote {number:,} uids to {out}")
