"""What a training run prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from flows.terminal.console import err, out, print_json

if TYPE_CHECKING:
    from flows.execution.jobs import JobExecutor, TrainJob
    from training.checkpoint import RunResult


def run_training(job: TrainJob, executor: JobExecutor, *, as_json: bool = False) -> None:
    """Train and print the final step, loss and weights, once for all ranks."""
    from flows.execution.jobs import JobEvents, run_job

    first = not int(os.environ.get("RANK", "0"))
    result = run_job(job, executor, JobEvents(on_notes=_say) if first else JobEvents())
    if not first:
        return
    if as_json:
        print_json({**asdict(result), "run": str(result.run)})
    else:
        print_trained(result)


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        err.print(note, markup=False, soft_wrap=True)


def print_trained(result: RunResult) -> None:
    """Print a run's final step, loss and weights."""
    out.print(f"{result.run}: {result.steps} steps, loss {result.loss:.4f}, weights {result.weights_hash}")
