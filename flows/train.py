"""The training flow: one run of the trainer as a Prefect flow run."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact

from curation.engine.engine import run_serially
from flows.execution.jobs import TrainJob, run_job
from training.checkpoint import RunResult


@flow(name="train", persist_result=False, validate_parameters=False)
def train_flow(job: TrainJob, work: Any = None) -> RunResult:
    """Train and leave how it ended as an artifact. A killed run continues with ``resume``; Prefect does not retry.

    Args:
        job: The run.
        work: What `run_job` gave its executor, when a command started the flow; without it the flow calls `run_job`.
    """
    result: RunResult = run_job(job) if work is None else work(run_serially)
    rows = [{"what": name, "value": str(getattr(result, name))} for name in ("run", "steps", "loss", "weights_hash")]
    create_table_artifact(rows, key="training-run", description=f"{job.recipe} on {job.ref}")
    return result
