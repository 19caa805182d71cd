"""Exchanges: pairs of members of near, equally large clusters change places when that makes both clusters tighter."""

from __future__ import annotations

import numpy as np

from curation.vectors.rows import Float32Array, Half, Labels, Positions, cluster_means, members_by_cluster

_NEAR_CLUSTERS = 17
"""Its own and 16 others whose means lie nearest."""
_TARGETS = 3
_LEAST_GAIN = 1e-6


def exchange(vectors: Half, labels: Labels, num_clusters: int) -> int:
    """Let pairs of members change places; write `labels`; return how many moved."""
    order, starts = members_by_cluster(labels, num_clusters)
    means = cluster_means(vectors, order, starts)
    targets, gains = _wishes(vectors, order, starts, means)
    moved = np.zeros(len(vectors), dtype=bool)
    for choice in range(targets.shape[1]):
        free = np.flatnonzero(~moved)
        one, other = _pairs(labels[free], targets[free, choice], gains[free, choice], num_clusters)
        one, other = free[one], free[other]
        labels[one], labels[other] = labels[other], labels[one]
        moved[one] = moved[other] = True
    return int(moved.sum())


def _wishes(vectors: Half, order: Positions, starts: Positions, means: Float32Array) -> tuple[Labels, Float32Array]:
    """Return for each vector the clusters it would rather be in, best first [n, t], and what each is worth to it."""
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
    """Match those who wish to go from one cluster to another with those who wish the reverse, most eager first."""
    upwards = sources < targets
    road = np.where(upwards, sources * num_clusters + targets, targets * num_clusters + sources)
    order = np.lexsort((-gains, upwards, road))
    key = road[order] * 2 + upwards[order]
    new = np.flatnonzero(np.diff(key, prepend=-1))
    rank = np.arange(len(key)) - np.repeat(new, np.diff(new, append=len(key)))
    # the same road and rank in both directions: a pair
    up, down = order[upwards[order]], order[~upwards[order]]
    up_rank, down_rank = rank[upwards[order]], rank[~upwards[order]]
    both = np.concatenate([up, down])
    ranks = np.concatenate([up_rank, down_rank])
    place = np.lexsort((np.arange(len(both)), ranks, road[both]))
    first, second = place[:-1], place[1:]
    met = (road[both[first]] == road[both[second]]) & (ranks[first] == ranks[second])
    one, other = both[first[met]], both[second[met]]
    worth = gains[one] + gains[other] > _LEAST_GAIN
    return one[worth], other[worth]
