"""Outcomes on disk: the cases behind each number as Parquet, so that runs can be compared long after they ended."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from training.evaluate.outcome import Items, Outcome

COLUMNS = ("metric", "id", "image", "value")


def save_cases(path: Path, outcome: Outcome) -> None:
    """Write one row for each case of each metric, in order; equal outcomes give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "metric": [name for name, items in outcome.items.items() for _ in items.ids],
        "id": [case for items in outcome.items.values() for case in items.ids],
        "image": [image for items in outcome.items.values() for image in items.images],
        "value": np.concatenate([np.zeros(0), *(items.values for items in outcome.items.values())]),
    }
    types = {"value": pa.float64()}
    table = pa.table({name: pa.array(columns[name], types.get(name, pa.string())) for name in COLUMNS})
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def load_cases(path: Path) -> dict[str, Items]:
    """Read what `save_cases` wrote.

    Raises:
        InputError: missing, damaged or of other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        # many cells hold the same names: one copy of each
        columns = {name: [*map(sys.intern, table.column(name).to_pylist())] for name in COLUMNS[:3]}
        values = table.column("value").to_numpy().astype(np.float64)
    except (OSError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: not the cases of an evaluation ({error})", fix="delete the evaluation beside it; it is made again"
        ) from error
    found: dict[str, Items] = {}
    names = np.array(columns["metric"], dtype=np.str_)
    for name in dict.fromkeys(columns["metric"]):
        rows = np.flatnonzero(names == name)
        ids, images = (tuple(columns[what][row] for row in rows) for what in ("id", "image"))
        found[name] = Items(ids, images, values[rows])
    return found
