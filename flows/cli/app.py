"""The command line. Imports little: every command brings in what it needs when it runs."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from data_manifests.errors import CheckFailedError, InputError
from data_manifests.interrupt import EXIT_INTERRUPTED, start_raising, was_interrupted
from data_manifests.manifest import Catalog
from flows.cli import advise, compare, curate, deploy, export, kg, llm, new, report, versions, vocabulary
from flows.cli import open as window
from flows.cli.options import JsonOpt, LimitOpt, PrefectOpt, RefArg, SetOpt, SplitOpt, WhetherPrefectOpt
from flows.cli.settings import (
    describe_settings,
    project_of,
    set_where,
    setting,
    take_project,
)
from flows.cli.train_help import TrainCommand
from flows.evaluation.registry import KINDS
from flows.execution.disk import check_folder
from flows.project_file import FILE_VARIABLE, misspelt_variables

EXIT_CHECK_FAILED = 1
EXIT_BAD_INPUT = 2
_UNUSABLE_PATH = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_WITHOUT_PREFECT = "leave out --prefect"


class _Commands(TyperGroup):
    """The commands; Ctrl-C ends each of them in one line. A command whose own words differ raises `KeyboardInterrupt` with them."""

    def make_context(self, *words: Any, **settings: Any) -> Any:
        with _stopping_in_one_line():
            return super().make_context(*words, **settings)

    def invoke(self, ctx: Any) -> Any:
        with _stopping_in_one_line():
            try:
                return super().invoke(ctx)
            except InputError as error:
                for line in set_where(error, project_of(ctx)):
                    error.add_note(line)
                raise


@contextmanager
def _stopping_in_one_line() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        _say_stopped(stop)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _say_stopped(stop: BaseException) -> None:
    """Print the one line that Ctrl-C ends in."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(EXIT_INTERRUPTED))
    how = stop.args[0] if isinstance(stop, KeyboardInterrupt) and stop.args else "the same command goes on"
    sys.stderr.write(f"clipcurate: stopped; finished work is kept; {how}\n")


app = typer.Typer(
    cls=_Commands,
    name="clipcurate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Curate small image-text data sets offline, fine-tune CLIP on them, and prove what it bought.",
)

for commands in (curate, advise, deploy, compare, versions, report, window, kg, llm, vocabulary, export, new):
    app.add_typer(commands.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"clipcurate {importlib.metadata.version('clipcurate')}")
        raise typer.Exit


@app.callback()
def _global(
    ctx: typer.Context,
    config: Annotated[  # noqa: ARG001 - its callback reads the file
        Path | None,
        typer.Option(
            "--config",
            envvar=FILE_VARIABLE,
            is_eager=True,
            callback=take_project,
            help="project file; default: clipcurate.toml here or in a folder above",
        ),
    ] = None,
    workspace: Annotated[Path, setting("workspace", "store, shards, runs")] = Path("workspace"),
    manifests: Annotated[Path, setting("manifests", "manifests, meant to be committed")] = Path("data_manifests"),
    verbose: Annotated[bool, setting("verbose", "say which settings come from a file or a variable")] = False,
    version: Annotated[  # noqa: ARG001 - its callback prints and ends
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and end")
    ] = False,
) -> None:
    for name, close in misspelt_variables():
        typer.echo(f"clipcurate: {name} is no variable that is known; did you mean {close}?", err=True)
    if verbose:
        typer.echo("settings: " + "\n  ".join(describe_settings(project_of(ctx))), err=True)
    for option, folder in (("--workspace", workspace), ("--manifests", manifests)):
        check_folder(option, folder)
    ctx.obj = Catalog(manifests, workspace)


@app.command()
def recipes(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="RECIPE...", help="only these: names, or FILE.py[:NAME]")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """List the recipes with their papers: clipcurate's own, and those that installed packages offer."""
    from flows.terminal.recipes import list_recipes

    list_recipes(names or (), as_json=as_json)


@app.command()
def doctor(ctx: typer.Context, as_json: JsonOpt = False) -> None:
    """Check that this machine has what every part needs."""
    from flows.cli.doctor import examine

    raise typer.Exit(
        0 if examine(ctx.obj.workspace, "; ".join(describe_settings(project_of(ctx))), as_json=as_json) else 1
    )


@app.command(cls=TrainCommand)
def train(
    ctx: typer.Context,
    ref: RefArg,
    recipe: Annotated[
        str, typer.Option("--recipe", help="its planner, objectives and training numbers: a name, or FILE.py[:NAME]")
    ],
    model: Annotated[str, setting("model", "model spec to start from")],
    out: Annotated[Path, typer.Option("--out", help="run folder")],
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="optimiser steps")] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="times that all samples are trained on, instead of --steps")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="peak learning rate")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=2, help="samples a step; default: the recipe's, or what a small set fills"),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            "--tune", help="lora, full, projection, prompt (context tokens) or top:N, the last N blocks of each tower"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="of every draw of the run")] = None,
    settings: SetOpt = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in --out")] = False,
    shards: Annotated[str | None, typer.Option("--shards", help="https:// or s3:// folder of the shards")] = None,
    replay: Annotated[str | None, typer.Option("--replay", help="a plan.parquet whose batch order is used")] = None,
    log_to: Annotated[
        str | None, setting("log_to", "function that gets each step's figures: MODULE:FUNCTION or FILE.py:FUNCTION")
    ] = None,
    prefect: PrefectOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Train a model on a version with a recipe's planner and objectives."""
    from flows.execution.jobs import TrainJob, execute_locally, train_settings
    from flows.execution.prefect_server import start_prefect
    from flows.terminal.training import run_training

    numbers = {"steps": steps, "lr": lr, "batch_size": batch_size, "tune": tune, "seed": seed}
    sets = train_settings(settings or (), epochs, **numbers)
    folders = str(ctx.obj.workspace), str(ctx.obj.manifests)
    job = TrainJob(ref, recipe, model, str(out), *folders, sets, resume, shards, replay, epochs, True, log_to)
    if prefect:
        start_prefect(_WITHOUT_PREFECT)
        from flows.train import train_in_flow
    try:
        run_training(job, train_in_flow if prefect else execute_locally, as_json=as_json)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the same command goes on{'' if resume else ' with --resume'}") from None


