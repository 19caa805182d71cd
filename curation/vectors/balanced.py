"""Equally large clusters of many vectors, tight, and numbered so that near clusters have near numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.vectors.bisection import Bisection
from curation.vectors.exchange import exchange
from curation.vectors.pricing import fill_up, priced_clusters
from curation.vectors.rows import Labels, as_half, cluster_means, members_by_cluster, one_thread

PRICED_ROUNDS = 6
_EXCHANGE_ROUNDS = 6
_ENOUGH_MOVED = 0.002


def balanced_clusters(
    vectors: NDArray[Any], num_clusters: int, *, seed: int, rounds: int = PRICED_ROUNDS, slack: float = 0.0
) -> Labels:
    """Return a cluster number for each vector; sizes are equal or nearly so, near clusters have near numbers.

    Bisection gives a first partition, priced Lloyd rounds make it follow the data, the rest is moved to make sizes
    fit, and exchanges mend what that cost.

    Args:
        vectors: [n, d], about unit norm; held as float16.
        num_clusters: At most n.
        seed: Of every draw.
        rounds: Priced rounds.
        slack: How far a size may lie from the mean size, as a share of it, from 0 (sizes one apart at most) to below 1.
            Equal sizes force the rests of groups together, a little room spares them that.

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
            labels = fill_up(half, labels, means, slack)
            for _ in range(_EXCHANGE_ROUNDS):
                if exchange(half, labels, num_clusters) < _ENOUGH_MOVED * len(half):
                    break
        return _side_by_side(half, labels, num_clusters, seed)


def order_by_nearness(centroids: NDArray[Any], *, seed: int) -> Labels:
    """Return each centroid's place (0 .. n - 1) in an order in which near ones stand near each other.

    A hierarchy: the first half of the order is one side of a cut through all of them, and so on down.
    """
    with one_thread():
        return Bisection(as_half(centroids), len(centroids), seed).run()


def _side_by_side(vectors: NDArray[np.float16], labels: Labels, num_clusters: int, seed: int) -> Labels:
    order, starts = members_by_cluster(labels, num_clusters)
    means = cluster_means(vectors, order, starts).astype(np.float16)
    return Bisection(means, num_clusters, seed).run()[labels]
