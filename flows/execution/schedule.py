"""Scheduled curation: a deployment served from this process, on a running Prefect server."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_manifests.errors import InputError
from data_manifests.interrupt import was_interrupted
from flows.execution.flow_parameters import parameters_of
from flows.execution.jobs import CurateJob
from flows.execution.prefect_server import require_server

if TYPE_CHECKING:
    from prefect import Flow

WITHOUT_PREFECT = "let cron run clipcurate curate with --no-prefect"


def serve(flow: Flow[..., Any], job: CurateJob, cron: str) -> None:
    """Serve a deployment that runs `job` whenever `cron` says, until interrupted.

    Raises:
        InputError: the cron text is malformed, the job is unusable, or there is no server to schedule on that can be used.
        KeyboardInterrupt: Ctrl-C.
    """
    from flows.recipe import load_recipe
    from flows.recipe_finding import recipe_label

    _check_cron(cron)
    load_recipe(job.recipe, job, job.settings)
    require_server(f"or {WITHOUT_PREFECT}")
    workspace, manifests = (str(Path(folder).resolve()) for folder in (job.workspace, job.manifests))
    absolute = dataclasses.replace(job, workspace=workspace, manifests=manifests)
    with suppress(KeyboardInterrupt):  # Prefect takes it and comes back, unless it comes early
        flow.serve(
            name=f"{recipe_label(job.recipe)}-{job.name}",
            cron=cron,
            parameters=parameters_of(absolute),
            limit=1,
        )
    if was_interrupted():
        raise KeyboardInterrupt("nothing runs on schedule until the same command runs again")


def _check_cron(cron: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=cron)
    except ValidationError as error:
        raise InputError(
            f"--cron {cron!r}: {error.errors()[0]['msg']}",
            allowed="minute hour day month weekday",
            fix='for example --cron "0 3 * * *" (every night at three)',
        ) from None
