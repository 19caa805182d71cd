"""The report flow, and the pages that other flows write: each is linked from an artifact of its run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from prefect.logging import get_run_logger

from data_manifests.atomic_files import write_atomically
from data_manifests.manifest import Catalog
from data_manifests.outputs import record_output
from flows.execution.flow_parameters import typed_parameters
from flows.execution.flow_runs import completed, link_page, tag_run
from flows.pages.build import report_html
from flows.pages.run import read_results


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """The page that a flow run writes and links.

    Attributes:
        page: File for an HTML page of the result; none if empty.
        pages_url: Address under which the page's folder can be read in a browser; the link leads to the file if empty.
    """

    page: str | None = None
    pages_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class ReportJob:
    """A page to write.

    Attributes:
        target: ``NAME@VER``, a run folder or a comparison folder.
        page: File for the HTML page.
        evaluation: Files of results that evaluations wrote, to be shown.
        run: With a version, a run on it whose curves are shown.
        seed: Which samples are drawn.
        pages_url: Address under which the page's folder can be read in a browser; the link leads to the file if empty.
        workspace: Folder of store, shards and runs.
        manifests: Folder of manifests.
    """

    target: str
    page: str
    evaluation: tuple[str, ...] = ()
    run: str | None = None
    seed: int = 0
    pages_url: str | None = None
    workspace: str = "workspace"
    manifests: str = "data_manifests"


def leave_page(catalog: Catalog, target: str, options: PageOptions) -> None:
    """Write the page of a version, run or comparison and link it, if one is wanted."""
    if options.page:
        _write(catalog, ReportJob(target=target, page=options.page, pages_url=options.pages_url))


def _write(catalog: Catalog, job: ReportJob) -> None:
    results = [column for path in job.evaluation for column in read_results(Path(path))]
    run = Path(job.run) if job.run else None
    html = report_html(catalog, job.target, evaluations=results, run=run, seed=job.seed).encode()
    record_output(catalog.workspace, Path(job.page), "report")
    write_atomically(Path(job.page), html)
    get_run_logger().info("wrote %s (%.1f MB)", job.page, len(html) / 1e6)
    link_page(Path(job.page), job.pages_url, job.target)


@flow(
    name="report",
    flow_run_name="{target}",
    description="Write the page of a version, a run or a comparison and link it.",
    persist_result=False,
)
@typed_parameters
def report_flow(job: ReportJob) -> str:
    """Write a page and link it."""
    tag_run(target=job.target)
    _write(Catalog(Path(job.manifests), Path(job.workspace)), job)
    return completed(f"Wrote {Path(job.page).name}", job.page)
