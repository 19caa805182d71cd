"""What flow runs leave on Prefect's pages: tags, progress, links, the state they end in; and one run per data set at a time."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast
from uuid import UUID

from prefect.artifacts import create_link_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.execution.jobs import JobEvents

R = TypeVar("R")

_UPDATE_S = 1.0
_LEASE_S = 60.0
"""How long the slot of a run whose process died stays taken."""


def tag_run(**tags: str) -> None:
    """Tag the current flow run with ``key:value`` pairs, besides the tags that it has."""
    wanted = {*flow_run.tags, *(f"{key}:{value}" for key, value in tags.items())}
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(flow_run.id), tags=sorted(wanted))


def artifact_key(*words: str) -> str:
    """Return words as the key of an artifact: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")


@contextmanager
def dataset_slot(name: str) -> Iterator[None]:
    """Wait until no other flow run writes a data set; the limit ``clipcurate-dataset-NAME`` is made if it is not there.

    The lock in the workspace decides (commands without Prefect take only that one); the limit shows who waits.
    """
    limit = f"clipcurate-dataset-{name}"
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit, 1)
    get_run_logger().info("waiting for the slot of %s", limit)
    with concurrency(limit, lease_duration=_LEASE_S, strict=True, raise_on_lease_renewal_failure=False):
        yield


class Progress:
    """A progress artifact of the current flow run, updated at most once a second.

    Args:
        key: Its key.
        description: What is under way.
    """

    def __init__(self, key: str, description: str) -> None:
        self._id = cast("UUID", create_progress_artifact(0.0, key=key, description=description))
        self._shown, self._at = 0.0, time.monotonic()

    def show(self, share: float, description: str) -> None:
        """Show a share of the work, 0 to 1; it never goes back."""
        now = time.monotonic()
        if share < 1 and (now - self._at < _UPDATE_S or 100 * share <= self._shown):
            return
        self._shown, self._at = max(self._shown, round(100 * min(share, 1.0), 1)), now
        update_progress_artifact(self._id, progress=self._shown, description=description)


def log_events() -> JobEvents:
    """Return events that write a job's notes to the flow run's log."""
    logger = get_run_logger()

    def note(notes: Sequence[str]) -> None:
        for text in notes:
            logger.info("%s", text)

    return JobEvents(on_notes=note)


def link_page(page: Path, pages_url: str | None, description: str) -> None:
    """Leave a link to a page: below an address under which its folder can be read, or to the file."""
    link = f"{pages_url.rstrip('/')}/{page.name}" if pages_url else page.resolve().as_uri()
    create_link_artifact(link, link_text=page.name, key=artifact_key(page.stem, "page"), description=description)


def completed(said: str, result: R) -> R:
    """Return what a flow returns to end in a state named by what came of it; its caller in this process gets `result`."""
    return cast("R", Completed(name=said, message=said, data=result))
