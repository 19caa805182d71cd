"""Nearest vectors: every pair for small sets, an inverted file with a measured recall for large ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.vectors.bisection import Bisection
from curation.vectors.pricing import free_clusters
from curation.vectors.rows import (
    DECIMALS,
    Float32Array,
    Half,
    Labels,
    Positions,
    as_half,
    blocks,
    exact_dots,
    exact_products,
    members_by_cluster,
    one_thread,
)
from data_manifests.seeds import draw_seed

_RECALL_QUERIES = 1_000
_RECALL_AT = 10
_CELL_ROWS = 256
_FIRST_PROBES = 4
_MARGIN = 16
"""Candidates beyond k that are compared exactly: float32 sums may order near ties differently."""
_FLOAT32_ERROR = 1e-5
_QUERIES_AT_ONCE = 8_192
_CANDIDATES_AT_ONCE = 16_384
_EXACT_QUERIES, _EXACT_ROWS = 512, 2_048
_NO_KEY = np.iinfo(np.int64).max


@dataclass(frozen=True)
class _Cells:
    """An inverted file: vectors by cell, and the near cells of each cell, itself first."""

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
        measured_recall: Share of the true ten nearest that it finds, measured on a sample of its vectors; 1.0 if exact.
        num_probes: Cells that it scans for a query; 0 if exact.
        cells: The inverted file; None if every pair is compared.
    """

    vectors: Half
    measured_recall: float = 1.0
    num_probes: int = 0
    cells: _Cells | None = None

    def search(
        self, queries: NDArray[Any], k: int, max_similarity: float = np.inf
    ) -> tuple[NDArray[np.float64], Positions]:
        """Return similarities [q, k] (rounded) and positions [q, k] of the nearest; ties are sorted by position.

        Where there are fewer than k, or an inverted file finds fewer, the rest is -inf and -1.

        Args:
            queries: [q, d].
            k: 1 .. n.
            max_similarity: Vectors that are more similar than this are left out.

        Raises:
            ValueError: k is not in 1 .. n.
        """
        if not 1 <= k <= len(self.vectors):
            raise ValueError(f"k = {k} of {len(self.vectors)} vectors: give 1 .. {len(self.vectors)}")
        half = as_half(queries)
        with one_thread():
            if self.cells is None:
                return _scan_all(self.vectors, half, k, max_similarity)
            cell = _nearest_cell(half, self.cells)
            return _scan_cells(self.vectors, half, cell, self.cells, self.num_probes, k, max_similarity)

    def search_own(self, k: int, max_similarity: float = np.inf) -> tuple[NDArray[np.float64], Positions]:
        """Return what `search` returns for all vectors of the index; faster, since their cells are known."""
        if self.cells is None:
            return self.search(self.vectors, k, max_similarity)
        with one_thread():
            label, probes = self.cells.label, self.num_probes
            return _scan_cells(self.vectors, self.vectors, label, self.cells, probes, k, max_similarity)


def compares_every_pair(num_vectors: int, exact_below: int) -> bool:
    """Return whether an index of this many vectors is exact, see `build_index`."""
    return num_vectors < exact_below or num_vectors <= 2 * _CELL_ROWS


def build_index(vectors: NDArray[Any], *, exact_below: int, seed: int, target_recall: float) -> VectorIndex:
    """Return an index; an inverted file scans as many cells as a random sample needs for `target_recall`.

    Args:
        vectors: [n, d], about unit norm; used as float16.
        exact_below: Compare every pair of fewer vectors than this; use an inverted file for more.
        seed: Seed of the cells and of the sample.
        target_recall: Share of the true ten nearest to find.
    """
    half = as_half(vectors)
    if compares_every_pair(len(half), exact_below):
        return VectorIndex(half)
    with one_thread():
        cells = _cells(half, seed)
        rng = np.random.default_rng(draw_seed("recall", seed))
        sample = np.sort(rng.choice(len(half), min(_RECALL_QUERIES, len(half)), replace=False))
        k = min(_RECALL_AT + 1, len(half))
        truth = _scan_all(half, half[sample], k)[1]
        probes, num_cells = _FIRST_PROBES, len(cells.means)
        while True:
            found = _scan_cells(half, half[sample], cells.label[sample], cells, probes, k)[1]
            recall = recall_of(found, truth)
            if recall >= target_recall or probes >= num_cells:
                return VectorIndex(half, round(recall, 4), probes, cells)
            probes = min(num_cells, probes * 2)


def recall_of(found: Positions, truth: Positions) -> float:
    """Return the share of the true nearest [q, k] that were found [q, k]."""
    return float((truth[:, :, None] == found[:, None, :]).any(axis=2).mean())


