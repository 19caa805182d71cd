"""The commands that plan, run and schedule curation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.sources import KINDS
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.cli.options import BandsOpt, CurationOptions, JsonOpt, ShardOpt, WhetherPrefectOpt, expand_options
from flows.cli.settings import setting
from flows.terminal.console import err

if TYPE_CHECKING:
    from flows.execution.jobs import CurateJob, JobExecutor

app = typer.Typer()


def curation_executor(prefect: bool | None, runner: str = "local") -> JobExecutor:
    """Return an executor that runs a curation here or as a Prefect flow run; Prefect is looked at only when there is work.

    Args:
        prefect: Whether it is a flow run; None where a server is configured, and with Dask, which runs units as tasks of a flow.
        runner: ``local``, ``dask`` or ``dask:ADDRESS``.
    """

    def execute(job: CurateJob, work: Any) -> Any:
        from flows.execution.jobs import execute_locally
        from flows.execution.prefect_server import has_server, start_prefect

        as_flow = prefect if prefect is not None else runner != "local" or has_server("give --no-prefect")
        if not as_flow:
            return execute_locally(job, work)
        err.print("starting Prefect (a first flow without a server takes up to half a minute) …")
        start_prefect("give --no-prefect")
        from flows.curate import run_in_flow

        return run_in_flow(job, work, runner)

    return execute


@dataclass(frozen=True, kw_only=True)
class CurateOptions(CurationOptions):
    """Options of plan, curate and schedule."""

    recipe: Annotated[
        str | None,
        typer.Argument(
            show_default=False, help="a recipe (see clipcurate recipes), or a file of your own: FILE.py[:NAME]"
        ),
    ] = None
    source: Annotated[str, typer.Option("--source", help=f"KIND:PATH, KIND one of {' '.join(KINDS)}, or FILE.py:PATH")]
    name: Annotated[str, typer.Option("--name", help="data set's name")]
    shard_mb: ShardOpt = 64
    bands: BandsOpt = 0
    fits: Annotated[
        str | None,
        typer.Option("--fits", help="NAME@VER whose fits are used; default: the newest version's while they hold"),
    ] = None
    refit: Annotated[list[str] | None, typer.Option("--refit", help="fit this stage anew; all: every stage")] = None
    named: Annotated[str | None, typer.Option("--recipe", metavar="RECIPE", help="the same as the first argument")] = (
        None
    )
    yes: Annotated[
        bool, typer.Option("--yes", help="publish although --limit or --split is not that of the newest version")
    ] = False

    def job(self, catalog: Catalog, **more: Any) -> CurateJob:
        """Return the job that the command line describes.

        Raises:
            InputError: no recipe, or two.
        """
        if (self.recipe is None) == (self.named is None):
            raise InputError(
                "no recipe" if self.recipe is None else f"two recipes: {self.recipe}, and --recipe {self.named}",
                allowed="one, as the first argument or as --recipe",
                fix="clipcurate recipes lists them",
            )
        data = {
            "recipe": self.recipe or self.named,
            "source": self.source,
            "name": self.name,
            "bands": self.bands,
            "yes": self.yes,
        }
        fits = {"fits": self.fits, "refit": tuple(self.refit or ())}
        return self.curate_job(catalog, **data, **fits, shard_bytes=self.shard_mb * 2**20, **more)


@app.command()
@expand_options
def plan(
    ctx: typer.Context,
    options: CurateOptions,
    why: Annotated[bool, typer.Option("--why", help="say why each stage runs")] = False,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="plan a first run over so many images like these instead")
    ] = None,
    as_json: JsonOpt = False,
) -> None:
    """Show what curate would compute, reuse, take and need; before a first run, a few images are tried (20 s or less)."""
    from flows.terminal.curation import show_plan

    show_plan(options.job(ctx.obj), why=why, samples=samples, as_json=as_json)


@app.command()
@expand_options
def curate(
    ctx: typer.Context,
    options: CurateOptions,
    llm_batch: Annotated[
        str | None,
        typer.Option("--llm-batch", help="write unanswered requests to this file (vllm run-batch) and stop"),
    ] = None,
    llm_answers: Annotated[
        str | None, typer.Option("--llm-answers", help="import answers from a file that vllm run-batch wrote")
    ] = None,
    runner: Annotated[str, setting("runner", "local, dask or dask:ADDRESS")] = "local",
    prefect: WhetherPrefectOpt = None,
    fresh: Annotated[
        list[str] | None, typer.Option("--fresh", help="compute this stage's stored results again; all: every stage")
    ] = None,
    wait: Annotated[float, setting("wait", "seconds to wait for another run on this name", min=0)] = 0.0,
    as_json: JsonOpt = False,
) -> None:
    """Run a recipe's curation and publish a data set version (or find that nothing has changed)."""
    from flows.terminal.curation import run_curation

    if prefect is False and runner != "local":
        raise InputError(
            f"--runner {runner} with --no-prefect", allowed="Dask runs units as tasks of Prefect: one or the other"
        )
    asked = {"llm_batch": llm_batch, "llm_answers": llm_answers, "fresh": tuple(fresh or ())}
    job = options.job(ctx.obj, wait_s=wait, **asked)
    run_curation(job, curation_executor(prefect, runner), as_json=as_json)


@app.command()
@expand_options
def schedule(
    ctx: typer.Context,
    options: CurateOptions,
    cron: Annotated[str, typer.Option("--cron", help='five fields, such as "0 3 * * *"')],
) -> None:
    """Serve a deployment that curates on a schedule; needs a running Prefect server (see README)."""
    from flows.execution.prefect_server import check_settings
    from flows.execution.schedule import WITHOUT_PREFECT, serve

    check_settings(WITHOUT_PREFECT)
    from flows.curate import curate_flow

    serve(curate_flow, options.job(ctx.obj, wait_s=3600.0), cron)
