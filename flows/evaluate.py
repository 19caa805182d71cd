"""The evaluation flow: one model on its benchmarks as a Prefect flow run."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from data_manifests.nested import leaves
from flows.evaluation.results import Evaluation
from flows.evaluation.run import EvaluateJob
from flows.execution.flow_parameters import parameters_of, typed_parameters
from flows.execution.flow_runs import completed, tag_run


def _run_name() -> str:
    given = flow_run.get_parameters()
    return f"{Path(given['model']).name} on {', '.join(given['on'])}"


@flow(
    name="evaluate",
    flow_run_name=_run_name,
    description="Evaluate a model or run on held-out data.",
    persist_result=False,
)
@typed_parameters
def evaluate_flow(job: EvaluateJob) -> list[Evaluation]:
    """Evaluate a model and leave its metrics as an artifact."""
    tag_run(model=Path(job.model).name)
    results = job.run()
    rows = [
        {"benchmark": result.on, "metric": name, "value": str(value)}
        for result in results
        for name, value in leaves(result.metrics)
    ]
    create_table_artifact(rows, key="evaluation", description=f"{job.model} on {', '.join(job.on)}")
    return completed(f"{len(rows)} numbers", results)


def evaluate_in_flow(job: EvaluateJob) -> list[Evaluation]:
    """Evaluate as a flow run."""
    results: list[Evaluation] = evaluate_flow(**parameters_of(job))
    return results
