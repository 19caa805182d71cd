"""The command line. Imports little: every command brings in what it needs when it runs."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer

from data_manifests.errors import InputError
from flows.cli import compare as compare_cli
from flows.cli import curate as curate_cli
from flows.cli import export, kg, llm, report
from flows.cli import versions as versions_cli
from flows.cli.options import JsonOpt, LimitOpt, SetOpt, SplitOpt, places
from flows.evaluation.registry import KINDS

app = typer.Typer(
    name="clipcurate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Curate small image-text data sets offline, fine-tune CLIP on them, and prove what it bought.",
)

app.add_typer(curate_cli.app)
app.add_typer(compare_cli.app)
app.add_typer(versions_cli.app)
app.add_typer(report.app)
app.add_typer(kg.app, name="kg")
app.add_typer(llm.app, name="llm")
app.add_typer(export.app, name="export")

EXIT_DID_NOT_HOLD = 1
EXIT_BAD_INPUT = 2


@app.callback()
def _global(
    workspace: Annotated[Path, typer.Option("--workspace", help="store, shards, runs")] = Path("workspace"),
    manifests: Annotated[Path, typer.Option("--manifests", help="manifests, meant to be committed")] = Path(
        "data_manifests"
    ),
) -> None:
    places.workspace, places.manifests = workspace, manifests


@app.command()
def recipes(as_json: JsonOpt = False) -> None:
    """List the recipes with their papers."""
    from flows.cli.commands import list_recipes

    list_recipes(as_json=as_json)


@app.command()
def doctor(as_json: JsonOpt = False) -> None:
    """Check that this machine has what every part needs."""
    from flows.cli.doctor import examine

    raise typer.Exit(0 if examine(places.workspace, as_json=as_json) else EXIT_DID_NOT_HOLD)


@app.command()
def versions(name: Annotated[str, typer.Argument(help="data set")], as_json: JsonOpt = False) -> None:
    """List a data set's versions."""
    from flows.cli.commands import list_versions

    list_versions(places.catalog, name, as_json=as_json)


@app.command()
def show(
    ref: Annotated[str, typer.Argument(metavar="NAME@VER")],
    uid: Annotated[str | None, typer.Argument(help="a sample's uid, or enough of its beginning")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="write a page with pictures")] = None,
    negatives: Annotated[bool, typer.Option("--negatives", help="some negatives, their edits marked")] = False,
    types: Annotated[list[str] | None, typer.Option("--type", help="only negatives of this type")] = None,
    operations: Annotated[list[str] | None, typer.Option("--operation", help="only of this operation")] = None,
    low: Annotated[float | None, typer.Option("--min-difficulty", help="0 easiest, 1 hardest")] = None,
    high: Annotated[float | None, typer.Option("--max-difficulty")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, max=10_000, help="negatives; default 20")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="which negatives are drawn; default 0")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Show a version, its negatives, or one sample with the lineage of each of its texts."""
    from flows.cli.commands import show_negatives, show_version

    filters = (types, operations, low, high, limit, seed)
    if negatives:
        show_negatives(places.catalog, ref, uid, html, filters, as_json=as_json)
        return
    if any(value is not None for value in filters):
        raise InputError(
            "--type, --operation, --min-difficulty, --max-difficulty, --limit and --seed choose negatives",
            fix="add --negatives",
        )
    show_version(places.catalog, ref, uid, html, as_json=as_json)


@app.command()
def verify(
    ref: Annotated[str, typer.Argument(metavar="NAME@VER")],
    absent: Annotated[
        list[str] | None, typer.Option("--absent", help="uid that must be nowhere in workspace and manifests")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="with --absent: KIND:PATH that still has the pictures and words")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Hash every file of a version again and compare with its manifest; or prove that samples are absent."""
    from flows.cli.commands import verify_version
    from flows.terminal.reshard_forget import prove_absent

    if absent:
        holds = prove_absent(places.catalog, ref, absent, source, as_json=as_json)
    else:
        holds = verify_version(places.catalog, ref, as_json=as_json)
    raise typer.Exit(0 if holds else EXIT_DID_NOT_HOLD)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="A")],
    new: Annotated[str, typer.Argument(metavar="B")],
    as_json: JsonOpt = False,
    html: Annotated[Path | None, typer.Option("--html", help="write a page with pictures")] = None,
) -> None:
    """Show which samples, captions and words, negatives, clusters and statistics moved between two versions."""
    from flows.cli.commands import show_diff

    show_diff(places.catalog, old, new, html, as_json=as_json)


