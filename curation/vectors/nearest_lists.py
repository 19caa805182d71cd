"""Lists of the nearest others of each row, brought up to date as rows come and go."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.vectors.index import VectorIndex
from curation.vectors.rows import DECIMALS, Half, Positions, blocks, exact_products, one_thread

BoolArray = NDArray[np.bool_]
Entries = tuple[Any, Any, Any]
"""Rows, the positions of others, and their nearness, each an array [m]."""

_UNIT = 10**DECIMALS
_ROWS_AT_ONCE = 4_096
_NEW_AT_ONCE = 512
_REBUILD_SHARE = 0.25
"""From this share of rows to search for, searching for all is about as fast."""


@dataclass(frozen=True)
class NearestLists:
    """At most `most` others of each row, nearest first, ties by position; flat, sorted by row.

    Attributes:
        num_rows: Number of rows.
        most: Maximum length of a list.
        rows: Row of each entry [m].
        others: Position of the other [m].
        nearness: How near it is, as a whole number [m].
    """

    num_rows: int
    most: int
    rows: Positions
    others: Positions
    nearness: Positions

    @classmethod
    def empty(cls, num_rows: int, most: int) -> NearestLists:
        """Return lists without entries."""
        none = np.zeros(0, np.int64)
        return cls(num_rows, most, none, none, none)

    @classmethod
    def of(cls, num_rows: int, most: int, entries: Iterable[Entries]) -> NearestLists:
        """Return lists of the nearest among entries (rows, others, nearness), each array [m]; no pair occurs twice."""
        none = np.zeros(0, np.int64)
        rows, others, nearness = (np.concatenate(column) for column in zip((none, none, none), *entries, strict=True))
        order = np.lexsort((others, -nearness, rows))
        rows, others, nearness = rows[order], others[order], nearness[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < most
        return cls(num_rows, most, rows[kept], others[kept], nearness[kept])

    @property
    def counts(self) -> Positions:
        """Length of each list [num_rows]."""
        return np.bincount(self.rows, minlength=self.num_rows)

    def worst(self, least: int) -> Positions:
        """Return the nearness that an entry must have to get into each list [num_rows]; `least` where there is room."""
        worst = np.full(self.num_rows, least, np.int64)
        full = np.flatnonzero(self.counts == self.most) if self.most else np.zeros(0, np.int64)
        worst[full] = self.nearness[np.searchsorted(self.rows, full, side="right") - 1]
        return worst

    def moved(self, row_now: Positions, num_rows: int) -> tuple[NearestLists, BoolArray, BoolArray]:
        """Return the lists of the rows that are still there, without those that are not.

        Args:
            row_now: New position of each row, ascending; -1 if it is gone.
            num_rows: Number of rows now.

        Returns:
            The lists; which rows are new [num_rows]; which rows may lack an entry [num_rows], because their list was
            full and lost one.
        """
        rows, others = row_now[self.rows], row_now[self.others]
        is_new, lacks = np.ones(num_rows, np.bool_), np.zeros(num_rows, np.bool_)
        is_new[row_now[row_now >= 0]] = False
        full = self.counts[self.rows] == self.most
        lacks[rows[full & (others < 0) & (rows >= 0)]] = True
        kept = (rows >= 0) & (others >= 0)
        return NearestLists(num_rows, self.most, rows[kept], others[kept], self.nearness[kept]), is_new, lacks

    def without(self, emptied: BoolArray) -> NearestLists:
        """Return the lists with those of some rows emptied."""
        kept = ~emptied[self.rows]
        return NearestLists(self.num_rows, self.most, self.rows[kept], self.others[kept], self.nearness[kept])

    def adding(self, entries: Iterable[Entries]) -> NearestLists:
        """Return the lists with more entries (rows, others, nearness)."""
        return NearestLists.of(self.num_rows, self.most, [(self.rows, self.others, self.nearness), *entries])

    def arrays(self, prefix: str = "") -> dict[str, NDArray[np.int32]]:
        """Return the arrays of a state: the entries' others and nearness, and the length of each list."""
        named = {"counts": self.counts, "others": self.others, "nearness": self.nearness}
        return {f"{prefix}{name}": array.astype(np.int32) for name, array in named.items()}

    @classmethod
    def load(cls, arrays: Mapping[str, NDArray[Any]], most: int, prefix: str = "") -> NearestLists:
        """Return the lists that `arrays` was called on."""
        counts, others, nearness = (
            arrays[f"{prefix}{name}"].astype(np.int64) for name in ("counts", "others", "nearness")
        )
        return cls(len(counts), most, np.repeat(np.arange(len(counts)), counts), others, nearness)

    def by_row(self) -> Iterable[list[tuple[int, int]]]:
        """Yield each row's list: (position, nearness)."""
        ends = np.cumsum(self.counts)
        for start, end in zip((ends - self.counts).tolist(), ends.tolist(), strict=True):
            yield list(zip(self.others[start:end].tolist(), self.nearness[start:end].tolist(), strict=True))


