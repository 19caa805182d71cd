"""The curation flow: the engine's units as Prefect tasks, with counts and changes as artifacts.

Prefect decides when, shows and limits; what is done is decided by the store on disk. So nothing is
cached by Prefect, and a unit is a stage over a partition, never a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from curation.engine.engine import Events, Executor, UnitReport, run_unit
from curation.engine.replay import WorkUnit
from data_manifests.errors import InputError
from flows.execution import process_registry
from flows.execution.executors import process_pool, worker_died
from flows.execution.jobs import CurateJob, Outcome, execute, existing, prepare
from flows.execution.prefect_summary import change_markdown


def carry_unit(unit: WorkUnit, label: str, pool: int) -> UnitReport:  # noqa: ARG001 - the label names it in Prefect's pages
    """Run one unit here, or in the process pool registered under `pool`."""
    return (
        process_registry.POOLS[pool].submit(run_unit, unit).result()
        if pool in process_registry.POOLS
        else run_unit(unit)
    )


# Not a decorator: a Dask worker must find the plain function under its own name to unpickle it.
unit_task = task(name="unit", cache_policy=NO_CACHE, persist_result=False, task_run_name="{label}")(carry_unit)


def task_runner_for(runner: str, workers: int) -> TaskRunner[Any]:
    """Return Prefect's carrier for ``local``, ``dask`` or ``dask:ADDRESS``.

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


def _task_carrier(pool: int) -> Executor:
    """Return a runner that submits each unit as a Prefect task of the current flow."""

    def run(_: Callable[[WorkUnit], UnitReport], units: Sequence[WorkUnit]) -> Iterator[UnitReport]:
        labels = [f"{unit.stage.name} {unit.partition.label}" for unit in units]
        futures = [unit_task.submit(unit, label, pool) for unit, label in zip(units, labels, strict=True)]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise worker_died() from None

    return run


@flow(name="curate", persist_result=False, validate_parameters=False)
def curate_flow(job: dict[str, Any], runner: str = "local", listener: int = 0) -> Outcome:
    """Bring a data set up to date and leave artifacts.

    Args:
        job: A `CurateJob` as JSON.
        runner: ``local``, ``dask`` or ``dask:ADDRESS``: what the flow's task runner is.
        listener: Key of a caller in this process who wants to hear of progress.
    """
    prepared = prepare(CurateJob.from_json(job))
    events, progress = process_registry.LISTENERS.get(listener, (None, None))
    outcome = existing(prepared)
    if outcome is None and runner == "local" and prepared.job.num_workers > 1:
        with process_pool(prepared.job.num_workers) as pool:
            process_registry.POOLS[id(pool)] = pool
            try:
                outcome = execute(prepared, _task_carrier(id(pool)), events, progress)
            finally:
                del process_registry.POOLS[id(pool)]
    elif outcome is None:
        outcome = execute(prepared, _task_carrier(0), events, progress)
    _leave_artifacts(prepared.job, outcome)
    return outcome


def run_with_prefect(job: CurateJob, runner: str, events: Events, progress: Callable[[int], None]) -> Outcome:
    """Run a job as a flow run of its own, on the server of PREFECT_API_URL or a temporary one."""
    carried = curate_flow.with_options(task_runner=task_runner_for(runner, job.num_workers))
    process_registry.LISTENERS[id(events)] = (events, progress)
    try:
        return carried(job.to_json(), runner, id(events))
    finally:
        del process_registry.LISTENERS[id(events)]


def _leave_artifacts(job: CurateJob, outcome: Outcome) -> None:
    """Leave counts, drops and the change to the parent version in Prefect, and tell listeners of a new version."""
    counts = outcome.manifest.body["counts"]
    rows = [{"what": name, "number": counts[name]} for name in ("records", "samples", "captions", "views", "negatives")]
    rows += [
        {"what": f"dropped by {stage}: {reason}", "number": number}
        for stage, reasons in counts["dropped"].items()
        for reason, number in reasons.items()
    ]
    rows += [
        {"what": f"{report.stage.name}: computed / reused", "number": f"{report.num_computed} / {report.num_reused}"}
        for report in outcome.reports
    ]
    key = "".join(char if char.isalnum() else "-" for char in job.name)
    create_table_artifact(rows, key=f"{key}-counts", description=f"{outcome.ref}: {outcome.why}")
    create_markdown_artifact(change_markdown(job.catalog, outcome.manifest), key=f"{key}-changes")
    if outcome.created:
        emit_event(
            event="dataset.version.created",
            resource={"prefect.resource.id": f"clipcurate.dataset.{job.name}"},
            payload={"version": outcome.ref, "fingerprint": outcome.manifest.fingerprint},
        )