def _cells(half: Half, seed: int) -> _Cells:
    import faiss

    count = -(-len(half) // _CELL_ROWS)
    label, means = free_clusters(half, Bisection(half, count, seed).run(), count)
    order, starts = members_by_cluster(label, count)
    kept = np.flatnonzero(np.diff(starts))  # cells may have become empty
    renumbered = np.zeros(count, dtype=np.int64)
    renumbered[kept] = np.arange(len(kept))
    means = np.ascontiguousarray(means[kept])
    near = faiss.knn(means, means, min(len(kept), 1_024))[1]
    return _Cells(renumbered[label], order, np.append(starts[kept], len(half)), means, near)


def _nearest_cell(queries: Half, cells: _Cells) -> Labels:
    import faiss

    nearest = np.empty(len(queries), dtype=np.int64)
    for part in blocks(len(queries)):
        nearest[part] = faiss.knn(queries[part].astype(np.float32), cells.means, 1)[1][:, 0]
    return nearest


def _scan_all(
    vectors: Half, queries: Half, k: int, max_similarity: float = np.inf
) -> tuple[NDArray[np.float64], Positions]:
    similarity = np.empty((len(queries), k), dtype=np.float64)
    positions = np.empty((len(queries), k), dtype=np.int64)
    for part in blocks(len(queries), _QUERIES_AT_ONCE):
        similarity[part], positions[part] = _nearest(vectors, queries[part], None, k, max_similarity)
    return similarity, positions


def _scan_cells(
    vectors: Half,
    queries: Half,
    cell: Labels,
    cells: _Cells,
    probes: int,
    k: int,
    max_similarity: float = np.inf,
) -> tuple[NDArray[np.float64], Positions]:
    """Scan the members of the near cells for all queries of a cell at once, as one matrix product."""
    similarity = np.full((len(queries), k), -np.inf, dtype=np.float64)
    positions = np.full((len(queries), k), -1, dtype=np.int64)
    order, starts = members_by_cluster(cell, len(cells.means))
    for number in np.flatnonzero(np.diff(starts)):
        rows = order[starts[number] : starts[number + 1]]
        members = np.concatenate(
            [cells.order[cells.starts[c] : cells.starts[c + 1]] for c in cells.near[number, :probes]]
        )
        members.sort()
        width = min(k, len(members))
        found = _nearest(vectors, queries[rows], members, width, max_similarity)
        similarity[rows, :width], positions[rows, :width] = found
    return similarity, positions


def _nearest(
    vectors: Half, queries: Half, among: Positions | None, k: int, max_similarity: float
) -> tuple[NDArray[np.float64], Positions]:
    """Return the k nearest of the vectors at positions `among` (None: of all); the candidates are compared exactly."""
    total = len(vectors) if among is None else len(among)
    candidates = _candidates(vectors, queries, among, k + _MARGIN)
    exact = exact_dots(queries, vectors, candidates)
    last = exact.min(axis=1)
    exact[exact > max_similarity] = -np.inf
    order = np.lexsort((candidates, -exact), axis=1)[:, :k]
    similarity, positions = np.take_along_axis(exact, order, axis=1), np.take_along_axis(candidates, order, axis=1)
    positions[np.isneginf(similarity)] = -1
    if candidates.shape[1] < total:
        # a vector that is not a candidate may be as near as the last one
        unsure = np.flatnonzero(last >= similarity[:, -1] - _FLOAT32_ERROR)
        for part in blocks(len(unsure), _EXACT_QUERIES):
            found = _scan_exactly(vectors, queries[unsure[part]], among, k, max_similarity)
            similarity[unsure[part]], positions[unsure[part]] = found
    return similarity, positions


def _scan_exactly(
    vectors: Half, queries: Half, among: Positions | None, k: int, max_similarity: float
) -> tuple[NDArray[np.float64], Positions]:
    """Return what `_nearest` returns, by exact products with every vector."""
    scale, exact = 10**DECIMALS, queries.astype(np.float64)
    keys = np.full((len(queries), k), _NO_KEY, np.int64)
    for part in blocks(len(vectors) if among is None else len(among), _EXACT_ROWS):
        own = np.arange(len(vectors))[part] if among is None else among[part]
        similarity = exact_products(exact, vectors[own])
        # one whole number orders by similarity, then by position
        found = np.rint(-similarity * scale).astype(np.int64) * len(vectors) + own
        found[similarity > max_similarity] = _NO_KEY
        keys = np.partition(np.concatenate([keys, found], axis=1), k - 1, axis=1)[:, :k]
    keys.sort(axis=1)
    similarity, positions = -(keys // len(vectors)) / scale, keys % len(vectors)
    similarity[keys == _NO_KEY], positions[keys == _NO_KEY] = -np.inf, -1
    return similarity, positions


def _candidates(vectors: Half, queries: Half, among: Positions | None, width: int) -> Positions:
    """Return the `width` nearest by float32 sums, or more."""
    import faiss

    wide = queries.astype(np.float32)
    total = len(vectors) if among is None else len(among)
    near: list[Positions] = []
    values: list[Float32Array] = []
    for part in blocks(total, _CANDIDATES_AT_ONCE):
        rows = (vectors[part] if among is None else vectors[among[part]]).astype(np.float32)
        value, row = faiss.knn(wide, rows, min(width, len(rows)), metric=faiss.METRIC_INNER_PRODUCT)
        values.append(value)
        near.append(row + part.start if among is None else among[row + part.start])
    if len(near) == 1:
        return near[0]
    best = np.argsort(-np.concatenate(values, axis=1), axis=1, kind="stable")[:, :width]
    return np.take_along_axis(np.concatenate(near, axis=1), best, axis=1)