@app.command()
def evaluate(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="RUN|SPEC")],
    on: Annotated[list[str], typer.Option("--on", help="KIND:SRC, KIND one of " + " ".join(KINDS))],
    split: SplitOpt = None,
    limit: LimitOpt = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the results here as well")] = None,
    items: Annotated[Path | None, typer.Option("--items", help="parquet of the cases behind every number")] = None,
    clip_benchmark: Annotated[
        Path | None, typer.Option("--clip-benchmark", help="folder for JSON files as CLIP_benchmark writes them")
    ] = None,
    blind: Annotated[bool, typer.Option("--blind", help="only text-only judges: no image is opened")] = False,
    blind_texts: Annotated[
        str | None,
        typer.Option("--blind-texts", help="texts that blind judges learn from: a text file or KIND:PATH[#SPLIT]"),
    ] = None,
    blend: Annotated[
        str | None, typer.Option("--blend", help="the run's base: evaluate interpolations between the two (WiSE-FT)")
    ] = None,
    share: Annotated[
        list[float] | None, typer.Option("--share", help="of the tuned model, with --blend; 0 to 1, repeatable")
    ] = None,
    prefect: PrefectOpt = False,
) -> None:
    """Evaluate a model or run on held-out data."""
    from flows.evaluation.run import EvaluateJob, print_comparison, print_results
    from flows.execution.prefect_server import start_prefect

    written = {"json_file": json_file, "items": items, "clip_benchmark": clip_benchmark}
    given = {name: str(path) for name, path in written.items() if path is not None}
    job = EvaluateJob(
        model=model,
        on=tuple(on),
        split=split,
        limit=limit,
        blind=blind,
        blind_texts=blind_texts,
        workspace=str(ctx.obj.workspace),
        manifests=str(ctx.obj.manifests),
        **given,
    )
    job.check_sweep(blend, share or ())
    if blend is not None:
        if prefect:
            raise InputError("--prefect with --blend", allowed="--json and --items with --blend", fix=_WITHOUT_PREFECT)
        results = job.sweep(blend, share or ())
        for text in dict.fromkeys(on):
            print_comparison({f"{item.share:g}": item for item in results if item.on == text})
        return
    if prefect:
        start_prefect(_WITHOUT_PREFECT)
        from flows.evaluate import evaluate_in_flow
    print_results(evaluate_in_flow(job) if prefect else job.run())


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder for everything the demo makes")] = Path("demo"),
    prefect: WhetherPrefectOpt = None,
    full: Annotated[
        bool, typer.Option("--full", help="more scenes and steps: about ten minutes instead of three")
    ] = False,
) -> None:
    """Run the main job end to end on generated scenes: train a base, curate negatives, tune, evaluate, edit, diff."""
    from flows.cli.demo import FULL, QUICK, run_demo

    run_demo(out, FULL if full else QUICK, prefect)


def run() -> None:
    """Run the command line; errors that the user can fix end in one message and exit code 2."""
    try:
        start_raising()
        app()
    except KeyboardInterrupt as stop:  # before a command, while its words are read
        _say_stopped(stop)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        if was_interrupted():  # in the middle of an import, which goes wrong later
            _say_stopped(error)
            sys.exit(EXIT_INTERRUPTED)
        known = _explained(error)
        if known is None:
            raise
        _fail(*known)


def _explained(error: Exception) -> tuple[str, int] | None:
    """Return message and exit code of an error that the user can fix; None for any other."""
    if isinstance(error, CheckFailedError):
        return "\n".join((str(error), *error.examples)), EXIT_CHECK_FAILED
    if isinstance(error, InputError):
        return "\n".join((str(error), *getattr(error, "__notes__", ()))), EXIT_BAD_INPUT
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT, *_UNUSABLE_PATH):
        return None
    where = f" ({error.filename})" if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    message = (
        f"{'disk full' if full else error.strerror}{where}: nothing half-written was published\n"
        f"  next:    {'free space' if full else 'check path and permissions'} or give another folder; finished batches are kept"
    )
    return message, EXIT_BAD_INPUT


def _fail(message: str, code: int = EXIT_BAD_INPUT) -> NoReturn:
    """Print an error and leave with its exit code."""
    sys.stderr.write(f"clipcurate: error: {message}\n")
    sys.exit(code)
