"""Writes an exported model and its card as one folder, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from data_manifests.atomic_files import draft_folder, publish_folder
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.outputs import record_output


def export_model(catalog: Catalog, folder: Path, layout: str, out: Path, evaluations: Sequence[Path]) -> None:
    """Write a run's model in a layout, with its card.

    Args:
        catalog: Manifests and workspace with the version it was trained on, if they are here.
        folder: The run.
        layout: A format of `training.model.export`.
        out: The new folder.
        evaluations: Files of ``evaluate --json``; those next to the run when there are none.

    Raises:
        InputError: the folder exists, no run is there, or the layout cannot hold its model; nothing is written.
        OSError: the disk is full; nothing is left behind.
    """
    from flows.pages.model_card import model_card
    from flows.pages.run import Run, evaluations_next_to, read_results
    from training.model.export import write_export
    from training.model.run_folder import read_record

    if out.exists() or out.is_symlink():
        raise InputError(f"--out {out}: exists already", fix="choose a folder that does not exist yet")
    run, record = Run.read(folder), read_record(folder)
    results = [column for path in evaluations for column in read_results(path)] or evaluations_next_to(run)
    card = model_card(run, record, layout, catalog, results)
    with draft_folder(out.parent, f".{out.name}.{os.getpid()}.building") as draft:
        write_export(folder, layout, draft)
        (draft / "README.md").write_text(card, encoding="utf-8")
        flush_folder(draft)
        publish_folder(draft, out)
    record_output(catalog.workspace, out, "export model")


def flush_folder(folder: Path) -> None:
    """Make a finished folder's files readable for all, and flush them to disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(0o644)
            with path.open("rb") as file:
                os.fsync(file.fileno())
