"""``clipcurate export``: a version or a run in the layouts of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from data_manifests.outputs import record_output
from flows.cli.options import JsonOpt, RefArg
from flows.terminal import console

app = typer.Typer(name="export", no_args_is_help=True, help="A version or a run in the layouts of other tools.")


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


@app.command()
def model(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder of clipcurate train")],
    out: Annotated[Path, typer.Option("--out", help="the folder to make; must not exist")],
    layout: Annotated[
        Literal["open_clip", "hf", "adapter"],
        typer.Option("--format", help="open_clip's folder, transformers' CLIPModel, or peft's adapter (LoRA runs)"),
    ] = "open_clip",
    evaluation: Annotated[
        list[Path] | None,
        typer.Option("--evaluation", help="results of evaluate --json for the card; default: those next to the run"),
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", help="upload to this repository of the Hugging Face Hub")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Write a run's model, adapters folded in, with a model card, for open_clip, transformers or peft."""
    from flows.cli.hub import check_hub, upload
    from flows.cli.model_export import export_model

    if push is not None:
        check_hub(push)
    export_model(ctx.obj, run, layout, out, evaluation or ())
    address = upload(out, push, "model") if push is not None else None
    files = sorted(path.name for path in out.iterdir())
    if as_json:
        console.print_json({"run": str(run), "format": layout, "folder": str(out), "files": files, "pushed": address})
    else:
        console.out.print(f"{out}: {', '.join(files)}{f'; pushed to {address}' if address else ''}", markup=False)


@app.command()
def dataset(
    ctx: typer.Context,
    ref: RefArg,
    hf: Annotated[Path, typer.Option("--hf", metavar="DIR", help="the folder to make; must not exist")],
    push: Annotated[str | None, typer.Option("--push", help="upload to this data set of the Hugging Face Hub")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Write a version as Hugging Face's datasets reads it, with a data set card: parquet files with the images."""
    from data_manifests.hub_dataset import export_hub_dataset
    from flows.cli.hub import check_hub, upload

    if push is not None:
        check_hub(push)
    version = ctx.obj.open(ref)
    rows = export_hub_dataset(version, hf)
    record_output(ctx.obj.workspace, hf, "export dataset")
    address = upload(hf, push, "dataset") if push is not None else None
    if as_json:
        console.print_json({"version": version.ref, "folder": str(hf), "rows": rows, "pushed": address})
    else:
        numbers = ", ".join(f"{name} {number:,}" for name, number in rows.items())
        console.out.print(
            f"{version.ref}: {numbers} rows in {hf}{f'; pushed to {address}' if address else ''}", markup=False
        )