@app.command()
def train(
    ref: Annotated[str, typer.Argument(metavar="NAME@VER")],
    recipe: Annotated[str, typer.Option("--recipe", help="whose plan, objectives and numbers")],
    model: Annotated[str, typer.Option("--model", help="model spec to start from")],
    out: Annotated[Path, typer.Option("--out", help="run folder")],
    steps: Annotated[int | None, typer.Option("--steps", min=1)] = None,
    tune: Annotated[str | None, typer.Option("--tune", help="lora, full or projection")] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0)] = None,
    settings: SetOpt = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in --out")] = False,
    shards: Annotated[str | None, typer.Option("--shards", help="https:// or s3:// folder of the shards")] = None,
    replay: Annotated[str | None, typer.Option("--replay", help="a plan.parquet whose order is followed")] = None,
    prefect: Annotated[bool, typer.Option("--prefect", help="as a Prefect flow run")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Train a model on a version with a recipe's plan and objectives."""
    from flows.cli.commands import run_training
    from flows.execution.jobs import TrainJob

    sets = [*(settings or [])]
    sets += [
        f"train.{key}={value}" for key, value in (("steps", steps), ("tune", tune), ("seed", seed)) if value is not None
    ]
    where = str(places.workspace), str(places.manifests)
    job = TrainJob(ref, recipe, model, str(out), *where, tuple(sets), resume, shards, replay)
    run_training(job, prefect=prefect, as_json=as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="RUN|SPEC")],
    on: Annotated[list[str], typer.Option("--on", help="KIND:SRC, KIND one of " + " ".join(KINDS))],
    split: SplitOpt = None,
    limit: LimitOpt = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the results here as well")] = None,
    items: Annotated[Path | None, typer.Option("--items", help="parquet of the cases behind every number")] = None,
    clip_benchmark: Annotated[
        Path | None, typer.Option("--clip-benchmark", help="folder for JSON files as CLIP_benchmark writes them")
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="only what text alone reaches: no image is opened")] = False,
    blind_texts: Annotated[
        str | None, typer.Option("--blind-texts", help="what blind judges learn from: a text file or KIND:PATH[#SPLIT]")
    ] = None,
    blend: Annotated[
        str | None, typer.Option("--blend", help="the run's base: evaluate models between the two (WiSE-FT)")
    ] = None,
    share: Annotated[
        list[float] | None, typer.Option("--share", help="of the tuned model, with --blend; 0 to 1, repeatable")
    ] = None,
) -> None:
    """Evaluate a model or run on held-out data."""
    from flows.evaluation.blind import read_blind_texts
    from flows.evaluation.registry import EvalOptions
    from flows.evaluation.run import ResultFiles, print_comparison, print_results, run_evaluation, run_sweep

    files = ResultFiles(json_file, items, clip_benchmark)
    if blend is not None and (files != ResultFiles() or blind or blind_texts is not None):
        told = "--json, --items, --clip-benchmark, --blind or --blind-texts with --blend"
        raise InputError(told, allowed="the table on the screen", fix="leave them out")
    if blend is not None:
        for columns in run_sweep(
            model, blend, share or (0.0, 0.25, 0.5, 0.75, 1.0), on, EvalOptions(places.catalog, split, limit)
        ):
            print_comparison(columns)
        return
    texts = () if blind_texts is None else read_blind_texts(blind_texts)
    print_results(run_evaluation(model, on, EvalOptions(places.catalog, split, limit, blind, texts), files))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for everything the demo makes")] = Path("demo"),
) -> None:
    """Run the main job end to end on generated scenes: curate, train, evaluate, edit, curate again, diff."""
    from flows.cli.demo import run_demo

    run_demo(out)


def main() -> None:
    """Run the command line; what the user can mend ends in one message and exit code 2."""
    try:
        app()
    except InputError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        where = f" ({error.filename})" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        _fail(
            f"{'disk full' if full else error.strerror}{where}: nothing half-written was published\n"
            f"  next:    {'free space' if full else 'check permissions'} or give another --workspace; finished batches are kept"
        )


def _fail(message: str) -> None:
    """Print an error and leave with exit code 2."""
    sys.stderr.write(f"clipcurate: error: {message}\n")
    sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()  # torchrun starts modules, not commands
