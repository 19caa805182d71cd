"""Sidecars of a version cut from another one: rows dealt out to the new shards, each old table read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError
from data_manifests.manifest import DatasetVersion
from data_manifests.seeds import canonical
from data_manifests.shards import sample_key
from data_manifests.tar_index import Int64Array

if TYPE_CHECKING:
    import pyarrow as pa


def spool_sidecars(
    folder: Path, old: DatasetVersion, index: pa.Table, rows: Int64Array, bounds: Sequence[tuple[int, int]]
) -> Path:
    """Deal the rows of the old sidecars out to a file for each new shard, so that each is read once."""
    import pyarrow as pa

    spool = folder / ".sidecars"
    spool.mkdir()
    shard = index["shard"].to_numpy()
    firsts = np.searchsorted(shard, np.arange(len(old.manifest.body["shards"]) + 1))
    target = np.repeat(np.arange(len(bounds)), [end - first for first, end in bounds])
    source = shard[rows]
    for number in np.unique(source).tolist():
        table = old.sidecar(number)
        if table.num_rows != firsts[number + 1] - firsts[number]:
            raise InputError(
                f"{old.ref}: {number:05d}.parquet has {table.num_rows} rows, index.parquet says "
                f"{firsts[number + 1] - firsts[number]}",
                fix="run clipcurate verify; make the version again if it does not hold",
            )
        mine = np.flatnonzero(source == number)
        for into in np.unique(target[mine]).tolist():
            places = mine[target[mine] == into]
            taken = table.take(rows[places] - firsts[number])
            taken = taken.append_column("__place", pa.array(places - bounds[into][0], pa.int64()))
            with open(spool / f"{into}.arrow", "ab") as file, pa.ipc.new_stream(file, taken.schema) as stream:
                stream.write_table(taken)
    return spool


def take_sidecar(path: Path, shard: int, replaced: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """Return a new shard's table in its order, with its new keys."""
    import pyarrow as pa

    parts, size = [], path.stat().st_size
    with pa.memory_map(str(path)) as file:
        while file.tell() < size:
            parts.append(pa.ipc.open_stream(file).read_all())
        table = pa.concat_tables(parts, promote_options="permissive").sort_by("__place").drop_columns(["__place"])
    keys = pa.array([sample_key(shard, position) for position in range(table.num_rows)])
    table = table.set_column(table.column_names.index("key"), "key", keys)
    if replaced:
        pieces = []
        for place in range(table.num_rows):
            row = table.slice(place, 1)
            pieces.append(_edited(row, replaced[place]) if place in replaced else row)
        table = pa.concat_tables(pieces)
    return table.cast(pa.schema([(spec.name, _plain(spec.type)) for spec in table.schema])).combine_chunks()


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return a type with the names of inner fields that a new table has; reading parquet gives them others."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(spec.name, _plain(spec.type)) for spec in kind])
    return kind


def _edited(row: pa.Table, payload: Mapping[str, Any]) -> pa.Table:
    """Return a one-row table with the values of a sample's JSON in it."""
    import pyarrow as pa

    for place, spec in enumerate(row.schema):
        if spec.name in payload and spec.name != "key":
            value = payload[spec.name]
            if pa.types.is_string(spec.type) and not isinstance(value, str | None):
                value = canonical(value).decode()
            row = row.set_column(place, spec, pa.array([value], spec.type))
    return row
