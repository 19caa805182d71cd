"""Rows sorted in pieces: as `sorted` sorts them, however small the pieces are, with bounded memory."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.sources.reading import sorted_rows
from curation.sources.reading.sorted_rows import SortedRows, merged

_rows = st.lists(st.tuples(st.text("ab\u00e9\U0001f415\0", max_size=3), st.sampled_from("xy")), max_size=60)


def tables_of(rows: list[tuple[str, str]], size: int) -> list[pa.Table]:
    """Return rows as tables of so many, numbered."""
    numbered = [{"key": key, "second": second, "number": number} for number, (key, second) in enumerate(rows)]
    schema = pa.schema([("key", pa.string()), ("second", pa.string()), ("number", pa.int64())])
    return [pa.Table.from_pylist(numbered[start : start + size], schema) for start in range(0, len(rows) + 1, size)]


@settings(max_examples=60, deadline=None)
@given(rows=_rows, size=st.integers(1, 9), piece=st.integers(1, 400), batch=st.integers(1, 5), many=st.integers(2, 4))
def test_it_sorts_like_sorted_and_keeps_keys_together(
    rows: list[tuple[str, str]], size: int, piece: int, batch: int, many: int
) -> None:
    limits: dict[str, Any] = {"MAX_PIECE_BYTES": piece, "ROWS_PER_BATCH": batch, "MAX_MERGED_FILES": many}
    with patch.multiple(sorted_rows, **limits):
        collected = SortedRows(("key", "second"))
        for table in tables_of(rows, size):
            collected.add(table)
        found: list[list[dict[str, Any]]] = [
            table.to_pylist() for table in merged(collected.files(), ("key", "second"))
        ]
    expected = sorted(enumerate(rows), key=lambda row: row[1])
    assert [row["number"] for part in found for row in part] == [number for number, _ in expected]
    keys = [{row["key"] for row in part} for part in found]
    assert sum(map(len, keys)) == len({key for key, _ in rows}), "a key is in two tables"


def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(num_rows: int) -> int:
        collected, most = SortedRows(("key",)), 0
        for start in range(0, num_rows, 1000):
            keys = [f"{number * 7919 % num_rows:09d}" for number in range(start, start + 1000)]
            collected.add(pa.table({"key": keys, "text": ["x" * 1000] * 1000}))
            most = max(most, pa.total_allocated_bytes())
        for _ in merged(collected.files(), ("key",)):
            most = max(most, pa.total_allocated_bytes())
        return most

    before = pa.total_allocated_bytes()
    with patch.object(sorted_rows, "MAX_PIECE_BYTES", 4_000_000), patch.object(sorted_rows, "ROWS_PER_BATCH", 32):
        few, many = peak(10_000) - before, peak(40_000) - before
    assert few > 3_000_000, "a piece is in memory"
    assert many < few + 1_000_000, "40 MB of rows are not; a small batch of each of the ten pieces is"
