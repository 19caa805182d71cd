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
        nodes = [_Node(0, self._num, np.arange(len(self._vectors), dtype=np.int64))]
        while nodes:
            first, leaves, members, rows, left, right = nodes.pop()
            if leaves == 1:
                self._labels[members] = first
                continue
            if rows is None and len(members) <= _IN_MEMORY_ROWS:
                rows = self._vectors[members].astype(np.float32)
            rng = np.random.default_rng(draw_seed("bisect", self._seed, first, leaves))
            half = leaves // 2
            size = int(self._ends[first + half] - self._ends[first])
            sample = rows
            if sample is None:
                drawn = np.sort(rng.choice(len(members), _SAMPLE_ROWS, replace=False))
                sample = self._vectors[members[drawn]].astype(np.float32)
            cut = _cut(sample, size / len(members), rng, left, right)
            values = dots(self._vectors, members, cut.direction) if rows is None else rows @ cut.direction
            low, high = _split_by_value(values, size)
            low_rows, high_rows = (None, None) if rows is None else (rows[low], rows[high])
            nodes.append(_Node(first + half, leaves - half, members[high], high_rows, cut.low, right))
            nodes.append(_Node(first, half, members[low], low_rows, left, cut.high))
        return self._labels


class _Node(NamedTuple):
    """Leaves that are still to be split.

    Attributes:
        first: Number of the first leaf.
        leaves: How many leaves.
        members: Positions of their vectors.
        rows: Those vectors as float32, if they are in memory.
        left: Mean of the left neighbour's vectors, if there is one.
        right: Mean of the right neighbour's vectors.
    """

    first: int
    leaves: int
    members: Positions
    rows: Float32Array | None = None
    left: Float32Array | None = None
    right: Float32Array | None = None


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
