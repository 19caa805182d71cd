"""The curation flow: the engine's units as Prefect tasks, with counts and changes as artifacts.

Prefect schedules, limits and shows; the store on disk decides what is left to do. So Prefect caches nothing,
and a task is a stage over a partition, never a sample.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.futures import as_completed
from prefect.logging import get_run_logger
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from curation.engine.engine import Events, Executor, UnitReport, run_unit
from curation.engine.replay import WorkUnit
from curation.engine.stage import Stage
from data_manifests.nested import leaves
from flows.execution.dask_cluster import dask_pool
from flows.execution.executors import process_pool, worker_death_error
from flows.execution.flow_parameters import handed_over, handing_over, parameters_of, typed_parameters
from flows.execution.flow_runs import Progress, artifact_key, completed, dataset_slot, log_events, tag_run
from flows.execution.jobs import CurateJob, CurationResult, run_job
from flows.execution.prefect_summary import change_markdown
from flows.recipe import load_recipe
from flows.report import PageOptions, leave_page

_DASK_IN_FLIGHT = 256
"""Units that an existing cluster is given at a time; its number of threads may change."""


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """Where a flow run's units run.

    Attributes:
        runner: ``local``, ``dask`` or ``dask:ADDRESS``.
    """

    runner: str = "local"


def _worker_was_lost(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Return whether a task failed because a worker process was killed; whatever else goes wrong would again."""
    return isinstance(state.result(raise_on_failure=False), BrokenProcessPool)


@task(
    name="unit",
    cache_policy=NO_CACHE,
    persist_result=False,
    task_run_name="{label}",
    retries=2,
    retry_condition_fn=_worker_was_lost,
)
def unit_task(unit: WorkUnit, label: str, compute: Callable[[WorkUnit], UnitReport]) -> UnitReport:  # noqa: ARG001 - the label is the task run's name
    """Run one unit in a worker, or here without one."""
    return compute(unit)


class _LocalWorkers:
    """Worker processes; when one of them was lost, and the pool with it, the next unit gets new ones."""

    def __init__(self, workers: int, opened: ExitStack) -> None:
        self._workers, self._opened, self._lock = workers, opened, threading.Lock()
        self._pool: ProcessPoolExecutor = opened.enter_context(process_pool(workers))

    def compute(self, unit: WorkUnit) -> UnitReport:
        """Run a unit in one of them."""
        pool = self._pool
        try:
            return pool.submit(run_unit, unit).result()
        except BrokenProcessPool:
            with self._lock:
                if self._pool is pool:
                    get_run_logger().warning("a worker process was lost: new ones are started, its units run again")
                    self._pool = self._opened.enter_context(process_pool(self._workers))
            raise


@contextmanager
def _open_workers(job: CurateJob, runner: str) -> Iterator[Callable[[WorkUnit], UnitReport] | None]:
    """Yield what runs a unit in the workers of ``local``, ``dask`` or ``dask:ADDRESS``; None for this process alone."""
    with ExitStack() as opened:
        if runner != "local":
            pool = opened.enter_context(dask_pool(runner, job.num_workers, job.catalog.workspace.absolute()))
            yield lambda unit: pool.submit(run_unit, unit).result()
        elif job.num_workers > 1:
            yield _LocalWorkers(job.num_workers, opened).compute
        else:
            yield None


def _run_tasks(compute: Callable[[WorkUnit], UnitReport] | None) -> Executor:
    """Return an executor that runs each unit as a Prefect task of the current flow.

    A task is a thread of this process that waits for a worker; without workers it runs in the main thread, where Ctrl-C ends it.
    """

    def run(_: Callable[[WorkUnit], UnitReport], units: Sequence[WorkUnit]) -> Iterator[UnitReport]:
        labels = [f"{unit.stage.name} {unit.partition.label}" for unit in units]
        if compute is None:
            for unit, label in zip(units, labels, strict=True):
                yield unit_task(unit, label, run_unit)
            return
        futures = [unit_task.submit(unit, label, compute) for unit, label in zip(units, labels, strict=True)]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise worker_death_error() from None

    return run


