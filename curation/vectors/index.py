"""Nearest vectors: every pair for small sets, neighbouring cells for large ones, with the recall that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.vectors.bisection import Bisection
from curation.vectors.pricing import free_clusters
from curation.vectors.rows import BLOCK_ROWS, Float32Array, Half, Labels, Positions, as_half, exact_dots, one_thread
from data_manifests.seeds import draw_seed

EXACT_BELOW = 50_000
TARGET_RECALL = 0.97
RECALL_QUERIES = 1_000
RECALL_AT = 10

_CELL_ROWS = 256
_FIRST_PROBES = 4
_MARGIN = 16
"""Candidates beyond the wished number that are compared exactly: float32 sums may order near ties otherwise."""
_WIDEST_MARGIN = 1_024
_FLOAT32_ERROR = 1e-5
_QUERIES_AT_ONCE = 8_192
_CANDIDATES_AT_ONCE = 65_536


def choose_kind(num_vectors: int, exact_below: int = EXACT_BELOW) -> str:
    """Return ``exact`` or ``ivf``: which index `build_index` makes of so many vectors."""
    return "exact" if num_vectors < exact_below else "ivf"


@dataclass(frozen=True)
class _Cells:
    """An inverted file: vectors by cell, and each cell's near cells, itself first."""

    label: Labels
    order: Positions
    starts: Positions
    means: Float32Array
    near: Positions


@dataclass(frozen=True)
class VectorIndex:
    """Finds nearest vectors by dot product.

    Attributes:
        vectors: float16 [n, d].
        kind: ``exact`` or ``ivf``.
        measured_recall: Share of the true ten nearest that it found of a sample of its own vectors; 1.0 when exact.
        num_probes: Cells that it looks into for a query; 0 when exact.
    """

    vectors: Half
    kind: str
    measured_recall: float
    num_probes: int = 0
    cells: _Cells | None = None

    def search(self, queries: NDArray[Any], k: int) -> tuple[NDArray[np.float32], Positions]:
        """Return similarities [q, k] (rounded) and positions [q, k] of the nearest, equal ones by position.

        Where more than a thousand are equal in their last bits, those found first are taken. Where an inverted file
        finds fewer than k, the rest is -inf and -1.

        Raises:
            ValueError: k is not in 1 .. n.
        """
        if not 1 <= k <= len(self.vectors):
            raise ValueError(f"k = {k} of {len(self.vectors)} vectors: give 1 .. {len(self.vectors)}")
        half = as_half(queries)
        with one_thread():
            if self.cells is None:
                return _scan_all(self.vectors, half, k)
            return _scan_cells(self.vectors, half, _nearest_cell(half, self.cells), self.cells, self.num_probes, k)

    def search_own(self, k: int) -> tuple[NDArray[np.float32], Positions]:
        """Return what `search` returns for all vectors of the index; cheaper, since their cells are known."""
        if self.cells is None:
            return self.search(self.vectors, k)
        with one_thread():
            return _scan_cells(self.vectors, self.vectors, self.cells.label, self.cells, self.num_probes, k)


def build_index(
    vectors: NDArray[Any], *, exact_below: int = EXACT_BELOW, seed: int = 0, target_recall: float = TARGET_RECALL
) -> VectorIndex:
    """Return an index; an inverted file looks into as many cells as `target_recall` of a sample needs.

    Args:
        vectors: [n, d], about unit norm; held as float16.
        exact_below: From so many vectors on, an inverted file.
        seed: Of the cells and of the sample.
        target_recall: Wished share of the true ten nearest.
    """
    half = as_half(vectors)
    if choose_kind(len(half), exact_below) == "exact" or len(half) <= 2 * _CELL_ROWS:
        return VectorIndex(half, "exact", 1.0)
    with one_thread():
        cells = _cells(half, seed)
        rng = np.random.default_rng(draw_seed("recall", seed))
        sample = np.sort(rng.choice(len(half), min(RECALL_QUERIES, len(half)), replace=False))
        k = min(RECALL_AT + 1, len(half))
        truth = _scan_all(half, half[sample], k)[1]
        probes, most = _FIRST_PROBES, len(cells.means)
        while True:
            found = _scan_cells(half, half[sample], cells.label[sample], cells, probes, k)[1]
            recall = recall_of(found, truth)
            if recall >= target_recall or probes >= most:
                return VectorIndex(half, "ivf", round(recall, 4), probes, cells)
            probes = min(most, probes * 2)


