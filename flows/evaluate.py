"""The evaluation flow: one model on its benchmarks as a Prefect flow run."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow
from prefect.artifacts import create_table_artifact

from data_manifests.nested import leaves
from flows.evaluation.interface import EvalOptions
from flows.evaluation.results import Evaluation
from flows.evaluation.run import ResultFiles, run_evaluation


@flow(name="evaluate", persist_result=False, validate_parameters=False)
def evaluate_flow(model: str, on: Sequence[str], options: EvalOptions, files: ResultFiles) -> list[Evaluation]:
    """Evaluate a model and leave its metrics as an artifact; the arguments are those of `run_evaluation`."""
    results = run_evaluation(model, on, options, files)
    rows = [
        {"benchmark": result.on, "metric": name, "value": str(value)}
        for result in results
        for name, value in leaves(result.metrics)
    ]
    create_table_artifact(rows, key="evaluation", description=f"{model} on {', '.join(on)}")
    return results
