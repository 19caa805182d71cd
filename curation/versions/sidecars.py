"""Sidecars of a version made from another one: rows distributed to the new shards, each old table read once."""

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
    """Write the taken rows of the old sidecars to one Arrow file per new shard, so that each old one is read once."""
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
                f"{old.ref}: {number:05d}.parquet has {table.num_rows} rows, by index.parquet it has "
                f"{firsts[number + 1] - firsts[number]}",
                fix="run clipcurate verify; make the version again if it fails",
            )
        taken = np.flatnonzero(source == number)
        for new in np.unique(target[taken]).tolist():
            positions = taken[target[taken] == new]
            part = table.take(rows[positions] - firsts[number])
            part = part.append_column("__position", pa.array(positions - bounds[new][0], pa.int64()))
            with open(spool / f"{new}.arrow", "ab") as file, pa.ipc.new_stream(file, part.schema) as stream:
                stream.write_table(part)
    return spool


def take_sidecar(path: Path, shard: int, replaced: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """Return a new shard's table in its order, with its new keys and the new JSON of samples that have one."""
    import pyarrow as pa

    parts, size = [], path.stat().st_size
    with pa.memory_map(str(path)) as file:
        while file.tell() < size:
            parts.append(_untyped_nulls(pa.ipc.open_stream(file).read_all()))
        table = pa.concat_tables(parts, promote_options="permissive").sort_by("__position").drop_columns(["__position"])
    keys = pa.array([sample_key(shard, position) for position in range(table.num_rows)])
    table = table.set_column(table.column_names.index("key"), "key", keys)
    if replaced:
        rows = [table.slice(position, 1) for position in range(table.num_rows)]
        table = pa.concat_tables(
            [
                _with_values(row, replaced[position]) if position in replaced else row
                for position, row in enumerate(rows)
            ]
        )
    for number, spec in enumerate(table.schema):
        if pa.types.is_null(spec.type):  # as `sidecar_table` makes it
            table = table.set_column(number, spec.name, table[number].cast(pa.string()))
    return plain_types(table).combine_chunks()


def plain_types(table: pa.Table) -> pa.Table:
    """Return a table that was read from parquet with the types that it was made with: inner fields have other names."""
    import pyarrow as pa

    return table.cast(pa.schema([(spec.name, _plain(spec.type)) for spec in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(spec.name, _plain(spec.type)) for spec in kind])
    return kind


def _untyped_nulls(table: pa.Table) -> pa.Table:
    """Return a table whose columns without a value have no type: other shards may have numbers there."""
    import pyarrow as pa

    for number, spec in enumerate(table.schema):
        if table[number].null_count == table.num_rows:
            table = table.set_column(number, spec.name, pa.nulls(table.num_rows))
    return table


def _with_values(row: pa.Table, payload: Mapping[str, Any]) -> pa.Table:
    """Return a one-row table with the values of a sample's JSON."""
    import pyarrow as pa

    for number, spec in enumerate(row.schema):
        if spec.name in payload and spec.name != "key":
            value = payload[spec.name]
            if pa.types.is_string(spec.type) and not isinstance(value, str | None):
                value = canonical(value).decode()
            row = row.set_column(number, spec, pa.array([value], spec.type))
    return row