class _Watch:
    """Shows the stages of a run in its log and its progress artifact.

    Args:
        job: The curation.
    """

    def __init__(self, job: CurateJob) -> None:
        self._names = [stage.name for stage in load_recipe(job.recipe, job, job.settings).all_stages()]
        self._progress = Progress(artifact_key(job.name, "progress"), job.name)
        self._logger = get_run_logger()
        self.events = Events(self._started, self._done)

    def _started(self, stage: Stage, num_units: int) -> None:
        self._units, self._reports = num_units, list[UnitReport]()
        self._logger.info("%s: started", stage.name)

    def _done(self, stage: Stage, report: UnitReport) -> None:
        self._reports.append(report)
        done, before = len(self._reports), self._names.index(stage.name) if stage.name in self._names else 0
        share = (before + done / self._units) / len(self._names)
        self._progress.show(min(share, 0.99), f"{stage.name}: {done} of {self._units} parts")
        if done == self._units:
            computed = sum(one.num_computed for one in self._reports)
            reused = sum(one.num_reused for one in self._reports)
            self._logger.info("%s: %d computed, %d reused", stage.name, computed, reused)

    def finish(self, result: CurationResult) -> None:
        """Show that everything is done."""
        self._progress.show(1.0, f"{result.ref}: {result.why}")
        self._logger.info("%s: %s", result.ref, result.why)


@flow(
    name="curate",
    flow_run_name="{name}@next {recipe}",
    description="Bring a data set up to date: read its source, compute what changed, publish a version.",
    persist_result=False,
)
@typed_parameters
def curate_flow(job: CurateJob, options: RunnerOptions, page: PageOptions) -> CurationResult:
    """Bring a data set up to date and leave artifacts."""
    work = handed_over()
    tag_run(dataset=job.name, recipe=job.recipe)

    def execute(_: Any, work: Callable[[Executor, Events], CurationResult]) -> CurationResult:
        with _open_workers(job, options.runner) as compute:
            watch = _Watch(job)
            made = work(_run_tasks(compute), watch.events)
            watch.finish(made)
            return made

    if work is not None:  # a command holds the data set's lock, and waits for no slot
        result = execute(job, work)
    else:
        with dataset_slot(job.name):
            result = run_job(job, execute, log_events())
    _leave_artifacts(job, result)
    leave_page(job.catalog, result.ref, page)
    return completed(f"New version {result.manifest.version}" if result.created else "Unchanged", result)


def run_in_flow(job: CurateJob, work: Callable[[Executor], CurationResult], runner: str) -> CurationResult:
    """Run a curation's work as a flow run."""
    tasks: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=_DASK_IN_FLIGHT if ":" in runner else job.num_workers)
    with handing_over(work):
        result: CurationResult = curate_flow.with_options(task_runner=tasks)(
            **parameters_of(job, RunnerOptions(runner=runner), PageOptions())
        )
    return result


def _leave_artifacts(job: CurateJob, result: CurationResult) -> None:
    """Leave counts, drops and the change to the parent version in Prefect, and emit an event for a new version."""
    counts = result.manifest.body["counts"]
    rows = [{"what": name, "number": counts[name]} for name in ("records", "samples", "captions", "views", "negatives")]
    rows += [{"what": f"dropped by {name}", "number": number} for name, number in leaves(counts["dropped"], ": ")]
    rows += [
        {"what": f"{report.stage.name}: computed / reused", "number": f"{report.num_computed} / {report.num_reused}"}
        for report in result.reports
    ]
    create_table_artifact(rows, key=artifact_key(job.name, "counts"), description=f"{result.ref}: {result.why}")
    create_markdown_artifact(change_markdown(job.catalog, result.manifest), key=artifact_key(job.name, "changes"))
    if result.created:
        emit_event(
            event="dataset.version.created",
            resource={"prefect.resource.id": f"clipcurate.dataset.{job.name}"},
            payload={"version": result.ref, "fingerprint": result.manifest.fingerprint},
        )
