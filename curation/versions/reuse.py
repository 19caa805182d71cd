"""What a version takes from the one before it: samples whose published values are the same, and whole shards of them.

Beside a data set's versions lies a record of the newest one: a key of every sample's values, and what it adds to the
statistics. The record only saves work: where it is missing or does not fit, everything is written from the store, and
the bytes are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from blake3 import blake3

from curation.versions.sidecars import plain_types
from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.seeds import canonical
from data_manifests.shards import check_file
from data_manifests.tar_copy import MEMBERS, RangeReader, SampleRanges
from data_manifests.tar_index import Int64Array

if TYPE_CHECKING:
    import pyarrow as pa

LAYOUT_VERSION = 4
"""Increased when the same stage results are published as other bytes."""

PLACE_COLUMNS = frozenset(
    {"uid", "shard", "key", *(f"{name}_{what}" for name in MEMBERS for what in ("offset", "bytes"))}
)
"""Columns of index.parquet that say where a sample is."""

_ABOUT, _DIGEST_BYTES = b"clipcurate", 32


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """What is recorded of a published sample.

    Attributes:
        key: Equal keys mean that everything published of the sample is equal.
        text_bytes: Size of its texts, by which shards are divided.
        counts: What it adds to the statistics, as JSON.
    """

    key: bytes
    text_bytes: int
    counts: bytes


@dataclass(frozen=True)
class EarlierVersion:
    """The newest version of a data set, of which the next one takes what stays the same.

    Attributes:
        version: The version.
        records: The records of its samples, in the order of its index.
        judged: Hash of the pairs whose blind accuracy is in its manifest.
    """

    version: DatasetVersion
    records: Sequence[SampleRecord]
    judged: str

    @classmethod
    @contextmanager
    def opened(cls, catalog: Catalog, manifest: Manifest | None) -> Iterator[EarlierVersion | None]:
        """Open a version from which samples can be taken; None if it has no record, or its files have changed since.

        Raises:
            InputError: the record is damaged.
        """
        found = cls._open(catalog, manifest)
        try:
            yield found
        finally:
            if found is not None:
                found.reader.close()

    @classmethod
    def _open(cls, catalog: Catalog, manifest: Manifest | None) -> EarlierVersion | None:
        """Return a version, or None.

        Raises:
            InputError: the record is damaged.
        """
        import pyarrow as pa

        if manifest is None or not (path := record_path(catalog, manifest.name)).is_file():
            return None
        digest, data = (content := path.read_bytes())[:_DIGEST_BYTES], memoryview(content)[_DIGEST_BYTES:]
        if blake3(data).digest() != digest:
            raise InputError(
                f"{path}: damaged", fix="delete this file; the next version is then written from the store"
            )
        table = pa.ipc.open_file(data).read_all()
        version = DatasetVersion(manifest, catalog.folder(manifest.name, manifest.version))
        about = orjson.loads(table.schema.metadata[_ABOUT])
        if about != _describe(version, about["judged"]) or -1 in about["files"].values():
            return None
        columns = (table[name].to_pylist() for name in ("key", "text_bytes", "counts"))
        return cls(version, [SampleRecord(*row) for row in zip(*columns, strict=True)], about["judged"])

    @cached_property
    def row_of(self) -> dict[bytes, int]:
        """Row of the index by a sample's key."""
        return {record.key: row for row, record in enumerate(self.records)}

    @cached_property
    def index(self) -> pa.Table:
        """Its index."""
        self.path("index.parquet")
        return self.version.index()

    @cached_property
    def index_rows(self) -> list[dict[str, Any]]:
        """The rows of its index."""
        return list(self.index.to_pylist())

    @cached_property
    def ranges(self) -> SampleRanges:
        """Where its samples are in its tars."""
        return SampleRanges.of(self.index, self.version.ref)

    @cached_property
    def first_rows(self) -> Int64Array:
        """The first row of each shard, and the number of rows."""
        sizes = [shard["samples"] for shard in self.version.manifest.body["shards"]]
        return np.cumsum([0, *sizes]).astype(np.int64)

    @cached_property
    def reader(self) -> RangeReader:
        """Reads its tars, each checked against its hash first: what is copied gets a hash of its own."""
        return RangeReader(self.version.folder, self.version.records)

    @property
    def quality(self) -> Mapping[str, Any]:
        """The blind accuracy and the findings of its manifest."""
        found: Mapping[str, Any] = self.version.manifest.body["statistics"]["quality"]
        return found

    def path(self, name: str) -> Path:
        """Return the path of one of its files, which is checked against its hash.

        Raises:
            InputError: the file is missing or damaged.
        """
        path = self.version.folder / name
        check_file(path, self.version.records)
        return path

    def texts(self, row: int) -> dict[str, Any]:
        """Return the JSON of a sample by its row."""
        place = self.index_rows[row]
        found: dict[str, Any] = orjson.loads(
            self.reader.read(place["shard"], place["json_offset"], place["json_bytes"])
        )
        return found

    def is_shard(self, number: int, rows: Sequence[int]) -> bool:
        """Return whether these rows are exactly one of its shards."""
        if number + 1 >= len(self.first_rows):
            return False
        return list(rows) == list(range(int(self.first_rows[number]), int(self.first_rows[number + 1])))

    def place_of(self, row: int) -> tuple[int, int]:
        """Return the shard of a row of the index, and its row in the shard."""
        shard = int(self.index_rows[row]["shard"])
        return shard, row - int(self.first_rows[shard])

    def sidecar(self, shard: int, columns: list[str]) -> pa.Table:
        """Return columns of a sidecar, with the types that a new one has."""
        self.path(f"{shard:05d}.parquet")
        return plain_types(self.version.sidecar(shard, columns))


def record_path(catalog: Catalog, name: str) -> Path:
    """Return the file that has the record of a data set's newest version."""
    return catalog.workspace / "datasets" / name / ".reusable"


def save_record(catalog: Catalog, manifest: Manifest, records: Sequence[SampleRecord], judged: str) -> None:
    """Record the samples of a published version, in the order of its index, instead of those of an earlier one."""
    import pyarrow as pa

    version = DatasetVersion(manifest, catalog.folder(manifest.name, manifest.version))
    table = pa.table(
        {
            "key": pa.array([record.key for record in records], pa.binary(16)),
            "text_bytes": pa.array([record.text_bytes for record in records], pa.int64()),
            "counts": pa.array([record.counts for record in records], pa.binary()),
        }
    )
    table = table.replace_schema_metadata({_ABOUT: canonical(_describe(version, judged))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    write_atomically(record_path(catalog, manifest.name), blake3(data).digest() + data)


def _describe(version: DatasetVersion, judged: str) -> Mapping[str, Any]:
    """Return what a record must agree with: the version, its files as they are on disk, and what wrote them."""
    import pyarrow as pa

    return {
        "fingerprint": version.manifest.fingerprint,
        "layout": LAYOUT_VERSION,
        "libraries": [np.__version__, orjson.__version__, pa.__version__],
        "files": {
            name: _changed_ns(version.folder / name, record["bytes"]) for name, record in version.records.items()
        },
        "judged": judged,
    }


def _changed_ns(path: Path, size_bytes: int) -> int:
    """Return when a file was last changed (ns); -1 if it is missing or has another size."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return -1
    return found.st_mtime_ns if found.st_size == size_bytes else -1
