"""The commands that plan, run and schedule curation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import (
    AgainstOpt,
    BandsOpt,
    FeedbackOpt,
    GraphOpt,
    JsonOpt,
    LimitOpt,
    LlmOpt,
    MaskedOpt,
    ModelOpt,
    NameOpt,
    RecipeArg,
    SetOpt,
    ShardOpt,
    SlotsOpt,
    SourceOpt,
    SplitOpt,
    WorkersOpt,
    places,
)

if TYPE_CHECKING:
    from flows.execution.jobs import CurateJob

app = typer.Typer()


@app.command()
def plan(
    recipe: RecipeArg,
    source: SourceOpt,
    name: NameOpt,
    model: ModelOpt = None,
    graph: GraphOpt = None,
    llm: LlmOpt = None,
    masked_model: MaskedOpt = None,
    llm_slots: SlotsOpt = 16,
    against: AgainstOpt = None,
    feedback: FeedbackOpt = None,
    split: SplitOpt = None,
    limit: LimitOpt = None,
    workers: WorkersOpt = 0,
    settings: SetOpt = None,
    shard_mb: ShardOpt = 64,
    bands: BandsOpt = 0,
    why: Annotated[bool, typer.Option("--why", help="say why each stage runs")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Say what curate would run, reuse, take and need, before anything runs."""
    from flows.cli.commands import show_plan

    asked = {"model": model, "graph": graph, "llm": llm, "llm_slots": llm_slots, "split": split, "limit": limit}
    more = {"masked_model": masked_model, "against": tuple(against or ()), "feedback": feedback, "bands": bands}
    show_plan(
        _job(recipe, source, name, settings, shard_mb, workers=workers, **asked, **more), why=why, as_json=as_json
    )


@app.command()
def curate(
    recipe: RecipeArg,
    source: SourceOpt,
    name: NameOpt,
    model: ModelOpt = None,
    graph: GraphOpt = None,
    llm: LlmOpt = None,
    masked_model: MaskedOpt = None,
    llm_slots: SlotsOpt = 16,
    llm_batch: Annotated[
        Path | None,
        typer.Option("--llm-batch", help="write unanswered requests to this file (vllm run-batch) and stop"),
    ] = None,
    llm_answers: Annotated[
        Path | None, typer.Option("--llm-answers", help="take answers back from a file that vllm run-batch wrote")
    ] = None,
    against: AgainstOpt = None,
    feedback: FeedbackOpt = None,
    split: SplitOpt = None,
    limit: LimitOpt = None,
    workers: WorkersOpt = 0,
    runner: Annotated[str, typer.Option("--runner", help="local, dask or dask:ADDRESS")] = "local",
    settings: SetOpt = None,
    shard_mb: ShardOpt = 64,
    bands: BandsOpt = 0,
    no_prefect: Annotated[bool, typer.Option("--no-prefect", help="run the bare engine; same bytes")] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="seconds to wait for another run on this name")] = 0.0,
    as_json: JsonOpt = False,
) -> None:
    """Run a recipe's curation and publish a data set version (or find that nothing has changed)."""
    from flows.cli.commands import run_curation

    asked = {"model": model, "graph": graph, "llm": llm, "llm_slots": llm_slots, "split": split, "limit": limit}
    more = {"masked_model": masked_model, "against": tuple(against or ()), "feedback": feedback, "bands": bands}
    files = {"llm_batch": _text(llm_batch), "llm_answers": _text(llm_answers)}
    job = _job(recipe, source, name, settings, shard_mb, workers=workers, wait_s=wait, **asked, **more, **files)
    run_curation(job, runner, no_prefect=no_prefect, as_json=as_json)


@app.command()
def schedule(
    recipe: RecipeArg,
    source: SourceOpt,
    name: NameOpt,
    cron: Annotated[str, typer.Option("--cron", help='five fields, such as "0 3 * * *"')],
    model: ModelOpt = None,
    graph: GraphOpt = None,
    llm: LlmOpt = None,
    masked_model: MaskedOpt = None,
    llm_slots: SlotsOpt = 16,
    against: AgainstOpt = None,
    feedback: FeedbackOpt = None,
    split: SplitOpt = None,
    limit: LimitOpt = None,
    workers: WorkersOpt = 0,
    settings: SetOpt = None,
    shard_mb: ShardOpt = 64,
    bands: BandsOpt = 0,
) -> None:
    """Serve a deployment that curates on a schedule; needs a running Prefect server (see README)."""
    from flows.curate import curate_flow
    from flows.execution.schedule import serve

    asked = {"model": model, "graph": graph, "llm": llm, "llm_slots": llm_slots, "split": split, "limit": limit}
    more = {"masked_model": masked_model, "against": tuple(against or ()), "feedback": feedback, "bands": bands}
    job = _job(recipe, source, name, settings, shard_mb, workers=workers, wait_s=3600.0, **asked, **more)
    serve(curate_flow, job, cron)


def _job(recipe: str, source: str, name: str, settings: list[str] | None, shard_mb: int, **options: Any) -> CurateJob:
    """Return the job that a command line describes."""
    from flows.execution.jobs import CurateJob

    where = (str(places.workspace), str(places.manifests))
    return CurateJob(
        recipe, source, name, *where, settings=tuple(settings or ()), shard_bytes=shard_mb * 2**20, **options
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
