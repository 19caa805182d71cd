"""What a window has open: one data set, some of its versions, and runs on it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_manifests.errors import InputError
from data_manifests.manifest import Catalog
from data_manifests.run_files import FEEDBACK_FILE, RUN_FILE
from flows.pages.sections.lineage import parents_of, version_steps
from flows.window.columns import IndexColumns
from flows.window.grid import Grid
from flows.window.pictures import Pictures

MAX_OPEN = 2
"""Versions of which columns and pictures are kept."""


class OpenedVersion:
    """A version, with everything that answers about it."""

    def __init__(self, catalog: Catalog, ref: str, runs: Mapping[str, Path]) -> None:
        self.version = catalog.open(ref)
        losses = {f"loss in {name}": functools.partial(_losses, folder) for name, folder in runs.items()}
        self.columns = IndexColumns(self.version, losses)
        self.grid, self.pictures = Grid(self.columns), Pictures(self.columns)

    def warm(self) -> None:
        """Read what the first picture needs, so that whoever opens the address does not wait for it.

        Raises:
            InputError: the version's files are not as its index says.
        """
        self.pictures.text(0)
        self.pictures.small(0)

    def about(self, catalog: Catalog) -> dict[str, Any]:
        """Return what the page says of the version and can sort and filter by."""
        manifest = self.version.manifest
        steps = version_steps(manifest.body, parents_of(catalog, manifest))
        return {
            "ref": self.version.ref,
            "name": manifest.name,
            "version": manifest.version,
            "versions": catalog.versions(manifest.name),
            "counts": {name: value for name, value in manifest.body["counts"].items() if isinstance(value, int)},
            "sorts": self.columns.numbers,
            "recipe": manifest.body["recipe"]["name"],
            "steps": [
                {"name": item.name, "about": item.about, "inputs": list(item.inputs), "dropped": item.dropped}
                for item in steps
            ],
        }

    def dropped(self, first: int, count: int, reason: str) -> dict[str, Any]:
        """Return samples that were left out, with counts of the reasons."""
        import pyarrow.compute as pc

        table = self.version.table("dropped.parquet")
        reasons = pc.binary_join_element_wise(table["stage"], table["reason"], ": ")
        counts = {item["values"]: item["counts"] for item in pc.value_counts(reasons).to_pylist()}
        chosen = table.filter(pc.equal(reasons, reason)) if reason else table
        ranked = sorted(counts.items(), key=lambda item: -item[1])
        return {"total": chosen.num_rows, "reasons": ranked, "rows": chosen.slice(first, count).to_pylist()}


@dataclass
class OpenedDataset:
    """A data set in a window.

    Attributes:
        catalog: Workspace and manifests.
        name: Its name.
        first: The version that was asked for, X.Y.Z.
        runs: Folders of feedback by the name that the page gives a run.
    """

    catalog: Catalog
    name: str
    first: str
    runs: Mapping[str, Path]

    def __post_init__(self) -> None:
        """Open nothing yet."""
        self._opened: dict[str, OpenedVersion] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(cls, catalog: Catalog, ref: str, runs: Sequence[Path]) -> OpenedDataset:
        """Open a data set at a version.

        Raises:
            InputError: no such version or run, or a run without feedback.
        """
        name, version = catalog.resolve(ref)
        dataset = cls(catalog, name, version, _feedback_files(runs))
        dataset.version(version).warm()
        return dataset

    def version(self, text: str) -> OpenedVersion:
        """Return one of its versions; the two used last are kept open.

        Raises:
            InputError: no such version, or its shards are not here.
        """
        if text not in self.catalog.versions(self.name):
            raise InputError(f"{self.name}@{text[:40]}: no such version", allowed="a version of this data set")
        with self._lock:
            if text not in self._opened:
                self._opened[text] = OpenedVersion(self.catalog, f"{self.name}@{text}", self.runs)
                while len(self._opened) > MAX_OPEN:
                    del self._opened[next(iter(self._opened))]
            self._opened[text] = self._opened.pop(text)
            return self._opened[text]


def _feedback_files(runs: Sequence[Path]) -> dict[str, Path]:
    """Return the feedback of runs by a name of their own.

    Raises:
        InputError: not the folder of a run, or one without feedback.
    """
    found: dict[str, Path] = {}
    for run in runs:
        if not (run / RUN_FILE).is_file():
            raise InputError(f"--runs {run}: not the folder of a run", allowed=f"a folder with {RUN_FILE}")
        if not (run / FEEDBACK_FILE).is_file():
            raise InputError(
                f"--runs {run}: it has no {FEEDBACK_FILE}", allowed="a run that is done and kept its feedback"
            )
        name = run.resolve().name
        found[name if name not in found else str(run)] = run / FEEDBACK_FILE
    return found


def _losses(feedback: Path, columns: IndexColumns) -> NDArray[np.float64]:
    """Return the mean loss that a run had on each sample; NaN for samples that it has not seen."""
    import polars as pl

    own = pl.read_parquet(feedback, columns=["uid", "text", "mean_loss"]).filter(pl.col("text") == "")
    means = own.group_by("uid").agg(pl.col("mean_loss").mean()).drop_nulls()
    values = np.full(columns.num_rows, np.nan)
    rows = columns.rows_of(means["uid"].to_list())
    values[rows[rows >= 0]] = means["mean_loss"].to_numpy()[rows >= 0]
    return values
