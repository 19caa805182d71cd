"""The training flow: one run of the trainer as a Prefect flow run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from prefect import flow
from prefect.artifacts import create_table_artifact

from curation.engine.engine import run_serially
from data_manifests.manifest import Catalog
from data_manifests.run_files import LOG_FILE, RUN_FILE
from flows.execution.flow_parameters import handed_over, handing_over, parameters_of, typed_parameters
from flows.execution.flow_runs import Progress, artifact_key, completed, log_events, tag_run
from flows.execution.jobs import TrainJob, run_job
from flows.report import PageOptions, leave_page
from training.checkpoint import RunResult

_LOOK_S = 2.0


@flow(
    name="train",
    flow_run_name="{ref} {recipe}",
    description="Train a model on a data set version with a recipe's planner and objectives.",
    persist_result=False,
)
@typed_parameters
def train_flow(job: TrainJob, page: PageOptions) -> RunResult:
    """Train and leave how it ended as an artifact.

    A killed run continues with ``resume``; Prefect does not retry.
    """
    work = handed_over()
    tag_run(dataset=job.ref, recipe=job.recipe)
    with _watched(Path(job.out), Progress(artifact_key(job.ref, "training"), job.ref)):
        result: RunResult = run_job(job, events=log_events()) if work is None else work(run_serially)
    rows = [{"what": name, "value": str(getattr(result, name))} for name in ("run", "steps", "loss", "weights_hash")]
    create_table_artifact(rows, key="training-run", description=f"{job.recipe} on {job.ref}")
    leave_page(Catalog(Path(job.manifests), Path(job.workspace)), str(result.run), page)
    return completed(f"Trained {result.steps} steps, loss {result.loss:.4f}", result)


def train_in_flow(job: TrainJob, work: Any) -> RunResult:
    """Run a training that a command prepared as a flow run."""
    with handing_over(work):
        result: RunResult = train_flow(**parameters_of(job, PageOptions()))
    return result


@contextmanager
def _watched(run: Path, progress: Progress) -> Iterator[None]:
    """Show how many lines a run's log has, one a step, while the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_S):
            if (run / RUN_FILE).is_file() and (run / LOG_FILE).is_file():
                steps = orjson.loads((run / RUN_FILE).read_bytes())["config"]["steps"]
                done = (run / LOG_FILE).read_bytes().count(b"\n")
                progress.show(min(done / steps, 0.99), f"{done} of {steps} steps")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    progress.show(1.0, "trained")
