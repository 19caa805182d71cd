"""A version's files: sidecars, index, lists of drops and rejects; equal rows give equal bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curation.engine.intake import Snapshot
from curation.engine.store import write_parquet
from data_manifests.atomic_files import link_file, write_atomically
from data_manifests.manifest import DatasetVersion
from data_manifests.seeds import canonical
from data_manifests.shards import WrittenFile, sha256_file, shard_name

if TYPE_CHECKING:
    import pyarrow as pa


def fit_file(stage_name: str) -> str:
    """Return the name of the file that has a stage's fit in a version's folder."""
    return f"fit_{stage_name}.safetensors"


@dataclass
class VersionContents:
    """The files of a version's folder, and what its manifest says about them.

    Attributes:
        folder: A folder that is not published yet.
        fields: Published fields: name, stage, where.
        files: Finished files.
        shards: Records of the shards: file and number of samples.
        counts: The manifest's counts.
        statistics: The manifest's statistics.
        judged: Hash of the pairs whose blind accuracy is in the statistics.
    """

    folder: Path
    fields: list[dict[str, str]]
    files: list[WrittenFile] = field(default_factory=list)
    shards: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    judged: str = ""

    def add_file(self, name: str) -> None:
        """Add a finished file of the folder."""
        path = self.folder / name
        self.files.append(WrittenFile(name, path.stat().st_size, sha256_file(path)))

    def add_copy(self, source: Path, name: str) -> None:
        """Copy a finished file into the folder."""
        self.add_bytes(name, source.read_bytes())

    def add_bytes(self, name: str, data: bytes) -> None:
        """Write a file."""
        write_atomically(self.folder / name, data)
        self.add_file(name)

    def add_table(self, name: str, table: pa.Table) -> None:
        """Write a parquet file."""
        write_parquet(self.folder / name, table)
        self.add_file(name)

    def take_shard(self, number: int, before: DatasetVersion) -> None:
        """Take a shard of an earlier version with its sidecar and statistics."""
        names = (shard_name(number), f"{number:05d}.parquet", f"{number:05d}_stats.json")
        for name in names:
            link_file(before.folder / name, self.folder / name)
            self.files.append(WrittenFile(name, before.records[name]["bytes"], before.records[name]["sha256"]))
        self.shards.append(before.manifest.body["shards"][number])

    def add_shard(self, number: int, shard: WrittenFile, sidecar: pa.Table) -> None:
        """Add a shard, and write its sidecar and img2dataset's statistics of it."""
        count = sidecar.num_rows
        self.shards.append({**shard.to_json(), "samples": count})
        self.files.append(shard)
        self.add_table(f"{number:05d}.parquet", sidecar)
        statistics = {"count": count, "successes": count, "status_dict": {"success": count}}
        self.add_bytes(f"{number:05d}_stats.json", canonical(statistics) + b"\n")

    def take_finished(self, part: VersionContents) -> None:
        """Take files and shards that another process has written into the same folder."""
        self.files += part.files
        self.shards += part.shards

    def add_index(self, index: pa.Table) -> None:
        """Write index.parquet and sizes.json, after the last shard."""
        self.add_table("index.parquet", index)
        sizes = {shard["name"]: shard["samples"] for shard in self.shards}
        self.add_bytes("sizes.json", canonical(sizes) + b"\n")

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's parts that describe these files."""
        return {
            "shards": self.shards,
            "files": sorted((file.to_json() for file in self.files), key=lambda record: str(record["name"])),
            "fields": self.fields,
            "counts": self.counts,
            "statistics": self.statistics,
        }


def sidecar_table(rows: Sequence[Mapping[str, Any]], typed: Mapping[str, pa.Array]) -> pa.Table:
    """Return a shard's sidecar: one row per sample.

    Args:
        rows: The samples' JSON.
        typed: The columns of lists and arrays, as `typed_columns` makes them.
    """
    import pyarrow as pa

    names = sorted(set(rows[0]) - set(typed))
    return pa.table({name: _column([row[name] for row in rows]) for name in names} | dict(typed))


