"""The training flow: one run of the trainer as a Prefect flow run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from curation.engine.engine import run_serially
from data_manifests.manifest import Catalog
from data_manifests.run_files import LOG_FILE
from flows.execution.flow_parameters import handed_over, handing_over, parameters_of, typed_parameters
from flows.execution.flow_runs import Progress, artifact_key, completed, tag_run
from flows.execution.jobs import TrainJob, run_job
from flows.recipe import load_recipe
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
    steps = load_recipe(job.recipe, settings=job.settings).train.steps
    with _watched(Path(job.out) / LOG_FILE, steps, Progress(artifact_key(job.ref, "training"), f"{steps} steps")):
        result: RunResult = run_job(job) if work is None else work(run_serially)
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
def _watched(log: Path, steps: int, progress: Progress) -> Iterator[None]:
    """Show how many lines the run's log has, one a step, while the block runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_S):
            done = log.read_bytes().count(b"\n") if log.is_file() else 0
            progress.show(min(done / steps, 0.99), f"{done} of {steps} steps")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    progress.show(1.0, f"{steps} steps")
