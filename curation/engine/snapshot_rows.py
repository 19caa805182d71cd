"""Rows of a snapshot's ``samples.parquet``, which are sorted by uid: only the row groups that have them are read.

The row group read last is kept: a partition has fewer samples than it, and the next partition's follow. The file is open only
while a row group is read, so that its folder can be taken away.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_MOST_KEPT_BYTES = 2**24
"""Of a row group that is kept; one with scene graphs is larger, and read again."""


class SnapshotRows:
    """Reads rows of a ``samples.parquet``.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._path, self._metadata = path, pq.read_metadata(path)
        about = self._metadata
        column = about.schema.names.index("uid")
        self._numbers = [number for number in range(about.num_row_groups) if about.row_group(number).num_rows]
        bounds = [about.row_group(number).column(column).statistics for number in self._numbers]
        self._firsts, self._lasts = [one.min for one in bounds], [one.max for one in bounds]
        self._kept: tuple[int, pa.Table] | None = None

    def between(self, low: str, end: str) -> Iterator[pa.Table]:
        """Yield the rows with low <= uid < end, in order."""
        for place in range(bisect_left(self._lasts, low), bisect_left(self._firsts, end)):
            table = self._read(self._numbers[place])
            first, last = 0, len(table)
            if self._firsts[place] < low or self._lasts[place] >= end:
                uids = table["uid"].to_pylist()
                first, last = bisect_left(uids, low), bisect_left(uids, end)
            if last > first:
                yield table.slice(first, last - first)

    def of(self, uids: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows with these uids, which are sorted."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(uids, pa.string())
        for table in self.between(uids[0], uids[-1] + "g") if uids else ():
            yield table.filter(pc.is_in(table["uid"], wanted))

    def _read(self, number: int) -> pa.Table:
        if self._kept is not None and self._kept[0] == number:
            return self._kept[1]
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._path, metadata=self._metadata) as file:
            table = file.read_row_group(number, use_threads=False)
        self._kept = (number, table) if table.nbytes <= _MOST_KEPT_BYTES else None
        return table


def open_rows(path: Path) -> SnapshotRows:
    """Return what reads the rows of a file in this thread; of one that has not changed since, the footer is not read again."""
    found = path.stat()
    return _opened(path, get_ident(), found.st_ino, found.st_mtime_ns)


@lru_cache(maxsize=2)
def _opened(path: Path, *_thread_and_changes: int) -> SnapshotRows:
    return SnapshotRows(path)
