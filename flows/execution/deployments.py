"""Deployments of a project: ``[deployments.NAME]`` of clipcurate.toml as a prefect.yaml, and put on a Prefect server.

`clipcurate deploy` writes the file, makes the work pools that are not there, and runs ``prefect deploy`` on the file, so that both
give the same deployments.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError, nearest
from flows.project_file import COUNT, FILE_NAME, TABLE, TEXT, TEXTS, ProjectFile, ProjectTable

if TYPE_CHECKING:
    from prefect import Flow

FLOWS = ("curate", "train", "evaluate", "compare", "report", "forget", "promote")
POOL_TYPES = ("process", "docker", "kubernetes")
PREFECT_FILE = "prefect.yaml"
MARK = f"# Written by `clipcurate deploy` from {FILE_NAME}: change that file, this one is written again."
NEW_VERSION = "dataset.version.created"
"""The event that a curation emits."""

_KEYS = {
    "flow": TEXT, "cron": TEXT, "timezone": TEXT, "on_version_of": TEXT, "work_pool": TEXT, "pool_type": TEXT,
    "directory": TEXT, "tags": TEXTS, "concurrency": COUNT, "parameters": TABLE, "job_variables": TABLE,
}  # fmt: skip
_VERSION_PARAMETER = {"train": "ref", "compare": "name", "report": "target", "promote": "ref"}
"""The parameter of a flow that takes the version of an event."""


@dataclass(frozen=True)
class Deployment:
    """A deployment as a project describes it.

    Attributes:
        name: Its name.
        flow: Its flow.
        work_pool: Pool whose workers run it.
        pool_type: That pool's type.
        entry: Its entry in prefect.yaml.
    """

    name: str
    flow: str
    work_pool: str
    pool_type: str
    entry: Mapping[str, Any]


def read_deployments(project: ProjectFile) -> list[Deployment]:
    """Return a project's deployments.

    Raises:
        InputError: there is none, or one has an unknown key, flow, parameter or pool type, or a schedule that is none.
    """
    tables = project.tables("deployments")
    if not tables:
        raise InputError(
            f"{project.path}: no deployments",
            allowed="tables [deployments.NAME] and [deployments.NAME.parameters]",
            fix='for example [deployments.nightly] with flow = "curate" and cron = "0 3 * * *"',
        )
    return [_read(name, table, project) for name, table in tables.items()]


def prefect_file(project: ProjectFile, deployments: Sequence[Deployment]) -> str:
    """Return the text of the project's prefect.yaml."""
    document = {"name": project.path.parent.name, "deployments": [one.entry for one in deployments]}
    return f"{MARK}\n{yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)}"


def write_prefect_file(path: Path, text: str) -> None:
    """Write the file, if there is none or an earlier one of ours.

    Raises:
        InputError: somebody else's file is there.
    """
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise InputError(
            f"{path}: the file was not written by clipcurate deploy",
            allowed="a name that is free, or an earlier file of clipcurate deploy",
            fix="give --file OTHER.yaml (prefect deploy --prefect-file OTHER.yaml reads it), or move yours away",
        )
    write_atomically(path, text.encode())


def deploy(path: Path, deployments: Sequence[Deployment]) -> None:
    """Make the work pools that are not there, and let ``prefect deploy`` read the file.

    Raises:
        InputError: a pool has another type, or Prefect refuses.
    """
    for name, kind in dict.fromkeys((one.work_pool, one.pool_type) for one in deployments):
        _make_pool(name, kind)
    names = [word for one in deployments for word in ("--name", one.name)]
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(path), *names]
    ran = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)  # noqa: S603 - Prefect's own
    if ran.returncode:
        last = [line.strip(" │") for line in (ran.stdout + ran.stderr).splitlines() if line.strip(" │╰─╯")]
        raise InputError(f"prefect deploy refuses {path}: {' '.join(last[-3:])}", fix=f"correct {FILE_NAME}")


def flow_of(name: str) -> Flow[..., Any]:
    """Return the flow of this name."""
    found: Flow[..., Any] = vars(importlib.import_module(f"flows.{name}"))[f"{name}_flow"]
    return found


