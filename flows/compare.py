"""The comparison flow: recipes under one budget as a Prefect flow run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.comparison.output import TABLE_FILE
from flows.comparison.request import CompareRequest
from flows.comparison.run import run_compare
from flows.execution.flow_parameters import handed_over, handing_over, parameters_of, typed_parameters
from flows.execution.flow_runs import Progress, artifact_key, completed, tag_run
from flows.report import PageOptions, leave_page

INCOMPLETE = "Incomplete"
"""The state of a comparison in which some cell could not be run; its table has the others."""


def _run_name() -> str:
    given = flow_run.get_parameters()
    rows = [*given.get("recipes", ()), *(text.partition("=")[0] for text in given.get("variants", ()))]
    shown = ", ".join(rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return f"{shown or 'all recipes'} on {given.get('name') or given.get('source')}"


@flow(
    name="compare",
    flow_run_name=_run_name,
    description="Train recipes under one budget with controls, evaluate them, and leave one table with intervals and a gate.",
    persist_result=False,
)
@typed_parameters
def compare_flow(request: CompareRequest, page: PageOptions) -> str:
    """Compare recipes and leave the table as an artifact.

    A killed run goes on where it was; a cell that cannot be run fails the run at its end.
    """
    printing = handed_over() or {"silent": True}
    job = request.job()
    name = Path(request.out).resolve().name
    tag_run(comparison=name, model=Path(request.model).name)
    progress, logger = Progress(artifact_key(name, "comparison-progress"), name), get_run_logger()

    def show(done: int, num: int, text: str) -> None:
        logger.info("%d of %d cells: %s", done, num, text)
        progress.show(min(done / num, 0.99), f"{done} of {num} cells")

    complete = run_compare(job, on_cell=show, **printing)
    progress.show(1.0, "all cells")
    table = (job.out / TABLE_FILE).read_text(encoding="utf-8")
    create_markdown_artifact(table, key=artifact_key(name, "comparison"), description=job.command)
    leave_page(job.catalog, str(job.out), page)
    rows = f"{len(job.rows)} rows, {len(job.seeds)} seed{'s' if len(job.seeds) > 1 else ''}"
    if not complete:
        return cast(
            "str", Failed(name=INCOMPLETE, message=f"{rows}: some cells could not be run; the table says which")
        )
    return completed(rows, str(job.out))


def compare_in_flow(request: CompareRequest, *, as_json: bool) -> bool:
    """Compare as a flow run of a command, which prints; return whether every cell could be run."""
    run: Callable[..., State[Any]] = compare_flow
    with handing_over({"as_json": as_json}):
        state = run(**parameters_of(request, PageOptions()), return_state=True)
    if state.name == INCOMPLETE:
        return False
    state.result()
    return True