def typed_columns(values: Mapping[str, list[Any]]) -> dict[str, pa.Array]:
    """Return columns of negatives and views with their types, and of arrays as float16 lists."""
    import pyarrow as pa

    lists = {"negatives": _negatives_type(), "views": _views_type()}
    return {
        name: pa.array(column, lists[name]) if name in lists else _array_column(column)
        for name, column in values.items()
    }


def _column(values: list[Any]) -> pa.Array:
    """Return plain values as they are and nested ones as canonical JSON."""
    import pyarrow as pa

    if all(value is None for value in values):
        return pa.array(values, pa.string())
    if any(isinstance(value, dict) for value in values):
        return pa.array([canonical(value).decode() for value in values], pa.string())
    return pa.array(values)


def _array_column(values: list[np.ndarray[Any, Any]]) -> pa.Array:
    import pyarrow as pa

    flat = pa.array(np.concatenate([value.reshape(-1) for value in values]), pa.float16())
    rows = pa.FixedSizeListArray.from_arrays(flat, values[0].shape[-1])
    if values[0].ndim == 1:
        return rows
    offsets = np.cumsum([0, *(len(value) for value in values)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), rows)


def _negatives_type() -> pa.DataType:
    import pyarrow as pa

    spans = pa.list_(pa.list_(pa.int32()))
    types = {
        "text": pa.string(),
        "caption": pa.int32(),
        "operation": pa.string(),
        "span_class": pa.string(),
        "type": pa.string(),
        "edits": spans,
        "tokens": spans,
        "difficulty": pa.float64(),
        "scores": pa.string(),
        "rule": pa.string(),
        "source": pa.string(),
        "against": pa.string(),
    }
    return pa.list_(pa.struct(list(types.items())))


def _views_type() -> pa.DataType:
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("text", "kind", "family", "rule", "source")]
    return pa.list_(pa.struct([*texts, ("caption", pa.int32())]))


REJECTS_FILE = "rejected.parquet"


