"""Exchanges: pairs of members of near clusters swap clusters when that makes the clusters more compact."""

from __future__ import annotations

import numpy as np

from curation.vectors.rows import Float32Array, Half, Labels, Positions, cluster_means, members_by_cluster

_NEAR_CLUSTERS = 17
"""Its own and the 16 others with the nearest means."""
_TARGETS = 3
"""Clusters that a member may move to in one exchange."""
_MIN_GAIN = 1e-6


def exchange(vectors: Half, labels: Labels, num_clusters: int) -> int:
    """Swap pairs of members, in `labels`; return how many moved."""
    order, starts = members_by_cluster(labels, num_clusters)
    means = cluster_means(vectors, order, starts)
    targets, gains = _better_clusters(vectors, order, starts, means)
    moved = np.zeros(len(vectors), dtype=bool)
    for rank in range(targets.shape[1]):
        free = np.flatnonzero(~moved)
        pairs = _pairs(labels[free], targets[free, rank], gains[free, rank], num_clusters)
        first, second = free[pairs[0]], free[pairs[1]]
        labels[first], labels[second] = labels[second], labels[first]
        moved[first] = moved[second] = True
    return int(moved.sum())


def _better_clusters(
    vectors: Half, order: Positions, starts: Positions, means: Float32Array
) -> tuple[Labels, Float32Array]:
    """Return each vector's best other clusters, best first [n, t], and the gain of moving there [n, t]."""
    import faiss

    near = faiss.knn(means, means, min(_NEAR_CLUSTERS, len(means)))[1]
    count = min(_TARGETS, near.shape[1] - 1)
    targets = np.zeros((len(vectors), count), dtype=np.int64)
    gains = np.zeros((len(vectors), count), dtype=np.float32)
    for number in range(len(means)):
        others = near[number][near[number] != number][: near.shape[1] - 1]
        members = order[starts[number] : starts[number + 1]]
        gain = vectors[members].astype(np.float32) @ (means[others] - means[number]).T
        best = np.argsort(-gain, axis=1, kind="stable")[:, :count]
        targets[members] = others[best]
        gains[members] = np.take_along_axis(gain, best, axis=1)
    return targets, gains


def _pairs(sources: Labels, targets: Labels, gains: Float32Array, num_clusters: int) -> tuple[Positions, Positions]:
    """Pair vectors that would move from one cluster to another with vectors that would move back, largest gains first."""
    upwards = sources < targets
    clusters = np.where(upwards, sources * num_clusters + targets, targets * num_clusters + sources)
    order = np.lexsort((-gains, upwards, clusters))
    group = clusters[order] * 2 + upwards[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
    # two vectors with the same clusters and rank, one in each direction, are a pair
    order = np.lexsort((~upwards, rank, clusters))
    first, second = order[:-1], order[1:]
    paired = (clusters[first] == clusters[second]) & (rank[first] == rank[second])
    first, second = first[paired], second[paired]
    gainful = gains[first] + gains[second] > _MIN_GAIN
    return first[gainful], second[gainful]
