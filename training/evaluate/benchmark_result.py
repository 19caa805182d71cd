"""What a benchmark returns: numbers, and for each the cases it is the mean of, which can be kept as Parquet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.atomic_files import write_table_atomically
from data_manifests.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

COLUMNS = ("metric", "id", "image", "value")


@dataclass(frozen=True)
class CaseValues:
    """The cases behind one number. Two models have the cases of a benchmark in the same order, so they pair.

    Attributes:
        ids: Each case's own name [n], the same for every model.
        images: The image each case is about [n]. Cases of one image are not independent: intervals draw images.
        values: What the number is the mean of, float64 [n]; 1 and 0 for right and wrong.
    """

    ids: tuple[str, ...]
    images: tuple[str, ...]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class BenchmarkResult:
    """The numbers of one model on one benchmark.

    Attributes:
        metrics: Numbers by name, some nested; fractions and counts.
        cases: By dotted name of a metric, the cases it is the mean of.
        means: By dotted name of a metric, the names in `cases` that it is the unweighted mean of.
    """

    metrics: dict[str, Any]
    cases: Mapping[str, CaseValues] = field(default_factory=dict)
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def merge_results(one: BenchmarkResult, other: BenchmarkResult) -> BenchmarkResult:
    """Return two results of one benchmark as one; their metrics have different names."""
    return BenchmarkResult({**one.metrics, **other.metrics}, {**one.cases, **other.cases}, {**one.means, **other.means})


def cases_table(result: BenchmarkResult) -> pa.Table:
    """Return a table with one row for each case of each metric, in order."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        "metric": [name for name, cases in result.cases.items() for _ in cases.ids],
        "id": [case for cases in result.cases.values() for case in cases.ids],
        "image": [image for cases in result.cases.values() for image in cases.images],
        "value": np.concatenate([np.zeros(0), *(cases.values for cases in result.cases.values())]),
    }
    types = {"value": pa.float64()}
    return pa.table({name: pa.array(columns[name], types.get(name, pa.string())) for name in COLUMNS})


def save_cases(path: Path, result: BenchmarkResult) -> None:
    """Write the cases of a result; equal results give equal bytes."""
    write_table_atomically(path, cases_table(result))


def load_cases(path: Path, keep: Callable[[Sequence[str]], Iterable[str]] = list) -> dict[str, CaseValues]:
    """Read what `save_cases` wrote.

    Args:
        path: The file.
        keep: Returns the metrics that are wanted of those that are there; by default all.

    Raises:
        InputError: missing, damaged or of other columns.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        wanted = pa.array(keep(table.column("metric").unique().to_pylist()), pa.string())
        table = table.filter(pc.is_in(table.column("metric"), wanted))
        # many cells have the same names: keep one copy of each
        columns = {name: [*map(sys.intern, table.column(name).to_pylist())] for name in COLUMNS[:3]}
        values = table.column("value").to_numpy().astype(np.float64)
    except (OSError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: not the cases of an evaluation ({error})",
            fix="delete this file and the evaluation next to it; they are made again",
        ) from error
    found: dict[str, CaseValues] = {}
    names = np.array(columns["metric"], dtype=np.str_)
    for name in dict.fromkeys(columns["metric"]):
        rows = np.flatnonzero(names == name)
        ids, images = (tuple(columns[what][row] for row in rows) for what in ("id", "image"))
        found[name] = CaseValues(ids, images, values[rows])
    return found
