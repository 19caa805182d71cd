"""The training flow: one run of the trainer as a Prefect flow run."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_table_artifact

from flows.execution.jobs import TrainJob
from flows.execution.run_training import train_here
from training.checkpoint import RunResult


@flow(name="train", persist_result=False, validate_parameters=False)
def train_flow(job: TrainJob) -> RunResult:
    """Train and leave how it ended as an artifact. Killed runs go on with ``resume``; Prefect does not retry."""
    result = train_here(job)
    rows = [{"what": name, "value": str(getattr(result, name))} for name in ("run", "steps", "loss", "weights_hash")]
    create_table_artifact(rows, key="training-run", description=f"{job.recipe} on {job.ref}")
    return result


def train_with_prefect(job: TrainJob) -> RunResult:
    """Run the flow on the server of PREFECT_API_URL, or a temporary one."""
    return train_flow(job)
