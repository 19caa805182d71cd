"""Balanced bisection: split in two, each half again, until every leaf has its size; near leaves get near numbers."""

from __future__ import annotations

import numpy as np

from curation.vectors.rows import BLOCK_ROWS, Float32Array, Half, Labels, Positions
from data_manifests.seeds import draw_seed

_IN_MEMORY_ROWS = 8_192
"""Nodes of at most so many members are held as float32 while they are split further."""
_SAMPLE_ROWS = 2_048
_SPLIT_ROUNDS = 3


class Bisection:
    """Splits all vectors in two, each half again, and so on; every cut leaves each side the size it needs.

    A cut is 2-means whose members are the lower part of an order by (nearness to one mean - nearness to the
    other): for given means no split of these sizes is better. Of the two sides the one nearer to the left
    neighbour comes first.
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
                held = self._vectors[members].astype(np.float32)
                self._split_held(first, leaves, members, held, left, right)
                continue
            rng = np.random.default_rng(draw_seed("bisect", self._seed, first, leaves))
            drawn = np.sort(rng.choice(len(members), _SAMPLE_ROWS, replace=False))
            half = leaves // 2
            size = int(self._ends[first + half] - self._ends[first])
            cut = _cut(self._vectors[members[drawn]].astype(np.float32), size / len(members), rng, left, right)
            along = np.concatenate(
                [
                    self._vectors[members[start : start + BLOCK_ROWS]].astype(np.float32) @ cut.direction
                    for start in range(0, len(members), BLOCK_ROWS)
                ]
            )
            low, high = _divide(along, size)
            nodes.append((first + half, leaves - half, members[high], cut.low, right))
            nodes.append((first, half, members[low], left, cut.high))
        return self._labels

    def _split_held(
        self,
        first: int,
        leaves: int,
        members: Positions,
        held: Float32Array,
        left: Float32Array | None,
        right: Float32Array | None,
    ) -> None:
        if leaves == 1:
            self._labels[members] = first
            return
        rng = np.random.default_rng(draw_seed("bisect", self._seed, first, leaves))
        half = leaves // 2
        size = int(self._ends[first + half] - self._ends[first])
        cut = _cut(held, size / len(members), rng, left, right)
        low, high = _divide(held @ cut.direction, size)
        self._split_held(first, half, members[low], held[low], left, cut.high)
        self._split_held(first + half, leaves - half, members[high], held[high], cut.low, right)


class _Cut:
    """A direction, and the means of those who lie low and high along it."""

    def __init__(self, direction: Float32Array, low: Float32Array, high: Float32Array) -> None:
        self.direction, self.low, self.high = direction, low, high


def _cut(
    rows: Float32Array,
    share_low: float,
    rng: np.random.Generator,
    left: Float32Array | None,
    right: Float32Array | None,
) -> _Cut:
    """Return where to cut so that `share_low` of the rows are low, and low is the side of the left neighbour."""
    mean = rows.mean(axis=0)
    direction: Float32Array = rng.standard_normal((rows.shape[1],), dtype=np.float32)
    for _ in range(4):  # towards the axis along which they differ most
        direction = (rows - mean).T @ ((rows - mean) @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
    size = min(max(1, round(share_low * len(rows))), len(rows) - 1)
    direction, low, high = _two_means(rows, direction, size)
    turned = sum(
        float((low - high) @ neighbour) * sign
        for neighbour, sign in ((left, 1.0), (right, -1.0))
        if neighbour is not None
    )
    if turned < 0.0:
        direction, low, high = _two_means(rows, -direction, size)
    return _Cut(direction, low, high)


def _two_means(
    rows: Float32Array, direction: Float32Array, size: int
) -> tuple[Float32Array, Float32Array, Float32Array]:
    total = rows.sum(axis=0)
    before: Positions | None = None
    for _ in range(_SPLIT_ROUNDS):
        members, _ = _divide(rows @ direction, size)
        members.sort()
        lower = rows[members].sum(axis=0)
        low, high = lower / size, (total - lower) / (len(rows) - size)
        direction = high - low
        if before is not None and np.array_equal(before, members):
            break
        before = members
    return direction, low, high


def _divide(along: Float32Array, size: int) -> tuple[Positions, Positions]:
    """Return the places of the `size` lowest and of the others; of equal ones the first are lower."""
    order = np.argsort(along, kind="stable")
    return order[:size], order[size:]
