"""Equally large, compact clusters of many vectors, numbered so that near clusters have near numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.vectors.bisection import Bisection
from curation.vectors.exchange import exchange
from curation.vectors.pricing import equalise_sizes, priced_clusters
from curation.vectors.rows import Labels, as_half, cluster_means, members_by_cluster, one_thread

_EXCHANGE_ROUNDS = 6
_MIN_MOVED_SHARE = 0.002
"""Exchanges stop when a smaller share of the vectors moves."""


def balanced_clusters(
    vectors: NDArray[Any], num_clusters: int, *, seed: int, rounds: int = 6, slack: float = 0.0
) -> Labels:
    """Return a cluster number for each vector; sizes are equal or within `slack`, near clusters have near numbers.

    Bisection gives a first partition, Lloyd rounds with prices fit it to the data, the remaining surplus is moved to make
    the sizes right, and exchanges make the clusters compact again.

    Args:
        vectors: [n, d], about unit norm; used as float16.
        num_clusters: At most n.
        seed: Seed of every draw.
        rounds: Lloyd rounds with prices.
        slack: How far a size may be from the mean size, as a share of it, from 0 (sizes differ by 1 at most) to below 1.
            Equal sizes put leftovers of groups into one cluster; a little slack avoids that.

    Raises:
        ValueError: fewer vectors than clusters, no cluster, or a slack out of range.
    """
    half = as_half(vectors)
    if not 1 <= num_clusters <= max(1, len(half)):
        raise ValueError(f"{num_clusters} clusters of {len(half)} vectors: give 1 .. {max(1, len(half))}")
    if not 0.0 <= slack < 1.0:
        raise ValueError(f"slack={slack!r}: give a share from 0 to below 1")
    with one_thread():
        labels = Bisection(half, num_clusters, seed).run()
        if 1 < num_clusters < len(half):
            labels, means = priced_clusters(half, labels, num_clusters, rounds, slack)
            labels = equalise_sizes(half, labels, means, slack)
            for _ in range(_EXCHANGE_ROUNDS):
                if exchange(half, labels, num_clusters) < _MIN_MOVED_SHARE * len(half):
                    break
        order, starts = members_by_cluster(labels, num_clusters)
        means = cluster_means(half, order, starts)
        return Bisection(means.astype(np.float16), num_clusters, seed).run()[labels]


def order_by_nearness(centroids: NDArray[Any], *, seed: int) -> Labels:
    """Return each centroid's number (0 .. n - 1) in an order in which near centroids have near numbers.

    The order is hierarchical: its first half is one side of a cut through all centroids, and so on.
    """
    with one_thread():
        return Bisection(as_half(centroids), len(centroids), seed).run()
