"""The command line. Imports little: every command brings in what it needs when it runs."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog

if TYPE_CHECKING:
    from flows.jobs import CurateJob

app = typer.Typer(
    name="clipcurate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Curate small image-text data sets offline, fine-tune CLIP on them, and prove what it bought.",
)

EXIT_DID_NOT_HOLD = 1
EXIT_BAD_INPUT = 2


@dataclass
class Places:
    """The global options: where things lie."""

    workspace: Path = Path("workspace")
    manifests: Path = Path("data_manifests")

    @property
    def catalog(self) -> Catalog:
        """The versions there are."""
        return Catalog(self.manifests, self.workspace)


places = Places()

RecipeArg = Annotated[str, typer.Argument(help="a recipe; see clipcurate recipes")]
SourceOpt = Annotated[
    str, typer.Option("--source", help="KIND:PATH, KIND one of flickr coco folder parquet webdataset scenes")
]
NameOpt = Annotated[str, typer.Option("--name", help="data set's name")]
ModelOpt = Annotated[
    str | None, typer.Option("--model", help="model spec: ARCH:PRETRAINED, config name, file or run folder")
]
SplitOpt = Annotated[str | None, typer.Option("--split", help="only this split: train, dev or test")]
LimitOpt = Annotated[int | None, typer.Option("--limit", min=1, help="at most so many samples")]
SetOpt = Annotated[list[str] | None, typer.Option("--set", help="path=value, such as stages.swap_words.seed=1")]
JsonOpt = Annotated[bool, typer.Option("--json", help="print only JSON")]
WorkersOpt = Annotated[int, typer.Option("--workers", min=0, help="processes; 0 means one for each core")]
ShardOpt = Annotated[int, typer.Option("--shard-mb", min=1, help="wished size of a shard in MiB")]


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
    from flows.commands import list_recipes

    list_recipes(as_json=as_json)


@app.command()
def doctor(as_json: JsonOpt = False) -> None:
    """Check that this machine has what every part needs."""
    from flows.doctor import examine

    raise typer.Exit(0 if examine(places.workspace, as_json=as_json) else EXIT_DID_NOT_HOLD)


@app.command()
def plan(
    recipe: RecipeArg,
    source: SourceOpt,
    name: NameOpt,
    model: ModelOpt = None,
    split: SplitOpt = None,
    limit: LimitOpt = None,
    workers: WorkersOpt = 0,
    settings: SetOpt = None,
    shard_mb: ShardOpt = 64,
    why: Annotated[bool, typer.Option("--why", help="say why each stage runs")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Say what curate would run, reuse, take and need, before anything runs."""
    from flows.commands import show_plan

    job = _job(recipe, source, name, model, split, limit, workers, settings, shard_mb)
    show_plan(job, why=why, as_json=as_json)


@app.command()
def curate(
    recipe: RecipeArg,
    source: SourceOpt,
    name: NameOpt,
    model: ModelOpt = None,
    split: SplitOpt = None,
    limit: LimitOpt = None,
    workers: WorkersOpt = 0,
    runner: Annotated[str, typer.Option("--runner", help="local, dask or dask:ADDRESS")] = "local",
    settings: SetOpt = None,
    shard_mb: ShardOpt = 64,
    no_prefect: Annotated[bool, typer.Option("--no-prefect", help="run the bare engine; same bytes")] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="seconds to wait for another run on this name")] = 0.0,
    as_json: JsonOpt = False,
) -> None:
    """Run a recipe's curation and publish a data set version (or find that nothing has changed)."""
    from flows.commands import run_curation

    job = _job(recipe, source, name, model, split, limit, workers, settings, shard_mb, wait)
    run_curation(job, runner, no_prefect=no_prefect, as_json=as_json)


@app.command()
def versions(name: Annotated[str, typer.Argument(help="data set")], as_json: JsonOpt = False) -> None:
    """List a data set's versions."""
    from flows.commands import list_versions

    list_versions(places.catalog, name, as_json=as_json)


@app.command()
def show(
    ref: Annotated[str, typer.Argument(metavar="NAME@VER")],
    uid: Annotated[str | None, typer.Argument(help="a sample's uid, or enough of its beginning")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="write a page with pictures")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Show a version, or one sample with the lineage of each of its texts."""
    from flows.commands import show_version

    show_version(places.catalog, ref, uid, html, as_json=as_json)


@app.command()
def verify(ref: Annotated[str, typer.Argument(metavar="NAME@VER")], as_json: JsonOpt = False) -> None:
    """Hash every file of a version again and compare with its manifest."""
    from flows.commands import verify_version

    raise typer.Exit(0 if verify_version(places.catalog, ref, as_json=as_json) else EXIT_DID_NOT_HOLD)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="A")],
    new: Annotated[str, typer.Argument(metavar="B")],
    as_json: JsonOpt = False,
    html: Annotated[Path | None, typer.Option("--html", help="write a page with pictures")] = None,
) -> None:
    """Show which samples, captions and words, negatives, clusters and statistics moved between two versions."""
    from flows.commands import show_diff

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
    prefect: Annotated[bool, typer.Option("--prefect", help="as a Prefect flow run")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Train a model on a version with a recipe's plan and objectives."""
    from flows.commands import run_training
    from flows.jobs import TrainJob

    sets = [*(settings or [])]
    sets += [
        f"train.{key}={value}" for key, value in (("steps", steps), ("tune", tune), ("seed", seed)) if value is not None
    ]
    job = TrainJob(ref, recipe, model, str(out), str(places.workspace), str(places.manifests), tuple(sets), resume)
    run_training(job, prefect=prefect, as_json=as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="RUN|SPEC")],
    on: Annotated[list[str], typer.Option("--on", help="KIND:SRC, KIND one of retrieval order scenes")],
    split: SplitOpt = None,
    limit: LimitOpt = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the results here as well")] = None,
) -> None:
    """Evaluate a model or run on held-out data."""
    from flows.evaluate import print_results, run_evaluation

    print_results(run_evaluation(model, on, split, limit, json_file, places.workspace))


@app.command()
def schedule(
    recipe: RecipeArg,
    source: SourceOpt,
    name: NameOpt,
    cron: Annotated[str, typer.Option("--cron", help='five fields, such as "0 3 * * *"')],
    model: ModelOpt = None,
    split: SplitOpt = None,
    limit: LimitOpt = None,
    workers: WorkersOpt = 0,
    settings: SetOpt = None,
    shard_mb: ShardOpt = 64,
) -> None:
    """Serve a deployment that curates on a schedule; needs a running Prefect server (see README)."""
    from flows.schedule import serve

    serve(_job(recipe, source, name, model, split, limit, workers, settings, shard_mb, 3600.0), cron)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for everything the demo makes")] = Path("demo"),
) -> None:
    """Run the main job end to end on generated scenes: curate, train, evaluate, edit, curate again, diff."""
    from flows.demo import run_demo

    run_demo(out)


def _job(
    recipe: str,
    source: str,
    name: str,
    model: str | None,
    split: str | None,
    limit: int | None,
    workers: int,
    settings: list[str] | None,
    shard_mb: int,
    wait: float = 0.0,
) -> CurateJob:
    from flows.jobs import CurateJob

    return CurateJob(
        recipe,
        source,
        name,
        str(places.workspace),
        str(places.manifests),
        model,
        split,
        limit,
        workers,
        tuple(settings or ()),
        shard_mb * 2**20,
        wait,
    )


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
