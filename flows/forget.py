"""The forget flow. Prefect keeps parameters, logs and artifacts: uids come from a file, and only their number is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from flows.execution.flow_parameters import typed_parameters
from flows.execution.flow_runs import artifact_key, completed, dataset_slot, tag_run
from flows.terminal.reshard_forget import run_forget


@dataclass(frozen=True, kw_only=True)
class ForgetJob:
    """Samples to forget.

    Attributes:
        name: Data set that the uids are looked up in.
        file: File of uids: text, .parquet or DataComp's .npy.
        workspace: Folder of store, shards and runs.
        manifests: Folder of manifests.
    """

    name: str
    file: str
    workspace: str = "workspace"
    manifests: str = "data_manifests"


@flow(
    name="forget",
    flow_run_name="forget {name}",
    description="Remove the samples that a file lists, and everything derived from them, for good.",
    persist_result=False,
)
@typed_parameters
def forget_flow(job: ForgetJob) -> int:
    """Forget the samples that a file lists; the flow run knows their number only."""
    tag_run(dataset=job.name)
    catalog = Catalog(Path(job.manifests), Path(job.workspace))
    with dataset_slot(job.name):
        try:
            report = run_forget(catalog, job.name, [], Path(job.file), dry_run=False, as_json=False)
        except InputError:
            raise InputError(
                f"forget {job.name}: {job.file} cannot be used, or a line of it is the uid of no sample",
                allowed="uids of samples that are there, one a line, or a .parquet or .npy of DataComp's",
                fix=f"clipcurate forget {job.name} --file {job.file} --dry-run shows the line",
            ) from None
    number = len(report.uids) if report else 0
    removed = report.removed if report else {}
    rows = [{"version": old, "renewed as": new or "removed"} for old, new in removed.items()]
    create_table_artifact(rows, key=artifact_key(job.name, "forgotten"), description=f"{number} sample(s) forgotten")
    get_run_logger().info("%d sample(s) forgotten, %d version(s) renewed", number, len(rows))
    return completed(f"Forgot {number}", number)
