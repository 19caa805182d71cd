"""The commands about versions: list, show, verify and compare them, lay one out anew, forget samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_manifests.errors import InputError
from flows.cli.options import BandsOpt, JsonOpt, RefArg, ShardOpt

app = typer.Typer()


@app.command()
def datasets(ctx: typer.Context, as_json: JsonOpt = False) -> None:
    """List the data sets: newest version, samples, recipe, size on disk, and when it was made."""
    from flows.terminal.versions import list_datasets

    list_datasets(ctx.obj, as_json=as_json)


@app.command()
def versions(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="data set")], as_json: JsonOpt = False
) -> None:
    """List a data set's versions."""
    from flows.terminal.versions import list_versions

    list_versions(ctx.obj, name, as_json=as_json)


@app.command()
def show(
    ctx: typer.Context,
    ref: RefArg,
    uid: Annotated[
        str | None, typer.Argument(help="a sample's uid, a unique beginning of it, or its picture's file name")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="write a page with pictures")] = None,
    negatives: Annotated[bool, typer.Option("--negatives", help="some negatives, their edits marked")] = False,
    contrasts: Annotated[bool, typer.Option("--contrasts", help="words that it learned to exclude each other")] = False,
    types: Annotated[list[str] | None, typer.Option("--type", help="only negatives of this type")] = None,
    operations: Annotated[list[str] | None, typer.Option("--operation", help="only of this operation")] = None,
    low: Annotated[float | None, typer.Option("--min-difficulty", help="0 easiest, 1 hardest")] = None,
    high: Annotated[float | None, typer.Option("--max-difficulty")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=10_000, help="negatives; default 20")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="which negatives are drawn; default 0")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Show a version, its negatives, or one sample with the lineage of each of its texts."""
    from data_manifests.negatives import NegativeFilter
    from flows.cli.report import write_page
    from flows.terminal.negatives import print_negatives
    from flows.terminal.versions import print_sample, print_version

    filtered = any(value is not None for value in (types, operations, low, high, limit, seed))
    if negatives and uid is not None:
        raise InputError(
            f"--negatives with the sample {uid!r}",
            allowed="one sample with all its negatives is shown without --negatives",
            fix=f"clipcurate show {ref} {uid}",
        )
    if filtered and not negatives:
        raise InputError(
            "--type, --operation, --min-difficulty, --max-difficulty, --limit and --seed choose negatives",
            fix="add --negatives",
        )
    if contrasts and (negatives or uid is not None or html is not None):
        raise InputError("--contrasts with a sample, --negatives or --html", fix=f"clipcurate show {ref} --contrasts")
    if contrasts:
        from flows.terminal.contrasts import print_contrasts

        print_contrasts(ctx.obj, ref, as_json=as_json)
        return
    wanted = NegativeFilter(tuple(types or ()), tuple(operations or ()), low, high)
    version = ctx.obj.open(ref)
    if html is not None:
        write_page(ctx.obj, ref, html, seed=seed or 0)
    if negatives:
        print_negatives(version, wanted, 20 if limit is None else limit, seed or 0, as_json=as_json)
    elif uid is not None:
        print_sample(version, uid, as_json=as_json)
    elif html is None or as_json:
        print_version(version, as_json=as_json)


@app.command()
def verify(
    ctx: typer.Context,
    ref: RefArg,
    absent: Annotated[
        list[str] | None, typer.Option("--absent", help="uid that must be nowhere in workspace and manifests")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="with --absent: KIND:PATH that still has the images and captions")
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option("--also", help="with --absent: search this too, such as a run, an export, pages or ~/.prefect"),
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Hash every file of a version again and compare with its manifest; or prove that samples are absent."""
    from flows.terminal.reshard_forget import prove_absent
    from flows.terminal.versions import verify_version

    if also and not absent:
        raise InputError("--also without --absent", allowed="--also adds folders to the search for absent samples")
    if absent:
        intact = prove_absent(ctx.obj, ref, absent, source, also or [], as_json=as_json)
    else:
        intact = verify_version(ctx.obj, ref, as_json=as_json)
    raise typer.Exit(0 if intact else 1)


@app.command()
def diff(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(metavar="A")],
    new: Annotated[str, typer.Argument(metavar="B")],
    as_json: JsonOpt = False,
    html: Annotated[Path | None, typer.Option("--html", help="write a page with pictures")] = None,
) -> None:
    """Show which samples, captions and words, negatives, clusters and statistics changed between two versions."""
    from flows.cli.report import show_diff

    show_diff(ctx.obj, old, new, html, as_json=as_json)


@app.command()
def reshard(
    ctx: typer.Context,
    ref: RefArg,
    shard_mb: ShardOpt = 64,
    order: Annotated[
        str, typer.Option("--order", help="cluster, difficulty, uid or shuffle:SEED; default: as it is")
    ] = "",
    bands: BandsOpt = 0,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="condition on index.parquet, such as difficulty>=0.3; all must be met"),
    ] = None,
    keep: Annotated[Path | None, typer.Option("--keep", help="uids to keep: text, .parquet or DataComp's .npy")] = None,
    out_name: Annotated[str | None, typer.Option("--out-name", help="publish under another name")] = None,
    judge: Annotated[
        bool, typer.Option("--judge", help="measure the blind accuracy of the remaining negatives again; takes seconds")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Publish a version again in other shards, another order, or as a selection, by copying byte ranges."""
    from curation.versions.layout import Layout, read_uids
    from flows.terminal.reshard_forget import run_reshard

    layout = Layout(shard_mb * 2**20, order, bands, tuple(where or ()), read_uids(keep) if keep else None)
    run_reshard(ctx.obj, ref, layout, keep, out_name, judge=judge, as_json=as_json)


@app.command()
def forget(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="data set that the uids are looked up in")],
    uids: Annotated[list[str] | None, typer.Argument(metavar="UID...", help="uids, or unique beginnings")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="uids: text, .parquet or DataComp's .npy")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be removed")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Remove samples and everything derived from them from every version, store, cache and record, for good."""
    from flows.terminal.reshard_forget import run_forget

    run_forget(ctx.obj, name, uids or [], file, dry_run=dry_run, as_json=as_json)
