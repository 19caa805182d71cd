"""What a training run prints."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from flows.terminal.console import out, print_json

if TYPE_CHECKING:
    from flows.execution.jobs import JobExecutor, TrainJob
    from training.checkpoint import RunResult


def run_training(job: TrainJob, executor: JobExecutor, *, as_json: bool = False) -> None:
    """Train and print the final step, loss and weights, once for all ranks."""
    from flows.execution.jobs import run_job

    result = run_job(job, executor)
    if int(os.environ.get("RANK", "0")):
        return
    if as_json:
        print_json({**asdict(result), "run": str(result.run)})
    else:
        print_trained(result)


def print_trained(result: RunResult) -> None:
    """Print a run's final step, loss and weights."""
    out.print(f"{result.run}: {result.steps} steps, loss {result.loss:.4f}, weights {result.weights_hash}")
