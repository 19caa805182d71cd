"""The curation flow: the engine's units as Prefect tasks, with counts and changes as artifacts.

Prefect schedules, limits and shows; the store on disk decides what is left to do. So Prefect caches nothing,
and a task is a stage over a partition, never a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from typing import Any, TypeVar

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from curation.engine.engine import Executor, UnitReport, run_unit
from curation.engine.replay import WorkUnit
from data_manifests.errors import InputError
from data_manifests.nested import leaves
from flows.execution import process_registry
from flows.execution.executors import process_pool, worker_death_error
from flows.execution.jobs import CurateJob, CurationResult, run_job
from flows.execution.prefect_summary import change_markdown

T = TypeVar("T")


def run_in_pool(unit: WorkUnit, label: str, pool: ProcessPoolExecutor | None) -> UnitReport:  # noqa: ARG001 - the label is the task run's name
    """Run one unit in a process of the pool, or here without one."""
    return run_unit(unit) if pool is None else pool.submit(run_unit, unit).result()


# Not a decorator: a Dask worker must find the plain function under its own name to unpickle it.
unit_task = task(name="unit", cache_policy=NO_CACHE, persist_result=False, task_run_name="{label}")(run_in_pool)


def _task_runner(runner: str, workers: int) -> TaskRunner[Any]:
    """Return Prefect's task runner for ``local``, ``dask`` or ``dask:ADDRESS``.

    Raises:
        InputError: another word, or the Dask extra is not installed.
    """
    kind, _, address = runner.partition(":")
    if kind == "local" and not address:
        return ThreadPoolTaskRunner(max_workers=workers)
    if kind != "dask":
        raise InputError(f"--runner {runner!r}", allowed="local, dask or dask:ADDRESS (tcp://host:8786)")
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ModuleNotFoundError:
        raise InputError(
            "--runner dask: prefect-dask is not installed", fix="pip install 'clipcurate[cluster]'"
        ) from None
    if address:
        return DaskTaskRunner(address=address)
    cluster = {"n_workers": workers, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=cluster)


def _submit_tasks(pool: ProcessPoolExecutor | None) -> Executor:
    """Return a runner that submits each unit as a Prefect task of the current flow."""

    def run(_: Callable[[WorkUnit], UnitReport], units: Sequence[WorkUnit]) -> Iterator[UnitReport]:
        futures = [unit_task.submit(unit, f"{unit.stage.name} {unit.partition.label}", pool) for unit in units]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise worker_death_error() from None

    return run


@flow(name="curate", persist_result=False, validate_parameters=False)
def curate_flow(job: dict[str, Any], runner: str = "local", work: int | None = None) -> CurationResult:
    """Bring a data set up to date and leave artifacts.

    Args:
        job: A `CurateJob` as JSON.
        runner: ``local``, ``dask`` or ``dask:ADDRESS``: what the flow's task runner is.
        work: Key in `process_registry.WORK` of what `run_job` gave its executor, when a command of this process started
            the flow; a scheduled run has none and calls `run_job` itself.
    """
    curation = CurateJob.from_json(job)

    def execute(_: Any, work: Callable[[Executor], T]) -> T:
        local = runner == "local" and curation.num_workers > 1
        with process_pool(curation.num_workers) if local else nullcontext() as pool:
            return work(_submit_tasks(pool))

    if work is None:
        result: CurationResult = run_job(curation, execute)
    else:
        result = execute(curation, process_registry.WORK[work])
    _leave_artifacts(curation, result)
    return result


def run_in_flow(job: CurateJob, work: Callable[[Executor], T], runner: str) -> Any:
    """Run a curation's work as a flow run, on the server of PREFECT_API_URL or a temporary one."""
    process_registry.WORK[id(work)] = work
    try:
        return curate_flow.with_options(task_runner=_task_runner(runner, job.num_workers))(
            job.to_json(), runner, id(work)
        )
    finally:
        del process_registry.WORK[id(work)]


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
