"""What a version takes from the one before it: samples whose published values are the same, and whole shards of them.

Beside a data set's versions lies a record of the newest one: a key of every sample's values, and what it adds to the
statistics. The record only saves work: where it is missing or does not fit, everything is written from the store, and
the bytes are the same.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import orjson
from blake3 import blake3

from curation.versions.sidecars import plain_types
from data_manifests.atomic_files import open_atomically
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


_KEY = np.dtype("S16")
"""Of a key; numpy ignores zero bytes at the end, which is no harm where all have the same length."""


def records_schema() -> pa.Schema:
    """Return the columns of what is recorded of published samples.

    ``key``: equal keys mean that everything published of the sample is equal. ``text_bytes``: size of its texts, by which
    shards are divided. ``counts``: what it adds to the statistics, as JSON.
    """
    import pyarrow as pa

    return pa.schema([("key", pa.binary(16)), ("text_bytes", pa.int64()), ("counts", pa.binary())])


class SampleRecords:
    """The records of a version's samples, in the order of its index; in memory are keys and sizes of texts.

    Args:
        data: An Arrow file of them.
    """

    def __init__(self, data: pa.Buffer) -> None:
        import pyarrow as pa

        self._reader = pa.ipc.open_file(data)
        numbers = pa.ipc.open_file(data, options=pa.ipc.IpcReadOptions(included_fields=[0, 1])).read_all()
        self._firsts = np.cumsum([0, *(len(chunk) for chunk in numbers["key"].chunks)])
        keys = np.array(numbers["key"].to_pylist(), _KEY)
        self._rows = np.argsort(keys)
        self._keys = keys[self._rows]
        self.text_bytes = numbers["text_bytes"].to_numpy()

    def rows_of(self, keys: Sequence[bytes]) -> Int64Array:
        """Return the row of each of some keys; -1 for a key that is not there."""
        wanted = np.array(keys, _KEY)
        if not len(self._keys):
            return np.full(len(wanted), -1)
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[places] == wanted, self._rows[places], -1)

    def take(self, rows: Int64Array) -> pa.Table:
        """Return the records of some rows; the batches of the file that have them are read."""
        import pyarrow as pa

        numbers = np.searchsorted(self._firsts, rows, side="right") - 1
        parts, places = [records_schema().empty_table()], [np.zeros(0, np.int64)]
        for number in np.unique(numbers).tolist():
            places.append(np.flatnonzero(numbers == number))
            found = self._reader.get_batch(number).take(pa.array(rows[places[-1]] - self._firsts[number]))
            parts.append(pa.Table.from_batches([found]).replace_schema_metadata())
        return pa.concat_tables(parts).take(pa.array(np.argsort(np.concatenate(places))))


@dataclass(frozen=True)
class EarlierVersion:
    """The newest version of a data set, of which the next one takes what stays the same.

    Attributes:
        version: The version.
        records: The records of its samples, in the order of its index.
        judged: Hash of the pairs whose blind accuracy is in its manifest.
    """

    version: DatasetVersion
    records: SampleRecords
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
        # mapped, since most of it is read part by part
        content = pa.memory_map(str(path)).read_buffer()
        digest, data = content.slice(0, _DIGEST_BYTES), content.slice(_DIGEST_BYTES)
        if blake3(data).digest() != digest.to_pybytes():
            raise InputError(
                f"{path}: damaged", fix="delete this file; the next version is then written from the store"
            )
        version = DatasetVersion(manifest, catalog.folder(manifest.name, manifest.version))
        about = orjson.loads(pa.ipc.open_file(data).schema.metadata[_ABOUT])
        if about != _describe(version, about["judged"]) or -1 in about["files"].values():
            return None
        return cls(version, SampleRecords(data), about["judged"])

    @cached_property
    def index(self) -> pa.Table:
        """Its index."""
        self.path("index.parquet")
        return plain_types(self.version.index())

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """Return a column of numbers of its index."""
        found: np.ndarray[Any, Any] = self.index[name].to_numpy()
        return found

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
        place = (int(self.index[name][row].as_py()) for name in ("shard", "json_offset", "json_bytes"))
        found: dict[str, Any] = orjson.loads(self.reader.read(*place))
        return found

    def is_shard(self, number: int, rows: Int64Array) -> bool:
        """Return whether these rows are exactly one of its shards."""
        if number + 1 >= len(self.first_rows):
            return False
        return np.array_equal(rows, np.arange(self.first_rows[number], self.first_rows[number + 1]))

    def places_of(self, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Return the shard of each of some rows of the index, and its row in the shard."""
        shards = np.searchsorted(self.first_rows, rows, side="right") - 1
        return shards, rows - self.first_rows[shards]

    def sidecar(self, shard: int, columns: list[str]) -> pa.Table:
        """Return columns of a sidecar, with the types that a new one has."""
        self.path(f"{shard:05d}.parquet")
        return plain_types(self.version.sidecar(shard, columns))


def record_path(catalog: Catalog, name: str) -> Path:
    """Return the file that has the record of a data set's newest version."""
    return catalog.workspace / "datasets" / name / ".reusable"


def save_record(catalog: Catalog, manifest: Manifest, records: IO[bytes], judged: str) -> None:
    """Record the samples of a published version, in the order of its index, instead of those of an earlier one.

    Args:
        catalog: Where versions are.
        manifest: The version's.
        records: An Arrow stream of the records; see `records_schema`.
        judged: Hash of the pairs whose blind accuracy is in the manifest.
    """
    import pyarrow as pa

    version = DatasetVersion(manifest, catalog.folder(manifest.name, manifest.version))
    schema = records_schema().with_metadata({_ABOUT: canonical(_describe(version, judged))})
    path = record_path(catalog, manifest.name)
    records.seek(0)
    with tempfile.TemporaryFile(dir=path.parent) as file:
        with pa.ipc.new_file(file, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            for batch in pa.ipc.open_stream(records):
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        file.flush()
        digest = blake3(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).digest()
        file.seek(0)
        with open_atomically(path) as out:
            out.write(digest)
            shutil.copyfileobj(file, out)


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
