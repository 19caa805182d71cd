"""The commands that make a version from another one, or take samples out of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import JsonOpt, places

app = typer.Typer()


@app.command()
def reshard(
    ref: Annotated[str, typer.Argument(metavar="NAME@VER")],
    shard_mb: Annotated[int, typer.Option("--shard-mb", min=1, help="wished size of a shard in MiB")] = 64,
    order: Annotated[
        str, typer.Option("--order", help="cluster, difficulty, uid or shuffle:SEED; default: as it is")
    ] = "",
    bands: Annotated[
        int, typer.Option("--bands", min=0, help="bands of difficulty inside a cluster; 0: by difficulty itself")
    ] = 0,
    where: Annotated[
        list[str] | None, typer.Option("--where", help="condition on index.parquet, such as difficulty>=0.3; all hold")
    ] = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="uids to keep: text, .parquet or DataComp's .npy")] = None,
    out_name: Annotated[str | None, typer.Option("--out-name", help="publish under another name")] = None,
    judge: Annotated[
        bool, typer.Option("--judge", help="measure again how well text alone tells the negatives that stay; seconds")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Publish a version anew in other shards, another order, or as a selection, by byte ranges."""
    from flows.terminal.reshard_forget import run_reshard

    shape = (shard_mb, order, bands)
    run_reshard(places.catalog, ref, shape, tuple(where or ()), keep, out_name, judge=judge, as_json=as_json)


@app.command()
def forget(
    name: Annotated[str, typer.Argument(help="data set that the uids are looked up in")],
    uids: Annotated[list[str] | None, typer.Argument(metavar="UID...", help="uids, or unique beginnings")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="uids: text, .parquet or DataComp's .npy")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Take photographs and all that was made of them out of every version, store, cache and record, for good."""
    from flows.terminal.reshard_forget import run_forget

    run_forget(places.catalog, name, uids or [], file, dry_run=dry_run, as_json=as_json)
