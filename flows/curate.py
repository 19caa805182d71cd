"""The curation flow: the engine's units as Prefect tasks, with counts and changes as artifacts.

Prefect schedules, limits and shows; the store on disk decides what is left to do. So Prefect caches nothing,
and a task is a stage over a partition, never a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor as Pool
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from curation.engine.engine import Executor, UnitReport, run_unit
from curation.engine.replay import WorkUnit
from data_manifests.nested import leaves
from flows.execution.dask_cluster import dask_pool
from flows.execution.executors import process_pool, worker_death_error
from flows.execution.jobs import CurateJob, CurationResult, run_job
from flows.execution.prefect_summary import change_markdown

T = TypeVar("T")

_DASK_IN_FLIGHT = 256
"""Units that an existing cluster is given at a time; its number of threads may change."""


@task(name="unit", cache_policy=NO_CACHE, persist_result=False, task_run_name="{label}")
def unit_task(unit: WorkUnit, label: str, pool: Pool | None) -> UnitReport:  # noqa: ARG001 - the label is the task run's name
    """Run one unit in a worker of the pool, or here without one."""
    return run_unit(unit) if pool is None else pool.submit(run_unit, unit).result()


def _open_pool(job: CurateJob, runner: str) -> AbstractContextManager[Pool | None]:
    """Return the workers of ``local``, ``dask`` or ``dask:ADDRESS``; None for this process alone."""
    if runner != "local":
        return dask_pool(runner, job.num_workers, job.catalog.workspace.absolute())
    return process_pool(job.num_workers) if job.num_workers > 1 else nullcontext()


def _run_tasks(pool: Pool | None) -> Executor:
    """Return an executor that runs each unit as a Prefect task of the current flow.

    A task is a thread of this process that waits for a worker; without workers it runs in the main thread, where Ctrl-C ends it.
    """

    def run(_: Callable[[WorkUnit], UnitReport], units: Sequence[WorkUnit]) -> Iterator[UnitReport]:
        labels = [f"{unit.stage.name} {unit.partition.label}" for unit in units]
        if pool is None:
            for unit, label in zip(units, labels, strict=True):
                yield unit_task(unit, label, None)
            return
        futures = [unit_task.submit(unit, label, pool) for unit, label in zip(units, labels, strict=True)]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise worker_death_error() from None

    return run


@flow(name="curate", persist_result=False, validate_parameters=False)
def curate_flow(
    job: dict[str, Any], runner: str = "local", work: Callable[[Executor], CurationResult] | None = None
) -> CurationResult:
    """Bring a data set up to date and leave artifacts.

    Args:
        job: A `CurateJob` as JSON.
        runner: ``local``, ``dask`` or ``dask:ADDRESS``: whose workers the units run in.
        work: What `run_job` gave its executor, when a command of this process started the flow; a scheduled run has none
            and calls `run_job` itself.
    """
    curation = CurateJob.from_json(job)

    def execute(_: Any, work: Callable[[Executor], T]) -> T:
        with _open_pool(curation, runner) as pool:
            return work(_run_tasks(pool))

    result: CurationResult = run_job(curation, execute) if work is None else execute(curation, work)
    _leave_artifacts(curation, result)
    return result


def run_in_flow(job: CurateJob, work: Callable[[Executor], CurationResult], runner: str) -> CurationResult:
    """Run a curation's work as a flow run."""
    tasks: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=_DASK_IN_FLIGHT if ":" in runner else job.num_workers)
    return curate_flow.with_options(task_runner=tasks)(job.to_json(), runner, work)


def _leave_artifacts(job: CurateJob, result: CurationResult) -> None:
    """Leave counts, drops and the change to the parent version in Prefect, and emit an event for a new version."""
    counts = result.manifest.body["counts"]
    rows = [{"what": name, "number": counts[name]} for name in ("records", "samples", "captions", "views", "negatives")]
    rows += [{"what": f"dropped by {name}", "number": number} for name, number in leaves(counts["dropped"], ": ")]
    rows += [
        {"what": f"{report.stage.name}: computed / reused", "number": f"{report.num_computed} / {report.num_reused}"}
        for report in result.reports
    ]
    key = "".join(char if char.isalnum() else "-" for char in job.name)
    create_table_artifact(rows, key=f"{key}-counts", description=f"{result.ref}: {result.why}")
    create_markdown_artifact(change_markdown(job.catalog, result.manifest), key=f"{key}-changes")
    if result.created:
        emit_event(
            event="dataset.version.created",
            resource={"prefect.resource.id": f"clipcurate.dataset.{job.name}"},
            payload={"version": result.ref, "fingerprint": result.manifest.fingerprint},
        )
