"""Frames of a version's sidecars: samples, texts, negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from data_manifests.errors import InputError, nearest
from data_manifests.manifest import DatasetVersion

if TYPE_CHECKING:
    import pyarrow as pa

FRAMES = ("samples", "texts", "negatives")
TEXT_COLUMNS = ("uid", "role", "caption", "kind", "text")


def frame_of(dataset: DatasetVersion, of: str, columns: Sequence[str] | None) -> pl.DataFrame:
    """Return a frame of a whole version; see `OpenVersion.polars`.

    Raises:
        InputError: another kind of frame, or a column that it does not have.
    """
    if of not in FRAMES:
        raise InputError(f"a frame of {of!r}", allowed=", ".join(FRAMES), fix=nearest(of, FRAMES))
    shards = range(len(dataset.manifest.body["shards"]))
    parts = [_part(dataset, shard, of, columns) for shard in shards]
    frame = pl.concat(parts, how="diagonal_relaxed")
    if columns is None:
        return frame
    for name in columns:
        if name not in frame.columns:
            raise InputError(
                f"{dataset.ref}: the frame of {of} has no column {name!r}",
                allowed=", ".join(frame.columns),
                fix=nearest(name, frame.columns),
            )
    return frame.select(columns)


def _part(dataset: DatasetVersion, shard: int, of: str, columns: Sequence[str] | None) -> pl.DataFrame:
    """Return the rows of one shard."""
    if of == "samples":
        whole = dataset.sidecar(shard)
        known = None if columns is None else [name for name in whole.column_names if name in columns]
        return _polars(whole.select(known) if known else whole)
    table = _polars(dataset.sidecar(shard))
    if of == "negatives":
        return _records(table, "negatives").drop("captions")
    numbered = table.select("uid", text="captions", caption=pl.int_ranges(pl.col("captions").list.len()))
    captions = numbered.explode("text", "caption").with_columns(role=pl.lit("caption"), kind=pl.lit(""))
    parts = [captions]
    for role, column, kind in (("view", "views", "kind"), ("negative", "negatives", "type")):
        if column in table.columns:
            made = _records(table, column).with_columns(role=pl.lit(role), kind=pl.col(kind))
            parts.append(made.select(TEXT_COLUMNS))
    return pl.concat([part.select(TEXT_COLUMNS) for part in parts], how="vertical_relaxed")


def _records(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return a row for each record of a column of lists, with its sample and its caption's text."""
    rows = table.select("uid", "captions", column).explode(column).drop_nulls(column).unnest(column)
    return rows.with_columns(caption_text=pl.col("captions").list.get(pl.col("caption")))


def _polars(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # a table never becomes a series
    return frame
