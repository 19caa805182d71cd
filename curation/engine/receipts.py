"""Receipts: which result in the store each sample got from a stage, so that an unchanged sample's values need not be read again.

``<folder of results>/receipts/<lo>-<hi>-<hash>.arrow`` has a row for each sample: its key, which is a hash of the ids of its
uid and of the values that the stage requires; the id of its input and the file of its result; the id of the result, from
which later stages compute their keys; and whether it was dropped. Ids are hashes of values, so equal keys mean equal input.
Receipts are a shortcut: whatever is missing is found again from the results, and a receipt whose result file is gone counts
for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson
from blake3 import blake3

from curation.engine.stage import Stage
from curation.engine.store import Partition, StageResult, files_of, input_id_of, span_of
from data_manifests.atomic_files import write_atomically
from data_manifests.errors import InputError
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import pyarrow as pa

RECEIPTS_FOLDER = "receipts"
"""Folder of a stage's receipts, beside its results."""

_SUFFIX = ".arrow"
_SMALL_BYTES = 2**14
"""Size below which a file is one of few samples, such as that of an edit."""
_MOST_SMALL_FILES = 64


class Receipt(NamedTuple):
    """What became of a sample in a stage.

    Attributes:
        key: Hash of the uid and of the values that the stage requires, by their ids.
        input_id: Id of its input.
        file: Name of the file with its result; empty for a stage that has none of each sample: one that fits or indexes.
        result_id: Hash of the result's fields.
        dropped: Whether the stage dropped it.
        evidence: Its numbers by name, as JSON, if the stage gives evidence.
    """

    key: bytes
    input_id: bytes
    file: str = ""
    result_id: bytes | None = None
    dropped: bool = False
    evidence: bytes | None = None

    @classmethod
    def of(cls, stage: Stage, input_id: bytes, file: str, result: StageResult) -> Receipt:
        """Return the receipt for a result, without a key: several samples may have the same input."""
        if result.drop is not None:
            return cls(b"", input_id, file, input_id_of((), {}), dropped=True)
        numbers: dict[str, float] = {}
        for field in stage.provides:
            if field.role == "evidence":
                numbers |= field.decode(result.values[field.name])
        result_id = input_id_of(sorted(result.values), result.values)
        return cls(b"", input_id, file, result_id, evidence=canonical(numbers) if numbers else None)


def publish_receipts(folder: Path, uids: Iterable[str], receipts: Iterable[Receipt]) -> None:
    """Write the receipts of some samples atomically beside the results in a folder; the results must be there already."""
    rows = sorted(receipts, key=lambda receipt: receipt.key)
    if not rows:
        return
    _write(folder / RECEIPTS_FOLDER, span_of(uids), receipts_table(rows))
    _merge_small(folder / RECEIPTS_FOLDER)


def _write(folder: Path, span: Partition, table: pa.Table) -> Path:
    """Write a file of receipts, whose name has a hash of its bytes."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    data = sink.getvalue()
    path = folder / f"{span.label}-{blake3(data).hexdigest(length=8)}{_SUFFIX}"
    write_atomically(path, data)
    return path


def _merge_small(folder: Path) -> None:
    """Replace the small files by one if there are too many, since each edit adds one that every later run reads.

    Another run may do the same: what it does not find any more it looks up in the results.
    """
    import pyarrow as pa

    small = [path for path in files_of(folder, suffix=_SUFFIX) if _size_bytes(path) < _SMALL_BYTES]
    if len(small) <= _MOST_SMALL_FILES:
        return
    spans = [[int(part, 16) for part in path.name.split("-")[:2]] for path in small]
    tables = [table for path in small if (table := _read(path)) is not None]
    span = Partition(min(first for first, _ in spans), max(last for _, last in spans))
    merged = _write(folder, span, pa.concat_tables([_schema().empty_table(), *tables]).combine_chunks())
    for path in small:
        if path != merged:
            path.unlink(missing_ok=True)


def _size_bytes(path: Path) -> int:
    """Return a file's size; 0 if another run has removed it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _read(path: Path) -> pa.Table | None:
    """Return the receipts of a file; None if another run has just merged it into a larger one.

    Raises:
        InputError: the file is damaged.
    """
    import pyarrow as pa

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if blake3(data).hexdigest(length=8) != path.stem.rpartition("-")[2]:
        raise InputError(f"{path}: file of receipts is damaged", fix="delete this file; the next run makes it again")
    return pa.ipc.open_file(pa.BufferReader(data)).read_all()


def receipts_table(receipts: Sequence[Receipt]) -> pa.Table:
    """Return receipts as a table."""
    import pyarrow as pa

    columns = zip(*receipts, strict=True) if receipts else [()] * len(_schema())
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, _schema(), strict=True)], _schema())


def read_receipts(folder: Path, partition: Partition) -> pa.Table:
    """Return the receipts of a folder's results that may be for samples of a partition.

    Raises:
        InputError: a file is damaged.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found = (_read(path) for path in files_of(folder / RECEIPTS_FOLDER, partition, _SUFFIX))
    tables = [_schema().empty_table(), *(table for table in found if table is not None)]
    table = pa.concat_tables(tables).combine_chunks()
    there = [path.name for path in files_of(folder)]
    return table.filter(pc.is_in(table["file"], pa.array(["", *there])))


def add_up(evidence: pa.ChunkedArray) -> dict[str, float]:
    """Return the sums of the samples' evidence, by name; they do not depend on the order."""
    numbers: dict[str, list[float]] = {}
    for data in evidence.drop_null().to_pylist():
        for name, number in orjson.loads(data).items():
            numbers.setdefault(name, []).append(number)
    return {name: math.fsum(values) for name, values in sorted(numbers.items())}


def places_of(keys: pa.Array, table: pa.Table, column: str) -> pa.Array:
    """Return the row of each key in a column of ids; null where it is not there."""
    import pyarrow.compute as pc

    return pc.index_in(keys, value_set=table[column].combine_chunks())


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("key", pa.binary(16)),
            ("input_id", pa.binary(16)),
            ("file", pa.string()),
            ("result_id", pa.binary(16)),
            ("dropped", pa.bool_()),
            ("evidence", pa.large_binary()),
        ]
    )