class RejectsWriter:
    """Writes rejected.parquet: the texts that gates rejected, by uid, each with its reason.

    Args:
        path: The file, in a folder that is not published yet.
        before: That of an earlier version, from which rows are kept.
    """

    def __init__(self, path: Path, before: Path | None = None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = ("uid", "stage", "reason", "text", "rule", "detail")
        self._schema = pa.schema([(name, pa.string()) for name in texts] + [("caption", pa.int32())])
        self._rows: list[dict[str, Any]] = []
        self._kept: list[_Rows] = []
        self._num_rows = 0
        self._before = _rejects_by_sample(before) if before is not None and before.is_file() else iter(())
        self._next = next(self._before, None)
        self._writer: Any = pq.ParquetWriter(
            path, self._schema, compression="zstd", compression_level=3, write_page_checksum=True
        )

    def add(self, uid: str, stage: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Add the texts of one sample that a stage rejected."""
        self._rows += [{"uid": uid, "stage": stage, **record} for record in records]
        self._count(len(records))

    def keep(self, uid: str) -> None:
        """Add the rows of one sample that the earlier version has."""
        while self._next is not None and self._next[0] <= uid:
            found, rows = self._next
            if found == uid:
                self._move_rows()
                if self._kept and self._kept[-1].table is rows.table and self._kept[-1].end == rows.start:
                    self._kept[-1] = rows._replace(start=self._kept[-1].start)
                else:
                    self._kept.append(rows)
                self._count(rows.end - rows.start)
            self._next = next(self._before, None)

    def close(self) -> None:
        """Write the remaining rows and close the file."""
        self._flush()
        self._writer.close()

    def _count(self, number: int) -> None:
        self._num_rows += number
        if self._num_rows >= _REJECTS_IN_MEMORY:
            self._flush()

    def _move_rows(self) -> None:
        """Move new rows to the tables, so that all are in order."""
        import pyarrow as pa

        if self._rows:
            self._kept.append(_Rows(pa.Table.from_pylist(self._rows, self._schema), 0, len(self._rows)))
            self._rows = []

    def _flush(self) -> None:
        import pyarrow as pa

        self._move_rows()
        tables = [rows.table.slice(rows.start, rows.end - rows.start) for rows in self._kept]
        self._writer.write_table(pa.concat_tables([self._schema.empty_table(), *tables]).combine_chunks())
        self._kept, self._num_rows = [], 0


class _Rows(NamedTuple):
    """Consecutive rows of a table."""

    table: pa.Table
    start: int
    end: int


def _rejects_by_sample(path: Path) -> Iterator[tuple[str, _Rows]]:
    """Yield uid and rows of each sample and stage of a rejected.parquet, with one row group in memory."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        names = [
            f"{uid} {stage}" for uid, stage in zip(*(table[name].to_pylist() for name in ("uid", "stage")), strict=True)
        ]
        starts = [row for row, name in enumerate(names) if not row or name != names[row - 1]]
        for start, end in pairwise([*starts, len(names)]):
            yield names[start].partition(" ")[0], _Rows(table, start, end)


_REJECTS_IN_MEMORY = 50_000

_INDEX_TYPES = {
    **dict.fromkeys(("shard", "width", "height", "num_captions", "num_negatives", "num_views", "cluster_id"), "int32"),
    **dict.fromkeys(("split", "duplicate_group", "caption_group"), "string"),
    "difficulty": "float64",
}


def index_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return some columns of index.parquet for some samples."""
    import pyarrow as pa

    types = {
        name: _INDEX_TYPES.get(name, "uint64" if name.startswith("h_") else None) for name in (rows[0] if rows else ())
    }
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})


class IndexParts:
    """The index of a version whose shards are being written: rows on disk, a file for each shard.

    Args:
        folder: Where the files lie; made here and removed in the end.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._schemas = folder, list[Any]()
        folder.mkdir()

    @staticmethod
    def write(folder: Path, number: int, table: pa.Table) -> pa.Schema:
        """Write the rows of a shard, in any order of shards; return what `take` takes in their order."""
        from pyarrow import feather

        feather.write_feather(table, _part_path(folder, number), compression="uncompressed")
        return table.schema

    def take(self, schema: pa.Schema) -> None:
        """Take the rows of the next shard, which are written."""
        self._schemas.append(schema)

    def add(self, table: pa.Table) -> None:
        """Add the rows of the next shard."""
        self.take(self.write(self.folder, len(self._schemas), table))

    def joined(self) -> pa.Table:
        """Return index.parquet: one row per sample, in the order of the shards; the files are removed.

        A column that has another type in some shards, such as one of whole numbers, gets the type that all of its values need.
        """
        import pyarrow as pa

        schema = pa.unify_schemas(self._schemas, promote_options="permissive")
        table = pa.table({spec.name: self._column(spec) for spec in schema})
        shutil.rmtree(self.folder)
        return table

    def _column(self, spec: pa.Field) -> pa.Array:
        """Return a whole column; only one is in memory twice, as parts and as a whole."""
        import pyarrow as pa
        from pyarrow import feather

        parts = [
            feather.read_table(_part_path(self.folder, number), columns=[spec.name], memory_map=False)[spec.name].cast(
                spec.type
            )
            for number in range(len(self._schemas))
        ]
        column = pa.chunked_array([chunk for part in parts for chunk in part.chunks], spec.type).combine_chunks()
        del parts
        pa.default_memory_pool().release_unused()
        typed = spec.name in _INDEX_TYPES or spec.name.startswith("h_")
        return column if typed or column.null_count < len(column) else pa.nulls(len(column))


def _part_path(folder: Path, number: int) -> Path:
    return folder / f"{number}.arrow"


def drops_table(snapshot: Snapshot, drops: Sequence[tuple[str, str, str, str, str]]) -> pa.Table:
    """Return dropped.parquet: every rejected record and dropped sample, with the stage and the reason."""
    import pyarrow as pa

    rejected = [("", name, "intake", reason, detail) for name, reason, detail in snapshot.rejected]
    names = ("uid", "name", "stage", "reason", "detail")
    columns = zip(*sorted([*rejected, *drops]), strict=True) if rejected or drops else [()] * len(names)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)})
