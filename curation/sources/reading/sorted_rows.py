"""Rows sorted with bounded memory: pieces of a table are sorted one by one, written, and merged as they are read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    import pyarrow as pa

MAX_PIECE_BYTES = 16 << 20
"""Bytes of rows that are sorted in memory."""
MAX_MERGED_FILES = 64
"""Files that are read at the same time."""
ROWS_PER_BATCH = 1024


class SortedRows:
    """Sorts the tables that are added, piece by piece, into files that `merged` reads; memory stays bounded.

    Args:
        keys: Columns to sort by, the first of them text without nulls. Rows with equal keys keep their order.
        open_file: Opens an empty file for reading and writing, for one piece.
    """

    def __init__(self, keys: Sequence[str], open_file: Callable[[], IO[bytes]] = TemporaryFile) -> None:
        self._keys, self._open_file = keys, open_file
        self._tables: list[pa.Table] = []
        self._num_bytes = 0
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        """Return this; the files are closed when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def add(self, table: pa.Table) -> None:
        """Add rows."""
        if not len(table):
            return
        self._tables.append(table)
        self._num_bytes += table.nbytes
        if self._num_bytes >= MAX_PIECE_BYTES:
            self._write()

    def files(self) -> list[IO[bytes]]:
        """Return the files with the rows so far; each is at its beginning."""
        if self._tables:
            self._write()
        return self._files

    def _write(self) -> None:
        """Write the rows in memory as one sorted piece."""
        self._files.append(_file_of([_sorted(self._tables, self._keys)], self._open_file))
        self._tables, self._num_bytes = [], 0


def merged(
    files: Iterable[IO[bytes]], keys: Sequence[str], open_file: Callable[[], IO[bytes]] = TemporaryFile
) -> Iterator[pa.Table]:
    """Yield the rows of sorted pieces in sorted order; all rows with the same first key come in one table.

    Args:
        files: Pieces that `SortedRows` wrote, in order: of rows with equal keys, those of an earlier piece come first.
            They are closed.
        keys: Columns that they are sorted by.
        open_file: Opens an empty file, for pieces that are merged because there are many.
    """
    pieces = iter(files)
    groups = iter(lambda: list(islice(pieces, MAX_MERGED_FILES)), [])
    first, second = next(groups, []), next(groups, [])
    if second:
        larger = (_file_of(_merge(group, keys), open_file) for group in chain([first, second], groups))
        yield from merged(larger, keys, open_file)
    else:
        yield from _merge(first, keys)


class _Piece:
    """A sorted piece that is being read: the rows that wait, and whether there are more in its file."""

    def __init__(self, file: IO[bytes], key: str) -> None:
        import pyarrow as pa

        self._key = key
        self._reader = pa.ipc.open_stream(file)
        self.rows = self._reader.schema.empty_table()
        self.has_more = True
        self.read_more()

    def read_more(self) -> None:
        """Read the next batch."""
        import pyarrow as pa

        batch = next(iter(self._reader), None)
        if batch is None:
            self.has_more = False
        else:
            self.rows = pa.concat_tables([self.rows, pa.Table.from_batches([batch])])

    @property
    def last_key(self) -> str:
        """The largest key that was read."""
        key: str = self.rows[self._key][-1].as_py()
        return key

    def take_below(self, bound: str | None) -> pa.Table:
        """Remove and return the waiting rows with a key below the bound; all of them when there is none."""
        column = self.rows[self._key]
        end = len(column) if bound is None else bisect_left(range(len(column)), bound, key=lambda i: column[i].as_py())
        taken, self.rows = self.rows.slice(0, end), self.rows.slice(end)
        return taken


def _merge(files: Sequence[IO[bytes]], keys: Sequence[str]) -> Iterator[pa.Table]:
    """Yield what `merged` does, from files that are all read at the same time."""
    with ExitStack() as stack:
        pieces = [_Piece(stack.enter_context(file), keys[0]) for file in files]
        while True:
            # Rows below every key that is still to be read are complete.
            bound = min((piece.last_key for piece in pieces if piece.has_more), default=None)
            tables = [table for piece in pieces if len(table := piece.take_below(bound))]
            if tables:
                yield _sorted(tables, keys) if len(tables) > 1 else tables[0]
            if bound is None:
                return
            for piece in pieces:
                if piece.has_more and piece.last_key == bound:
                    piece.read_more()


def _sorted(tables: Sequence[pa.Table], keys: Sequence[str]) -> pa.Table:
    """Return all rows, sorted; rows with equal keys stay in order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.concat_tables(tables).combine_chunks()
    return table.take(pc.sort_indices(table, sort_keys=[(key, "ascending") for key in keys]))


def _file_of(tables: Iterable[pa.Table], open_file: Callable[[], IO[bytes]]) -> IO[bytes]:
    """Return a new file with the rows of tables, at its beginning."""
    import pyarrow as pa

    rest = iter(tables)
    first = next(rest)
    file = open_file()
    with pa.ipc.new_stream(file, first.schema) as writer:
        for table in chain([first], rest):
            writer.write_table(table, max_chunksize=ROWS_PER_BATCH)
    file.seek(0)
    return file
