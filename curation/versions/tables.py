"""A version's files: sidecars, index, lists of drops and rejects; equal rows give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """

    folder: Path
    fields: list[dict[str, str]]
    files: list[WrittenFile] = field(default_factory=list)
    shards: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)

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

    def add_shard(self, number: int, shard: WrittenFile, sidecar: pa.Table) -> None:
        """Add a shard, and write its sidecar and img2dataset's statistics of it."""
        count = sidecar.num_rows
        self.shards.append({**shard.to_json(), "samples": count})
        self.files.append(shard)
        self.add_table(f"{number:05d}.parquet", sidecar)
        statistics = {"count": count, "successes": count, "status_dict": {"success": count}}
        self.add_bytes(f"{number:05d}_stats.json", canonical(statistics) + b"\n")

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


def sidecar_table(rows: Sequence[Mapping[str, Any]], arrays: Sequence[Field]) -> pa.Table:
    """Return a shard's sidecar: one row per sample, with typed texts and negatives, and arrays as float16 lists."""
    import pyarrow as pa

    lists = {"negatives": _negatives_type(), "views": _views_type()}
    names = sorted(set(rows[0]) - {*lists, *(spec.name for spec in arrays)})
    columns: dict[str, pa.Array] = {name: _column([row[name] for row in rows]) for name in names}
    columns |= {name: pa.array([row[name] for row in rows], kind) for name, kind in lists.items()}
    columns |= {spec.name: _array_column([row[spec.name] for row in rows]) for spec in arrays}
    return pa.table(columns)


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


class RejectsWriter:
    """Writes rejected.parquet: the texts that gates rejected, by uid, each with its reason.

    Args:
        path: The file, in a folder that is not published yet.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = ("uid", "stage", "reason", "text", "rule", "detail")
        self._schema = pa.schema([(name, pa.string()) for name in texts] + [("caption", pa.int32())])
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = pq.ParquetWriter(
            path, self._schema, compression="zstd", compression_level=3, write_page_checksum=True
        )

    def add(self, uid: str, stage: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Add the texts of one sample that a stage rejected."""
        self._rows += [{"uid": uid, "stage": stage, **record} for record in records]
        if len(self._rows) >= _REJECTS_IN_MEMORY:
            self._flush()

    def close(self) -> None:
        """Write the remaining rows and close the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []


_REJECTS_IN_MEMORY = 50_000

_INDEX_TYPES = {
    **dict.fromkeys(("shard", "width", "height", "num_captions", "num_negatives", "num_views", "cluster_id"), "int32"),
    **dict.fromkeys(("split", "duplicate_group", "caption_group"), "string"),
    "difficulty": "float64",
}


def index_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return index.parquet: one row per sample, in the order of the shards."""
    import pyarrow as pa

    types = {name: _INDEX_TYPES.get(name, "uint64" if name.startswith("h_") else None) for name in rows[0]}
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})


def drops_table(snapshot: Snapshot, drops: Sequence[tuple[str, str, str, str, str]]) -> pa.Table:
    """Return dropped.parquet: every rejected record and dropped sample, with the stage and the reason."""
    import pyarrow as pa

    rejected = [("", name, "intake", reason, detail) for name, reason, detail in snapshot.rejected]
    names = ("uid", "name", "stage", "reason", "detail")
    columns = zip(*sorted([*rejected, *drops]), strict=True) if rejected or drops else [()] * len(names)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)})
