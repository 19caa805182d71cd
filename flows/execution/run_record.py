"""The files next to a manifest: the run record (when, where, how long), which the manifest must not hold; the data card."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from data_manifests.atomic_files import write_atomically
from data_manifests.data_card import card_path, card_text
from data_manifests.manifest import Catalog, Manifest


def write_run_record(catalog: Catalog, manifest: Manifest, run: Mapping[str, Any]) -> None:
    """Write ``<version>.run.json``, and ``<version>.card.md``, which depends on the manifest alone.

    Args:
        catalog: Workspace and manifests.
        manifest: The version that was made.
        run: ``job``, ``seconds``, ``stages`` and whatever else the command prints.
    """
    record = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        **run,
    }
    path = catalog.manifests / manifest.name / f"{manifest.version}.run.json"
    write_atomically(path, orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    card = card_path(catalog.manifest_path(manifest.name, manifest.version))
    write_atomically(card, card_text(manifest.body).encode())
