"""The memo store: results of stages, found by the hash of their input.

``<root>/<stage>/<fingerprint>/<lo>-<hi>-<id>.parquet`` holds rows (`input_id`, `drop`, provided fields)
of samples whose uid starts between `lo` and `hi` (three hex digits). A file appears whole or not at
all, so a killed run loses at most the current batch, and two runs may share a store.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from blake3 import blake3

from curation.engine.stage import Drop, Stage
from data_manifests.atomic_files import draft_folder, write_atomically, write_table_atomically
from data_manifests.errors import InputError
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import pyarrow as pa

PREFIXES = 4096
"""Number of uid prefixes (three hex digits): the most partitions a data set can have."""

SAMPLES_EACH = 512
"""About how many samples a partition has, unless another number is asked for."""

STAGE_FILE = "stage.json"
"""Beside a stage's results: from which fields they are computed, so that `forget` finds a sample's results."""


@dataclass(frozen=True, slots=True)
class Partition:
    """The samples whose uid starts with `first` .. `last` (three hex digits, as numbers; both included)."""

    first: int
    last: int

    @property
    def label(self) -> str:
        """Such as ``000-0ff``; part of file names."""
        return f"{self.first:03x}-{self.last:03x}"

    def bounds(self) -> tuple[str, str]:
        """Return (low, end) with low <= uid < end for each of its uids."""
        return f"{self.first:03x}", f"{self.last + 1:03x}" if self.last + 1 < PREFIXES else "g"


ALL_SAMPLES = Partition(0, PREFIXES - 1)


def partitions(num_samples: int, samples_each: int = SAMPLES_EACH) -> list[Partition]:
    """Return partitions of about `samples_each` samples; they depend only on the size of the data set."""
    count = max(1, min(PREFIXES, -(-num_samples // samples_each)))
    edges = [index * PREFIXES // count for index in range(count + 1)]
    return [Partition(low, high - 1) for low, high in pairwise(edges)]


def span_of(uids: Iterable[str]) -> Partition:
    """Return the smallest partition that has these uids."""
    prefixes = [int(uid[:3], 16) for uid in uids]
    return Partition(min(prefixes), max(prefixes))


@dataclass(frozen=True, slots=True)
class StageResult:
    """A stage's result for one sample: the encoded fields, or a drop."""

    values: Mapping[str, bytes]
    drop: Drop | None = None


def input_id(stage: Stage, encoded: Mapping[str, bytes]) -> bytes:
    """Return the id (16 bytes) of a sample's input to a stage: BLAKE3 of the fields it requires."""
    return input_id_of(stage.required_fields(), encoded)


def input_id_of(names: Sequence[str], encoded: Mapping[str, bytes]) -> bytes:
    """Return the id (16 bytes) of these fields' encoded values."""
    parts: list[bytes] = []
    for name, label in zip(names, _labels(tuple(names)), strict=True):
        data = encoded[name]
        parts += (label, b"%d:" % len(data), data)
    return blake3(b"".join(parts)).digest(length=16)


@lru_cache(maxsize=256)
def _labels(names: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(b"%d:%s=" % (len(name), name.encode()) for name in names)


def files_of(folder: Path, partition: Partition | None = None, suffix: str = ".parquet") -> list[Path]:
    """Return the files in a folder that may have rows of a partition (by default all files), by name."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if not entry.name.endswith(suffix) or entry.name.startswith("."):
                continue
            first, last = (int(part, 16) for part in entry.name.split("-")[:2])
            if partition is None or (first <= partition.last and partition.first <= last):
                found.append(Path(entry.path))
    return sorted(found)


class Store:
    """Reads and publishes stage results.

    Args:
        root: The store's folder; created when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: Stage, key: str = "") -> Path:
        """Return the folder of a stage's results; a fitted stage has one for each fit, an indexed one for each state."""
        folder = self.root / stage.name / stage.fingerprint()
        return folder / key if key else folder

    def describe_stage(self, stage: Stage, key: str = "") -> None:
        """Write beside a stage's results what they are computed from, unless it is there already."""
        path = self.folder(stage, key) / STAGE_FILE
        if not path.is_file():
            about = {
                "name": stage.name,
                "fingerprint": stage.fingerprint(),
                "requires": list(stage.required_fields()),
                "config": stage.config(),
            }
            write_atomically(path, canonical(about))

    def remove(self, stage: Stage) -> None:
        """Remove all results of a stage with these settings, and its fits: they are computed again."""
        folder = self.folder(stage)
        if folder.is_dir():
            with draft_folder(folder.parent) as draft:
                folder.rename(draft / folder.name)  # at once: a run that is killed now leaves no half of them

    def publish(
        self, folder: Path, partition: Partition, rows: Mapping[bytes, StageResult], fields: Sequence[str]
    ) -> Path:
        """Write one result file atomically; its name has a hash of its rows, so a repeated batch gives one file."""
        import pyarrow as pa

        keys = sorted(rows)
        drops = [None if (drop := rows[key].drop) is None else orjson.dumps(drop) for key in keys]
        columns: dict[str, list[bytes | None]] = {"drop": drops}
        columns |= {name: [rows[key].values.get(name) for key in keys] for name in fields}
        hasher = blake3(b"".join(keys))
        for value in (value for column in columns.values() for value in column):
            hasher.update(b"-" if value is None else b"%d:" % len(value) + value)
        arrays = {
            name: pa.array(column, pa.binary() if name == "drop" else pa.large_binary())
            for name, column in columns.items()
        }
        table = pa.table({"input_id": pa.array(keys, pa.binary(16)), **arrays})
        return write_parquet(folder / f"{partition.label}-{hasher.hexdigest(length=8)}.parquet", table)


def find_results(files: Iterable[Path], ids: Sequence[bytes]) -> dict[bytes, str]:
    """Return which of some result files has the result of each input id; those without a result are left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted, found = pa.array(ids, pa.binary(16)), dict[bytes, str]()
    for path in files:
        stored = _read(path, ["input_id"])["input_id"]
        found |= dict.fromkeys(stored.filter(pc.is_in(stored, wanted)).to_pylist(), path.name)
    return found


def read_results(path: Path, ids: Sequence[bytes], fields: Sequence[str]) -> list[StageResult]:
    """Return the results of some input ids in a result file, with only these fields.

    Raises:
        InputError: the file is damaged.
        LookupError: it lacks one of them.
    """
    table = select_results(path, ids, ["drop", *fields])
    return [
        StageResult({}, Drop(**orjson.loads(drop))) if drop else StageResult(dict(zip(fields, values, strict=True)))
        for drop, *values in zip(*(table[name].to_pylist() for name in ("drop", *fields)), strict=True)
    ]


def select_results(path: Path, ids: Sequence[bytes], columns: Sequence[str]) -> pa.Table:
    """Return columns of a result file, one row for each of these input ids.

    Raises:
        InputError: the file is damaged.
        LookupError: it lacks one of them.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    table = _read(path, ["input_id", *columns])
    rows = pc.index_in(pa.array(ids, pa.binary(16)), value_set=table["input_id"])
    if rows.null_count:
        raise LookupError(f"{path}: lacks {rows.null_count} of {len(ids)} results")
    return table.take(rows)


def _read(path: Path, columns: list[str]) -> pa.Table:
    """Return columns of a result file.

    Raises:
        InputError: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: result file is damaged: {error}",
            fix="delete this file; the next run computes its rows again",
        ) from error


def write_parquet(path: Path, table: pa.Table) -> Path:
    """Write a parquet file with checksummed pages atomically; equal tables give equal bytes.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    write_table_atomically(path, table, compression_level=3, write_page_checksum=True)
    return path
