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


def difficulty_band(difficulty: float, bands: int) -> float:
    """Return what a sample is sorted by inside its cluster: its band of difficulty, or without bands the difficulty.

    Args:
        difficulty: 0 (easiest) to 1.
        bands: How many; 0 means that every difficulty is a difficulty_band of its own.
    """
    return float(min(int(difficulty * bands), bands - 1)) if bands else difficulty


@dataclass(frozen=True)
class Layout:
    """How a version is laid out anew.

    Attributes:
        shard_bytes: Wished size of a shard.
        order: ``cluster`` (clusters contiguous, bands of difficulty inside, then uid), ``difficulty``, ``uid``,
            ``shuffle:SEED``, or empty for the order there is.
        bands: Bands of difficulty; 0 sorts by difficulty itself.
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
            raise InputError(f"--bands {self.bands} without an order by difficulty", fix="give --order cluster")

    def rows(self, index: pa.Table, told: str) -> Ints:
        """Return the rows of the index that are kept, in the new order.

        Args:
            index: index.parquet.
            told: The version, for errors.

        Raises:
            InputError: a column is missing or of another kind, or nothing is left.
        """
        chosen = np.ones(index.num_rows, dtype=bool)
        for term in self.where:
            chosen &= _holds(index, term, told)
        if self.keep is not None:
            chosen &= np.array([uid in self.keep for uid in index["uid"].to_pylist()], dtype=bool)
        rows: Ints = np.flatnonzero(chosen).astype(np.int64)
        if not len(rows):
            raise InputError(
                f"{told}: no sample of {index.num_rows} is selected", fix="loosen --where, or check --keep's uids"
            )
        return rows[self._sorted(index.take(rows), told)] if self.order else rows

    def _sorted(self, index: pa.Table, told: str) -> Ints:
        """Return the order of an index's rows."""
        uids = index["uid"].to_pylist()
        keys: list[Sequence[Any]] = []
        if found := _SHUFFLE.fullmatch(self.order):
            keys.append([draw_seed(int(found[1]), "reshard", uid, "order") for uid in uids])
        if self.order == "cluster":
            keys.append(_column(index, "cluster_id", told, f"--order {self.order}").to_pylist())
        if self.order in ("cluster", "difficulty"):
            difficulties = _column(index, "difficulty", told, f"--order {self.order}").to_pylist()
            keys.append([difficulty_band(value, self.bands) for value in difficulties])
        table = list(zip(*keys, uids, strict=True))
        return np.array(sorted(range(len(uids)), key=table.__getitem__), dtype=np.int64)


def _column(index: pa.Table, name: str, told: str, option: str) -> pa.ChunkedArray:
    shown = [column for column in index.column_names if not column.startswith("h_")]
    if name not in index.column_names:
        raise InputError(
            f"{option}: {told} has no column '{name}'; {nearest(name, shown)}".rstrip("; "),
            allowed=", ".join(shown),
        )
    return index[name]


def _holds(index: pa.Table, term: str, told: str) -> Any:
    """Return for each row whether a condition holds; a missing value meets none."""
    import pyarrow as pa

    option = f"--where {term!r}"
    found = _TERM.fullmatch(term)
    if not found:
        raise InputError(f"{option}: not a condition", allowed="COLUMN OP VALUE, OP one of " + " ".join(_COMPARE))
    name, sign, text = found.groups()
    column = _column(index, name, told, option)
    compare = _COMPARE[sign]
    if pa.types.is_string(column.type):
        return np.array([value is not None and compare(value, text) for value in column.to_pylist()], dtype=bool)
    try:
        number = float(text)
    except ValueError:
        raise InputError(f"{option}: '{name}' holds numbers, {text!r} is none") from None
    values = column.to_numpy().astype(np.float64)
    return compare(values, number) & ~np.isnan(values)


def read_uids(path: Path) -> frozenset[str]:
    """Read a list of uids: text (one a line), parquet (column ``uid``) or DataComp's subset file (``.npy``).

    Raises:
        InputError: the file is missing, of another kind, or a line is no uid.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", allowed="text, .parquet or DataComp's .npy of uids")
    if path.suffix == ".npy":
        return _from_datacomp(path)
    if path.suffix == ".parquet":
        return _from_parquet(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text", allowed="text, .parquet or .npy of uids") from None
    return _checked(path, ((number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()))


def _checked(path: Path, numbered: Any) -> frozenset[str]:
    found = set()
    for number, uid in numbered:
        if not isinstance(uid, str) or not _UID.fullmatch(uid):
            raise InputError(f"{path}:{number}: {uid!r} is no uid", allowed="32 hex digits a line, in lower case")
        found.add(uid)
    return frozenset(found)


def _from_datacomp(path: Path) -> frozenset[str]:
    try:
        pairs = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not an array of uids: {error}", allowed="DataComp's dtype 'u8,u8'") from None
    if pairs.ndim != 1 or pairs.dtype != np.dtype("u8,u8"):
        raise InputError(f"{path}: an array of {pairs.dtype}, {pairs.ndim} dimension(s)", allowed="DataComp's 'u8,u8'")
    return frozenset(f"{high:016x}{low:016x}" for high, low in pairs.tolist())


def _from_parquet(path: Path) -> frozenset[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["uid"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path}: cannot be read: {error}", allowed="a parquet file with a column 'uid'") from None
    if "uid" not in table.column_names:
        raise InputError(f"{path}: no column 'uid'", allowed="a parquet file with a column 'uid'")
    return _checked(path, enumerate(table["uid"].to_pylist(), start=1))
