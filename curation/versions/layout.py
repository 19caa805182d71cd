"""The layout of a version: which samples, in which order, in shards of which size."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError, nearest
from data_manifests.sample import UID_HEX_CHARS
from data_manifests.seeds import draw_seed

if TYPE_CHECKING:
    import pyarrow as pa

Ints = np.ndarray[Any, np.dtype[np.int64]]

ORDERS = ("cluster", "difficulty", "uid", "shuffle:SEED")
_SHUFFLE = re.compile(r"shuffle:([0-9]{1,18})")
_UID = re.compile(rf"[0-9a-f]{{{UID_HEX_CHARS}}}")
_TERM = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(>=|<=|==|!=|>|<)\s*(.+?)\s*")
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def difficulty_band(difficulty: float, bands: int) -> int:
    """Return the band of difficulty by which a sample is sorted within its cluster.

    Args:
        difficulty: 0 (easiest) to 1.
        bands: Number of bands; with 0 all samples are in one, so that an edited caption moves no sample.
    """
    return min(int(difficulty * bands), bands - 1) if bands else 0


@dataclass(frozen=True)
class Layout:
    """The new layout of a version.

    Attributes:
        shard_bytes: Target size of a shard.
        order: ``cluster`` (then by band of difficulty, then by uid), ``difficulty``, ``uid``, ``shuffle:SEED``, or empty
            to keep the order.
        bands: Bands of difficulty; 0 sorts by difficulty itself, or inside a cluster by uid alone.
        where: Conditions on columns of the index, such as ``difficulty>=0.3``; all must hold.
        keep: Uids to keep; None keeps all.

    Raises:
        InputError: the order is unknown.
    """

    shard_bytes: int
    order: str = ""
    bands: int = 0
    where: tuple[str, ...] = ()
    keep: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.order and self.order not in ORDERS[:3] and not _SHUFFLE.fullmatch(self.order):
            raise InputError(
                f"--order {self.order!r}: {nearest(self.order, ORDERS)}".rstrip(": "), allowed=", ".join(ORDERS)
            )
        if self.bands and self.order not in ("cluster", "difficulty"):
            raise InputError(f"--bands {self.bands} needs an order by difficulty", fix="give --order cluster")

    def rows(self, index: pa.Table, ref: str) -> Ints:
        """Return the rows of the index that are kept, in the new order.

        Args:
            index: index.parquet.
            ref: The version's name, for messages.

        Raises:
            InputError: a column is missing or has another type, or no sample is kept.
        """
        chosen = np.ones(index.num_rows, dtype=bool)
        for term in self.where:
            chosen &= _matches(index, term, ref)
        if self.keep is not None:
            chosen &= np.array([uid in self.keep for uid in index["uid"].to_pylist()], dtype=bool)
        rows: Ints = np.flatnonzero(chosen).astype(np.int64)
        if not len(rows):
            raise InputError(
                f"{ref}: none of {index.num_rows} samples is selected", fix="relax --where, or check the uids of --keep"
            )
        return rows[self._sorted(index.take(rows), ref)] if self.order else rows

    def _sorted(self, index: pa.Table, ref: str) -> Ints:
        """Return the rows of an index in the new order."""
        uids = index["uid"].to_pylist()
        keys: list[Sequence[Any]] = []
        if found := _SHUFFLE.fullmatch(self.order):
            keys.append([draw_seed(int(found[1]), "reshard", uid, "order") for uid in uids])
        if self.order == "cluster":
            keys.append(_column(index, "cluster_id", ref, f"--order {self.order}").to_pylist())
        if self.order in ("cluster", "difficulty"):
            difficulties = _column(index, "difficulty", ref, f"--order {self.order}").to_pylist()
            exact = self.order == "difficulty" and not self.bands
            keys.append(difficulties if exact else [difficulty_band(value, self.bands) for value in difficulties])
        table = list(zip(*keys, uids, strict=True))
        return np.array(sorted(range(len(uids)), key=table.__getitem__), dtype=np.int64)


def _column(index: pa.Table, name: str, ref: str, option: str) -> pa.ChunkedArray:
    shown = [column for column in index.column_names if not column.startswith("h_")]
    if name not in index.column_names:
        raise InputError(
            f"{option}: {ref} has no column '{name}'; {nearest(name, shown)}".rstrip("; "),
            allowed=", ".join(shown),
        )
    return index[name]


def _matches(index: pa.Table, term: str, ref: str) -> Any:
    """Return for each row whether a condition holds; it does not hold for a missing value."""
    import pyarrow as pa

    option = f"--where {term!r}"
    found = _TERM.fullmatch(term)
    if not found:
        raise InputError(f"{option}: not a condition", allowed="COLUMN OP VALUE, OP one of " + " ".join(_COMPARE))
    name, sign, text = found.groups()
    column, compare = _column(index, name, ref, option), _COMPARE[sign]
    if pa.types.is_string(column.type):
        return np.array([value is not None and compare(value, text) for value in column.to_pylist()], dtype=bool)
    try:
        number = float(text)
    except ValueError:
        raise InputError(f"{option}: '{name}' is a column of numbers, {text!r} is not a number") from None
    values = column.to_numpy().astype(np.float64)
    return compare(values, number) & ~np.isnan(values)


def read_uids(path: Path) -> frozenset[str]:
    """Read a list of uids: text (one per line), parquet (column ``uid``) or DataComp's subset file (``.npy``).

    Raises:
        InputError: the file is missing or has another format, or a line is not a uid.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", allowed="text, .parquet or DataComp's .npy of uids")
    if path.suffix == ".npy":
        return _from_datacomp(path)
    uids = _from_parquet(path) if path.suffix == ".parquet" else _from_text(path)
    for number, uid in uids:
        if not isinstance(uid, str) or not _UID.fullmatch(uid):
            raise InputError(f"{path}:{number}: {uid!r} is not a uid", allowed="32 hex digits in lower case")
    return frozenset(uid for _, uid in uids)


def _from_text(path: Path) -> list[tuple[int, str]]:
    """Return line number and text of the lines that are not blank."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text", allowed="text, .parquet or .npy of uids") from None
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def _from_datacomp(path: Path) -> frozenset[str]:
    try:
        pairs = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not an array of uids: {error}", allowed="DataComp's dtype 'u8,u8'") from None
    if pairs.ndim != 1 or pairs.dtype != np.dtype("u8,u8"):
        raise InputError(f"{path}: {pairs.ndim}-dimensional array of {pairs.dtype}", allowed="DataComp's 'u8,u8'")
    return frozenset(f"{high:016x}{low:016x}" for high, low in pairs.tolist())


def _from_parquet(path: Path) -> list[tuple[int, Any]]:
    """Return row number and value of the column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["uid"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path}: cannot be read: {error}", allowed="a parquet file with a column 'uid'") from None
    if "uid" not in table.column_names:
        raise InputError(f"{path}: no column 'uid'", allowed="a parquet file with a column 'uid'")
    return list(enumerate(table["uid"].to_pylist(), start=1))
