"""The comparison flow: recipes under one budget as a Prefect flow run."""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.comparison.job import CompareJob
from flows.comparison.output import TABLE_FILE
from flows.comparison.run import run_compare


@flow(name="compare", persist_result=False, validate_parameters=False)
def compare_flow(job: CompareJob, *, as_json: bool = False) -> bool:
    """Compare recipes and leave the table as an artifact; return whether every cell could be run."""
    complete = run_compare(job, as_json=as_json)
    table = (job.out / TABLE_FILE).read_text(encoding="utf-8")
    create_markdown_artifact(table, key="comparison", description=job.command)
    return complete