def recall_of(found: Positions, truth: Positions) -> float:
    """Return the share of the true nearest [q, k] that are among those found [q, k]."""
    return float((truth[:, :, None] == found[:, None, :]).any(axis=2).mean())


def _cells(half: Half, seed: int) -> _Cells:
    import faiss

    count = -(-len(half) // _CELL_ROWS)
    label, means = free_clusters(half, Bisection(half, count, seed).run(), count)
    order = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[order], np.arange(count + 1))
    kept = np.flatnonzero(np.diff(starts))  # cells may have run empty
    renumbered = np.zeros(count, dtype=np.int64)
    renumbered[kept] = np.arange(len(kept))
    means = np.ascontiguousarray(means[kept])
    near = faiss.knn(means, means, min(len(kept), 1_024))[1]
    return _Cells(renumbered[label], order, np.append(starts[kept], len(half)), means, near)


def _nearest_cell(queries: Half, cells: _Cells) -> Labels:
    import faiss

    found = [
        faiss.knn(queries[first : first + BLOCK_ROWS].astype(np.float32), cells.means, 1)[1][:, 0]
        for first in range(0, len(queries), BLOCK_ROWS)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _scan_all(vectors: Half, queries: Half, k: int) -> tuple[NDArray[np.float32], Positions]:
    similarity = np.empty((len(queries), k), dtype=np.float32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        part = slice(first, first + _QUERIES_AT_ONCE)
        similarity[part], positions[part] = _nearest(vectors, queries[part], None, k)
    return similarity, positions


def _scan_cells(
    vectors: Half, queries: Half, cell: Labels, cells: _Cells, probes: int, k: int
) -> tuple[NDArray[np.float32], Positions]:
    """Scan, for all queries of a cell at once, the members of the near cells: one matrix product."""
    similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
    positions = np.full((len(queries), k), -1, dtype=np.int64)
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(len(cells.means) + 1))
    for number in np.flatnonzero(np.diff(starts)):
        asking = order[starts[number] : starts[number + 1]]
        members = np.concatenate(
            [cells.order[cells.starts[c] : cells.starts[c + 1]] for c in cells.near[number, :probes]]
        )
        members.sort()
        width = min(k, len(members))
        similarity[asking, :width], positions[asking, :width] = _nearest(vectors, queries[asking], members, width)
    return similarity, positions


def _nearest(
    vectors: Half, queries: Half, among: Positions | None, k: int, margin: int = _MARGIN
) -> tuple[NDArray[np.float32], Positions]:
    """Return the k nearest of the vectors at the positions `among` (None: of all), compared exactly at the end."""
    total = len(vectors) if among is None else len(among)
    candidates = _candidates(vectors, queries, among, k + margin)
    exact = exact_dots(queries, vectors, candidates)
    order = np.lexsort((candidates, -exact), axis=1)
    exact, candidates = np.take_along_axis(exact, order, axis=1), np.take_along_axis(candidates, order, axis=1)
    similarity, positions = exact[:, :k].astype(np.float32), candidates[:, :k]
    if candidates.shape[1] < total and margin < _WIDEST_MARGIN:
        # one that was left out may be as near as the last that was taken: look further, for these alone
        unsure = np.flatnonzero(exact[:, -1] >= exact[:, k - 1] - _FLOAT32_ERROR)
        if len(unsure):
            similarity[unsure], positions[unsure] = _nearest(vectors, queries[unsure], among, k, margin * 8)
    return similarity, positions


def _candidates(vectors: Half, queries: Half, among: Positions | None, width: int) -> Positions:
    """Return at least the `width` nearest by float32 sums."""
    import faiss

    wide = queries.astype(np.float32)
    total = len(vectors) if among is None else len(among)
    near: list[Positions] = []
    values: list[Float32Array] = []
    for first in range(0, total, _CANDIDATES_AT_ONCE):
        last = min(total, first + _CANDIDATES_AT_ONCE)
        rows = (vectors[first:last] if among is None else vectors[among[first:last]]).astype(np.float32)
        value, place = faiss.knn(wide, rows, min(width, last - first), metric=faiss.METRIC_INNER_PRODUCT)
        values.append(value)
        near.append(place + first if among is None else among[place + first])
    if len(near) == 1:
        return near[0]
    best = np.argsort(-np.concatenate(values, axis=1), axis=1, kind="stable")[:, :width]
    return np.take_along_axis(np.concatenate(near, axis=1), best, axis=1)