def _read(name: str, table: ProjectTable, project: ProjectFile) -> Deployment:
    given = table.read(_KEYS)
    flow, pool, kind = (
        given.get("flow", "curate"),
        given.get("work_pool", "clipcurate"),
        given.get("pool_type", "process"),
    )
    for key, value, allowed in (("flow", flow, FLOWS), ("pool_type", kind, POOL_TYPES)):
        if value not in allowed:
            raise table.error(
                key, f"got {value!r}", allowed=", ".join(allowed), fix=nearest(value, allowed) or f"{key} = ..."
            )
    variables = dict(given.get("job_variables", {}))
    if kind != "process" and not variables.get("image"):
        raise table.error(
            "pool_type",
            f"{kind}, and no image",
            allowed="an image that has clipcurate",
            fix="job_variables = {image = ...}",
        )
    folder = given.get("directory") or str(project.path.parent)
    if kind == "process" and (Path(folder) / "flows").is_dir() and not (Path(folder) / "flows" / "curate.py").is_file():
        raise table.error(
            "",
            f"runs in {folder}, whose folder 'flows' hides clipcurate's",
            allowed="another directory",
            fix="directory = ...",
        )
    entry: dict[str, Any] = {
        "name": name,
        "entrypoint": f"flows.{flow}.{flow}_flow",
        "description": flow_of(flow).description,
        "tags": ["clipcurate", *given.get("tags", ())],
        "parameters": _parameters(flow, table, project, has_version="on_version_of" in given),
        "schedules": _schedules(table, given),
        "concurrency_limit": given.get("concurrency", 1),
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": folder}}],
        "work_pool": {"name": pool, **({"job_variables": variables} if variables else {})},
    }
    if source := given.get("on_version_of"):
        entry["triggers"] = [_trigger(name, flow, source, table)]
    return Deployment(name, flow, pool, kind, entry)


def _parameters(flow: str, table: ProjectTable, project: ProjectFile, *, has_version: bool) -> dict[str, Any]:
    """Return a deployment's parameters, checked against the flow's; folders that the project sets are among them."""
    from pydantic import TypeAdapter, ValidationError

    known, given = inspect.signature(flow_of(flow)).parameters, table.table("parameters")
    for key, value in given.content.items():
        if key not in known:
            fix = nearest(key, list(known)) or "remove it"
            raise given.error(key, f"flow {flow} has no such parameter", allowed=", ".join(known), fix=fix)
        try:
            TypeAdapter(known[key].annotation).validate_python(value)
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise given.error(
                key, f"got {value!r}: {why}", allowed=f"what flow {flow} takes", fix=f"{key} = ..."
            ) from None
    places = {key: value for key, value in project.options.items() if key in ("workspace", "manifests")}
    values = {**places, **given.content}
    from_event = {_VERSION_PARAMETER.get(flow)} if has_version else set()
    required = [key for key, item in known.items() if item.default is item.empty]
    if missing := [key for key in required if key not in values and key not in from_event]:
        need = f"flow {flow} needs {', '.join(missing)}"
        raise given.error("", need, allowed="values for them", fix=f"{missing[0]} = ...")
    return values


def _schedules(table: ProjectTable, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    zone = given.get("timezone", "UTC")
    if "cron" not in given:
        if "timezone" in given:
            raise table.error(
                "timezone", "there is no cron", allowed="a timezone with a cron", fix='cron = "0 3 * * *"'
            )
        return []
    try:
        CronSchedule(cron=given["cron"], timezone=zone)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        allowed = "minute hour day month weekday" if key == "cron" else "a name of the tz database"
        fix = 'cron = "0 3 * * *" (every night at three)' if key == "cron" else 'timezone = "Europe/Berlin"'
        raise table.error(key, f"got {given[key]!r}: {error.errors()[0]['msg']}", allowed=allowed, fix=fix) from None
    return [{"cron": given["cron"], "timezone": zone}]


def _trigger(name: str, flow: str, source: str, table: ProjectTable) -> dict[str, Any]:
    """Return the automation that starts a deployment for every new version of a data set."""
    if flow not in _VERSION_PARAMETER:
        raise table.error(
            "on_version_of",
            f"flow {flow} takes no version",
            allowed=", ".join(_VERSION_PARAMETER),
            fix='flow = "train"',
        )
    return {
        "type": "event",
        "name": f"{name}: new version of {source}",
        "enabled": True,
        "posture": "Reactive",
        "match": {"prefect.resource.id": f"clipcurate.dataset.{source}"},
        "expect": [NEW_VERSION],
        "parameters": {_VERSION_PARAMETER[flow]: "{{ event.payload.version }}"},
    }


def _make_pool(name: str, kind: str) -> None:
    """Make a work pool if it is not there.

    Raises:
        InputError: it is there with another type.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.asyncutils import run_coro_as_sync
    from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type

    with get_client(sync_client=True) as client:
        try:
            there = client.read_work_pool(name).type
        except ObjectNotFound:
            template = run_coro_as_sync(get_default_base_job_template_for_infrastructure_type(kind))
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
            return
    if there != kind:
        raise InputError(
            f"work pool {name!r} is of type {there}",
            allowed=f'pool_type = "{there}", or another work_pool',
            fix=f'work_pool = "{name}-{kind}"',
        )
