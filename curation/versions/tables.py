"""The tables and small files of a version: sidecars, index, drops; equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.engine.intake import Snapshot
from curation.engine.stage import Field
from curation.engine.store import write_parquet
from data_manifests.atomic_files import write_atomically
from data_manifests.seeds import canonical
from data_manifests.shards import WrittenFile, sha256_file

if TYPE_CHECKING:
    import pyarrow as pa


def write_sidecar(path: Path, rows: list[dict[str, Any]], arrays: Sequence[Field]) -> WrittenFile:
    """Write the parquet beside a shard: one row a sample, texts and negatives typed, embeddings as float16 lists."""
    import pyarrow as pa

    listed = {"negatives": _negatives_type(), "views": _views_type()}
    names = [name for name in sorted(rows[0]) if name not in {*listed, *(spec.name for spec in arrays)}]
    columns: dict[str, pa.Array] = {name: _column([row[name] for row in rows]) for name in names}
    columns |= {name: pa.array([row[name] for row in rows], kind) for name, kind in listed.items()}
    for spec in arrays:
        columns[spec.name] = _array_column([row[spec.name] for row in rows])
    return written(write_parquet(path, pa.table(columns)))


def _column(values: list[Any]) -> pa.Array:
    """Return plain values as they are and nested ones as canonical JSON text."""
    import pyarrow as pa

    if all(value is None for value in values):
        return pa.array(values, pa.string())
    if any(isinstance(value, dict) for value in values):
        return pa.array([canonical(value).decode() for value in values], pa.string())
    return pa.array(values)


def _array_column(values: list[np.ndarray[Any, Any]]) -> pa.Array:
    import pyarrow as pa

    flat = pa.array(np.concatenate([value.reshape(-1) for value in values]), pa.float16())
    if values[0].ndim == 1:
        return pa.FixedSizeListArray.from_arrays(flat, values[0].shape[0])
    rows = pa.FixedSizeListArray.from_arrays(flat, values[0].shape[1])
    offsets = np.cumsum([0, *(len(value) for value in values)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), rows)


def _negatives_type() -> pa.DataType:
    import pyarrow as pa

    return pa.list_(
        pa.struct(
            [
                ("text", pa.string()),
                ("caption", pa.int32()),
                ("operation", pa.string()),
                ("span_class", pa.string()),
                ("type", pa.string()),
                ("edits", pa.list_(pa.list_(pa.int32()))),
                ("tokens", pa.list_(pa.list_(pa.int32()))),
                ("difficulty", pa.float64()),
                ("scores", pa.string()),
                ("rule", pa.string()),
                ("source", pa.string()),
                ("against", pa.string()),
            ]
        )
    )


def _views_type() -> pa.DataType:
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("text", "kind", "family", "rule", "source")]
    return pa.list_(pa.struct([*texts, ("caption", pa.int32())]))


class RejectsWriter:
    """Writes rejected.parquet: the texts that a stage's gate refused, by uid, each with its reason.

    Args:
        path: The file; in a folder that no reader looks at.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        texts = ("uid", "stage", "reason", "text", "rule", "detail")
        self._path = path
        self._schema = pa.schema([(name, pa.string()) for name in texts] + [("caption", pa.int32())])
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None

    def add(self, uid: str, stage: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Add what a stage refused of one sample."""
        self._rows += [{"uid": uid, "stage": stage, **record} for record in records]
        if len(self._rows) >= _REJECTS_AT_ONCE:
            self._flush()

    def finish(self) -> WrittenFile:
        """Close the file and return its record."""
        self._flush()
        self._writer.close()
        return written(self._path)

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path, self._schema, compression="zstd", compression_level=3, write_page_checksum=True
            )
        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []


_REJECTS_AT_ONCE = 50_000
"""Refused texts held in memory."""

_INDEX_TYPES = {
    "shard": "int32",
    "width": "int32",
    "height": "int32",
    "num_captions": "int32",
    "num_negatives": "int32",
    "num_views": "int32",
    "cluster_id": "int32",
    "difficulty": "float64",
    "split": "string",
    "duplicate_group": "string",
    "caption_group": "string",
}


def write_index(folder: Path, rows: list[dict[str, Any]]) -> WrittenFile:
    """Write index.parquet: one row a sample, in shard order."""
    import pyarrow as pa

    def kind(name: str) -> pa.DataType | None:
        return (
            pa.uint64()
            if name.startswith("h_")
            else pa.type_for_alias(_INDEX_TYPES[name])
            if name in _INDEX_TYPES
            else None
        )

    columns = {name: pa.array([row[name] for row in rows], kind(name)) for name in rows[0]}
    return written(write_parquet(folder / "index.parquet", pa.table(columns)))


def write_drops(folder: Path, snapshot: Snapshot, drops: list[tuple[str, str, str, str, str]]) -> WrittenFile:
    """Write the quarantine: everything that was refused or dropped, by whom and why."""
    import pyarrow as pa

    rows = [("", name, "intake", reason, detail) for name, reason, detail in snapshot.rejected] + drops
    names = ("uid", "name", "stage", "reason", "detail")
    columns = {name: pa.array([row[place] for row in sorted(rows)], pa.string()) for place, name in enumerate(names)}
    return written(write_parquet(folder / "dropped.parquet", pa.table(columns)))


def write_json(path: Path, value: Any) -> WrittenFile:
    """Write canonical JSON."""
    write_atomically(path, canonical(value) + b"\n")
    return written(path)


def written(path: Path) -> WrittenFile:
    """Return the record of a file that lies there whole."""
    return WrittenFile(path.name, path.stat().st_size, sha256_file(path))