def nearest_lists(index: VectorIndex, most: int, max_similarity: float = np.inf) -> NearestLists:
    """Return the lists of all vectors of an index; nearness is similarity in millionths.

    Args:
        index: The index.
        most: Maximum length of a list.
        max_similarity: Others that are more similar are left out.
    """
    every = np.arange(len(index.vectors))
    if not len(every):
        return NearestLists.empty(0, most)
    return NearestLists.of(len(every), most, [_search(index, every, most, max_similarity)])


def updated_lists(
    vectors: Half, before: NearestLists, row_now: Positions, max_similarity: float = np.inf
) -> NearestLists:
    """Return what `nearest_lists` returns for an exact index of the vectors, by comparing just what has changed.

    Args:
        vectors: float16 [n, d].
        before: Earlier lists.
        row_now: Position of each of their rows now, ascending; -1 if it is gone or its vector has changed.
        max_similarity: As for the earlier lists.
    """
    lists, is_new, lacks = before.moved(row_now, len(vectors))
    asked, index = is_new | lacks, VectorIndex(vectors)
    if asked.sum() >= _REBUILD_SHARE * len(asked):
        return nearest_lists(index, before.most, max_similarity)
    lists, new = lists.without(asked), np.flatnonzero(is_new)
    near_new = _entries_of_new(vectors, new, lists.worst(-2 * _UNIT), asked, max_similarity)
    return lists.adding([_search(index, np.flatnonzero(asked), before.most, max_similarity), *near_new])


def _search(index: VectorIndex, rows: Positions, most: int, max_similarity: float) -> Entries:
    """Return the entries of the lists of some rows."""
    total = len(index.vectors)
    width = min(most + 1, total)  # a vector finds itself
    if len(rows) == total:
        similarity, others = index.search_own(width, max_similarity)
    else:
        similarity, others = index.search(index.vectors[rows], width, max_similarity)
    kept = (others >= 0) & (others != rows[:, None])
    own = np.broadcast_to(rows[:, None], others.shape)
    return own[kept], others[kept], np.rint(similarity[kept] * _UNIT).astype(np.int64)


def _entries_of_new(
    vectors: Half, new: Positions, worst: Positions, asked: BoolArray, max_similarity: float
) -> Iterator[Entries]:
    """Yield the entries that new vectors are in the lists of others that are not searched for."""
    with one_thread():
        for part in blocks(len(new), _NEW_AT_ONCE):
            exact = vectors[new[part]].astype(np.float64)
            for rows in blocks(len(vectors), _ROWS_AT_ONCE):
                similarity = exact_products(exact, vectors[rows]).T
                nearness = np.rint(similarity * _UNIT).astype(np.int64)
                near = (nearness >= worst[rows, None]) & (similarity <= max_similarity) & ~asked[rows, None]
                row, column = np.nonzero(near)
                yield row + rows.start, new[part][column], nearness[row, column]
