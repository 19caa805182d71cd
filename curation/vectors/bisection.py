"""Balanced bisection: split in two, each half again, until every leaf has its size; near leaves have near numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curation.vectors.rows import Float32Array, Half, Labels, Positions, dots
from data_manifests.seeds import draw_seed

_IN_MEMORY_ROWS = 8_192
"""Nodes of at most this many members are in memory as float32 while they are split further."""
_SAMPLE_ROWS = 2_048
_SPLIT_ROUNDS = 3


class Bisection:
    """Splits all vectors in two, each half again, and so on; every cut gives both sides the size they need.

    A cut is 2-means: the vectors are sorted by (nearness to one mean - nearness to the other) and split where the size
    fits; for given means no split of these sizes is better. The side nearer to the left neighbour comes first.
    """

    def __init__(self, vectors: Half, num_clusters: int, seed: int) -> None:
        self._vectors, self._num, self._seed = vectors, num_clusters, seed
        self._labels = np.zeros(len(vectors), dtype=np.int64)
        self._ends = np.arange(num_clusters + 1, dtype=np.int64) * len(vectors) // num_clusters

    def run(self) -> Labels:
        """Return the label of every vector."""
        n = len(self._vectors)
        # (first leaf, number of leaves, members, left neighbour's mean, right neighbour's mean)
        nodes: list[tuple[int, int, Positions, Float32Array | None, Float32Array | None]] = [
            (0, self._num, np.arange(n, dtype=np.int64), None, None)
        ]
        while nodes:
            first, leaves, members, left, right = nodes.pop()
            if len(members) <= _IN_MEMORY_ROWS:
                self._split_in_memory(first, leaves, members, self._vectors[members].astype(np.float32), left, right)
                continue
            rng = np.random.default_rng(draw_seed("bisect", self._seed, first, leaves))
            drawn = np.sort(rng.choice(len(members), _SAMPLE_ROWS, replace=False))
            half = leaves // 2
            size = int(self._ends[first + half] - self._ends[first])
            cut = _cut(self._vectors[members[drawn]].astype(np.float32), size / len(members), rng, left, right)
            low, high = _split_by_value(dots(self._vectors, members, cut.direction), size)
            nodes.append((first + half, leaves - half, members[high], cut.low, right))
            nodes.append((first, half, members[low], left, cut.high))
        return self._labels

    def _split_in_memory(
        self,
        first: int,
        leaves: int,
        members: Positions,
        rows: Float32Array,
        left: Float32Array | None,
        right: Float32Array | None,
    ) -> None:
        if leaves == 1:
            self._labels[members] = first
            return
        rng = np.random.default_rng(draw_seed("bisect", self._seed, first, leaves))
        half = leaves // 2
        size = int(self._ends[first + half] - self._ends[first])
        cut = _cut(rows, size / len(members), rng, left, right)
        low, high = _split_by_value(rows @ cut.direction, size)
        self._split_in_memory(first, half, members[low], rows[low], left, cut.high)
        self._split_in_memory(first + half, leaves - half, members[high], rows[high], cut.low, right)


class _Cut(NamedTuple):
    """A direction, and the means of the vectors low and high along it."""

    direction: Float32Array
    low: Float32Array
    high: Float32Array


def _cut(
    rows: Float32Array,
    share_low: float,
    rng: np.random.Generator,
    left: Float32Array | None,
    right: Float32Array | None,
) -> _Cut:
    """Return the cut that puts `share_low` of the rows on the low side, which is that of the left neighbour."""
    mean = rows.mean(axis=0)
    direction: Float32Array = rng.standard_normal((rows.shape[1],), dtype=np.float32)
    for _ in range(4):  # power iteration: towards the axis of largest variance
        direction = (rows - mean).T @ ((rows - mean) @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
    size = min(max(1, round(share_low * len(rows))), len(rows) - 1)
    cut = _two_means(rows, direction, size)
    orientation = sum(
        float((cut.low - cut.high) @ neighbour) * sign
        for neighbour, sign in ((left, 1.0), (right, -1.0))
        if neighbour is not None
    )
    return _two_means(rows, -cut.direction, size) if orientation < 0.0 else cut


def _two_means(rows: Float32Array, direction: Float32Array, size: int) -> _Cut:
    total = rows.sum(axis=0)
    before: Positions | None = None
    for _ in range(_SPLIT_ROUNDS):
        members, _ = _split_by_value(rows @ direction, size)
        members.sort()
        lower = rows[members].sum(axis=0)
        low, high = lower / size, (total - lower) / (len(rows) - size)
        direction = high - low
        if before is not None and np.array_equal(before, members):
            break
        before = members
    return _Cut(direction, low, high)


def _split_by_value(values: Float32Array, size: int) -> tuple[Positions, Positions]:
    """Return the positions of the `size` lowest values and of the others; of ties the first are lower."""
    order = np.argsort(values, kind="stable")
    return order[:size], order[size:]
