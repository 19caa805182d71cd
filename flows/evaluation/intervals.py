"""Adds intervals to results whose cases were saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import CaseValues

_MAX_ROWS = 5_000_000


def with_intervals(result: Mapping[str, Any], cases: Path) -> dict[str, Any]:
    """Return a result with intervals for the numbers whose cases are in a file; unchanged if there is no file.

    Args:
        result: ``on``, ``metrics`` and, between two models, ``share``; ``means`` has the parts of numbers that are means of others.
        cases: Parquet file of ``evaluate --items`` or of a comparison's cell, a row for each case of each number.

    Raises:
        InputError: the file is damaged.
    """
    from training.evaluate.confidence import Bootstrap

    if not cases.is_file():
        return dict(result)
    items = read_cases(cases, str(result["on"]), result.get("share"))
    means = {name: list(parts) for name, parts in (result.get("means") or {}).items()}

    def add_interval(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: add_interval(f"{name}.{key}" if name else key, item) for key, item in value.items()}
        parts = means.get(name, [name])
        if not isinstance(value, float) or not all(part in items for part in parts):
            return value
        found = Bootstrap([[tuple(items[part] for part in parts)]]).interval(0)
        return {"value": value, "low": round(found.low, 6), "high": round(found.high, 6)}

    return {**result, "metrics": add_interval("", result["metrics"])}


def read_cases(path: Path, on: str, share: float | None) -> dict[str, CaseValues]:
    """Return one benchmark's cases by metric, those at one share if there are several; none if the table is something else."""
    import polars as pl

    from training.evaluate.benchmark_result import COLUMNS, CaseValues

    try:
        frame = pl.read_parquet(path, n_rows=_MAX_ROWS)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: not the cases of an evaluation ({error})", fix="evaluate again") from None
    if not set(COLUMNS) <= set(frame.columns):
        return {}
    if "on" in frame.columns:
        frame = frame.filter(pl.col("on") == on)
    if share is not None and "share" in frame.columns:
        frame = frame.filter(pl.col("share") == share)
    found: dict[str, CaseValues] = {}
    for (name,), part in frame.group_by(["metric"], maintain_order=True):
        ids, images = (tuple(map(str, part[what].to_list())) for what in ("id", "image"))
        found[str(name)] = CaseValues(ids, images, part["value"].to_numpy().astype(np.float64))
    return found
