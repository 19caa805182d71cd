"""A version's index, column by column: numbers and labels as arrays, orders and rows by uid, all computed once and kept bounded.

Nothing is a Python object per sample: a column is read from parquet when it is first asked for, a label is a number of a list.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data_manifests.errors import InputError, nearest
from data_manifests.manifest import DatasetVersion

if TYPE_CHECKING:
    import pyarrow as pa

PLACES = ("shard", "image_offset", "image_bytes", "json_offset", "json_bytes", "text_offset", "text_bytes")
_INTERNAL = ("uid", "key", *PLACES)
MAX_KEPT_BYTES = 192 * 2**20
"""Most bytes of arrays that are kept; what was asked for longest ago is computed again."""
MAX_LABELS = 63
"""Most values of a field of which a sample has several (kinds of negatives, reasons): bits of a number; rarer ones are left out."""


class Kept:
    """Arrays by key, computed when they are first asked for; the least used leave when there are too many bytes."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._max, self._bytes = max_bytes, 0
        self._there: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Any, compute: Callable[[], Any], num_bytes: Callable[[Any], int]) -> Any:
        """Return what is kept under a key, or compute it; one thread computes at a time."""
        with self._lock:
            if key in self._there:
                self._there.move_to_end(key)
                return self._there[key][0]
            value = compute()
            self._there[key] = value, num_bytes(value)
            self._bytes += self._there[key][1]
            while self._bytes > self._max and len(self._there) > 1:
                _, (_, size) = self._there.popitem(last=False)
                self._bytes -= size
            return value


def array_bytes(value: Any) -> int:
    """Return the bytes of an array, or of a tuple whose first part is one."""
    return int(value[0].nbytes if isinstance(value, tuple) else value.nbytes)


