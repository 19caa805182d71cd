"""The record beside a manifest: when, where and how long, which the manifest itself must not hold."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from data_manifests.manifest import Catalog, Manifest, write_atomically


def write_run_record(catalog: Catalog, manifest: Manifest, told: Mapping[str, Any]) -> None:
    """Write ``<version>.run.json``.

    Args:
        catalog: Where versions lie.
        manifest: The version that was made.
        told: What made it: ``job`` as asked for, ``seconds``, ``stages``, whatever else the command prints.
    """
    record = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        **told,
    }
    path = catalog.manifests / manifest.name / f"{manifest.version}.run.json"
    write_atomically(path, orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