class IndexColumns:
    """The columns of a version, and those that runs add.

    Attributes:
        version: The version.
        num_rows: Its samples.
        numbers: Fields that can be sorted, and filtered by a range.
        labels: Fields of text and truth values, of which a sample has one.
        several: Fields of which a sample has several values.
    """

    def __init__(
        self, version: DatasetVersion, losses: Mapping[str, Callable[[IndexColumns], NDArray[np.float64]]]
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.version = version
        schema = pq.ParquetFile(version.folder / "index.parquet", memory_map=True).schema_arrow
        shown = [field for field in schema if field.name not in _INTERNAL and not field.name.startswith("h_")]
        numeric = [field.name for field in shown if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]
        self.numbers: list[str] = [*numeric, *losses]
        self.labels = [item.name for item in shown if pa.types.is_string(item.type) or pa.types.is_boolean(item.type)]
        self.num_rows = version.manifest.num_samples
        self._losses, self._kept = losses, Kept()
        self._slow = Kept()  # with a lock of its own: what reads all shards keeps nobody waiting
        self.several = ["negative_type", "negative_operation"]
        if (version.folder / "rejected.parquet").is_file():
            self.several.append("rejected")

    def values(self, name: str) -> NDArray[Any]:
        """Return a field of numbers; float64 with NaN where there is none, if any is missing."""

        def read() -> NDArray[Any]:
            if name in self._losses:
                return self._losses[name](self)
            column = self._column(name)
            found: NDArray[Any] = column.to_numpy() if not column.null_count else column.cast("float64").to_numpy()
            return found

        array: NDArray[Any] = self._kept.get(("values", name), read, array_bytes)
        return array

    def bounds(self, name: str) -> tuple[float, float]:
        """Return a field's least and greatest number; NaN if it has none."""

        def read() -> NDArray[np.float64]:
            values = self.values(name)
            there = values[~np.isnan(values)] if values.dtype.kind == "f" else values
            return np.array([there.min(), there.max()] if len(there) else [np.nan, np.nan], np.float64)

        low, high = self._kept.get(("bounds", name), read, array_bytes)
        return float(low), float(high)

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return a field of labels as numbers of a list, commonest first; empty text and null are both ``""``."""

        def read() -> tuple[NDArray[np.int32], list[str]]:
            import pyarrow.compute as pc

            column = pc.fill_null(self._column(name).cast("string"), "").combine_chunks()
            encoded = column.dictionary_encode()
            codes, labels = encoded.indices.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()
            ranked = np.argsort(-np.bincount(codes, minlength=len(labels)), kind="stable")
            place = np.empty(len(labels), np.int32)
            place[ranked] = np.arange(len(labels), dtype=np.int32)
            return place[codes], [labels[at] for at in ranked]

        found: tuple[NDArray[np.int32], list[str]] = self._kept.get(("codes", name), read, array_bytes)
        return found

    def bits(self, name: str) -> tuple[NDArray[np.uint64], list[str]]:
        """Return a field of several values a sample: bit k of a sample's number says that it has value k of the list."""
        read = self._rejected_bits if name == "rejected" else lambda: self._negative_bits(name)
        found: tuple[NDArray[np.uint64], list[str]] = self._slow.get(name, read, array_bytes)
        return found

    def order(self, name: str, *, descending: bool) -> NDArray[np.int32]:
        """Return rows in the order of a field of numbers; equal ones in the order of shards, missing ones last.

        Raises:
            InputError: no such field.
        """
        if name not in self.numbers:
            raise InputError(f"sort={name!r}", allowed=", ".join(self.numbers), fix=nearest(name, self.numbers))

        def sort() -> NDArray[np.int32]:
            values = self.values(name)
            if descending:
                values = -values.astype(np.float64)
            return np.argsort(values, kind="stable").astype(np.int32)

        found: NDArray[np.int32] = self._kept.get(("order", name, descending), sort, array_bytes)
        return found

    def place(self, row: int, *columns: str) -> tuple[int, ...]:
        """Return some of `PLACES` of a row."""
        return tuple(int(self.values(name)[row]) for name in columns)

    def uid(self, row: int) -> str:
        """Return a row's uid."""
        return bytes(self._uids()[row]).decode()

    def rows_of(self, uids: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows of uids; -1 for one that is not in the version."""
        names = self._uids()
        order = self._kept.get(("by uid",), lambda: np.argsort(names, kind="stable").astype(np.int32), array_bytes)
        wanted = np.array([uid.encode("ascii", "replace") for uid in uids], dtype="S32")
        found = order[np.minimum(np.searchsorted(names, wanted, sorter=order), len(order) - 1)].astype(np.int64)
        return np.where(names[found] == wanted, found, -1)

    def _uids(self) -> NDArray[np.bytes_]:
        def read() -> NDArray[np.bytes_]:
            column = self._column("uid").combine_chunks()
            flat = np.frombuffer(column.buffers()[2], dtype="S32", count=len(column), offset=32 * column.offset)
            return flat.copy()

        found: NDArray[np.bytes_] = self._kept.get(("uid",), read, array_bytes)
        return found

    def _column(self, name: str) -> pa.ChunkedArray:
        column = self.version.index([name])[name]
        if len(column) != self.num_rows:
            raise InputError(
                f"{self.version.ref}: index.parquet has {len(column)} rows, the manifest says {self.num_rows}"
            )
        return column

    def _negative_bits(self, name: str) -> tuple[NDArray[np.uint64], list[str]]:
        """Return the kinds of each sample's negatives, from the shards' sidecars, one shard after the other."""
        import pyarrow.compute as pc

        part = name.removeprefix("negative_")
        bits, labels, first = np.zeros(self.num_rows, np.uint64), dict[str, int](), 0
        for shard in range(len(self.version.manifest.body["shards"])):
            listed = self.version.sidecar(shard, ["uid", f"negatives.list.element.{part}"])
            if "negatives" in listed.column_names:
                column = listed["negatives"].combine_chunks()
                owners = pc.list_parent_indices(column).to_numpy()
                _set_bits(bits[first : first + len(column)], owners, column.flatten().field(part), labels)
            first += listed.num_rows
        return bits, list(labels)

    def _rejected_bits(self) -> tuple[NDArray[np.uint64], list[str]]:
        """Return why texts of each sample were refused."""
        import pyarrow.compute as pc

        bits, labels = np.zeros(self.num_rows, np.uint64), dict[str, int]()
        table = self.version.table("rejected.parquet", ["uid", "stage", "reason"])
        for batch in table.to_batches(max_chunksize=1 << 18):
            rows = self.rows_of(batch["uid"].to_pylist())
            reasons = pc.binary_join_element_wise(batch["stage"], batch["reason"], ": ")
            known = rows >= 0
            _set_bits(bits, rows[known], reasons.filter(known), labels)
        return bits, list(labels)


def _set_bits(bits: NDArray[np.uint64], rows: NDArray[np.int64], values: Any, labels: dict[str, int]) -> None:
    """Set each row's bits of its values; a new value gets the next bit, while there are any."""
    import pyarrow.compute as pc

    encoded = pc.fill_null(values, "").dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    for code, label in enumerate(encoded.dictionary.to_pylist()):
        if label not in labels and len(labels) >= MAX_LABELS:
            continue
        bit = np.uint64(1 << labels.setdefault(label, len(labels)))
        bits[np.unique(rows[codes == code])] |= bit
