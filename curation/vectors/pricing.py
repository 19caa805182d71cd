"""Prices that make clusters equally large: a full cluster grows dear, an empty one cheap, and members go where it pays.

Lloyd's algorithm in which joining cluster c costs a price p_c besides the distance. The prices are the dual
variables of the transport problem with equal capacities (raised while a cluster is over its size, lowered while it
is under), so members leave a crowded cluster where they lose least. Where sizes may lie in a band, prices shrink
towards zero inside it, as the duals of two bounds do. A rest that no price can part, such as equal vectors, is moved
by `fill_up`.
"""

from __future__ import annotations

import math

import numpy as np

from curation.vectors.rows import BLOCK_ROWS, Float32Array, Half, Labels, Positions, cluster_means, members_by_cluster

_NEAR_CLUSTERS = 32
"""A member may move, each round, to the clusters whose means lie nearest to its own cluster's."""
_FREE_ROUNDS = 3
_PRICE_STEPS = 30
_STEP = 0.1
"""First step of a price, in units of what separates a member's best cluster from its eighth."""
_DECIMALS = 6
"""Of a bound on sizes, before it is rounded to a whole number: 1.1 times 70 is 77, not a little more."""


def priced_clusters(
    vectors: Half, labels: Labels, num_clusters: int, rounds: int, slack: float = 0.0
) -> tuple[Labels, Float32Array]:
    """Return labels whose sizes are nearly equal, or within `slack` of that, and the means they were chosen by."""
    prices = np.zeros(num_clusters, dtype=np.float32)
    means: Float32Array | None = None
    for number in range(_FREE_ROUNDS + rounds):
        order, starts = members_by_cluster(labels, num_clusters)
        means = cluster_means(vectors, order, starts, means)
        near, worth = _offers(vectors, order, starts, means)
        if number < _FREE_ROUNDS:
            labels = _chosen(near, labels, worth.argmax(axis=1))
        else:
            labels = _settle(near, labels, worth, prices, slack)
    order, starts = members_by_cluster(labels, num_clusters)
    return labels, cluster_means(vectors, order, starts, means)


def free_clusters(vectors: Half, labels: Labels, num_clusters: int) -> tuple[Labels, Float32Array]:
    """Return labels and means after a few rounds of Lloyd's algorithm without prices; clusters may run empty."""
    return priced_clusters(vectors, labels, num_clusters, 0)


def _offers(vectors: Half, order: Positions, starts: Positions, means: Float32Array) -> tuple[Positions, Float32Array]:
    """Return each cluster's near clusters [k, t], and what each of those is worth to each member [n, t]."""
    import faiss

    near = faiss.knn(means, means, min(_NEAR_CLUSTERS, len(means)))[1]
    half_norms = (means * means).sum(axis=1) / 2
    worth = np.empty((len(vectors), near.shape[1]), dtype=np.float32)
    for number in range(len(means)):
        members, others = order[starts[number] : starts[number + 1]], near[number]
        for first in range(0, len(members), BLOCK_ROWS):
            part = members[first : first + BLOCK_ROWS]
            worth[part] = vectors[part].astype(np.float32) @ means[others].T - half_norms[others]
    return near, worth


def _chosen(near: Positions, labels: Labels, places: Positions) -> Labels:
    return near[labels, places]


def _settle(near: Positions, labels: Labels, worth: Float32Array, prices: Float32Array, slack: float) -> Labels:
    """Move prices until sizes are nearly equal, or nearly within `slack` of that; return who is where then."""
    share = len(labels) / len(prices)
    eighth = max(0, worth.shape[1] - 8)
    ordered = np.partition(worth[:: max(1, len(worth) // 10_000)], [eighth, worth.shape[1] - 1], axis=1)
    step = _STEP * max(1e-4, float(np.median(ordered[:, -1] - ordered[:, eighth])))
    chosen = labels
    for number in range(_PRICE_STEPS):
        offered = prices[near]
        for first in range(0, len(labels), BLOCK_ROWS * 4):
            part = slice(first, first + BLOCK_ROWS * 4)
            best = (worth[part] - offered[labels[part]]).argmax(axis=1)
            if not first:
                chosen = np.empty_like(labels)
            chosen[part] = _chosen(near, labels[part], best)
        if number + 1 == _PRICE_STEPS:
            break
        crowded = np.bincount(chosen, minlength=len(prices)) / share - 1.0
        pace = step * (1 - number / _PRICE_STEPS)
        prices += (pace * np.clip(crowded, -1.0, 1.0)).astype(np.float32)
        prices[:] = np.sign(prices) * np.maximum(np.abs(prices) - np.float32(pace * slack), 0)
    return chosen


def size_bounds(num_vectors: int, num_clusters: int, slack: float) -> tuple[int, int]:
    """Return the smallest and the largest size that a cluster may have."""
    share = num_vectors / num_clusters
    least, most = round(share * (1 - slack), _DECIMALS), round(share * (1 + slack), _DECIMALS)
    return max(min(1, num_vectors), math.floor(least)), math.ceil(most)


def fill_up(vectors: Half, labels: Labels, means: Float32Array, slack: float = 0.0) -> Labels:
    """Return labels of equal sizes (one apart at most), or of sizes within `slack` of that.

    The members that a full cluster can best spare fill the others.
    """
    num_clusters = len(means)
    sizes = np.bincount(labels, minlength=num_clusters)
    wished = _wished_sizes(sizes, *size_bounds(len(labels), num_clusters, slack))
    order, starts = members_by_cluster(labels, num_clusters)
    spare: list[Positions] = []
    for number in np.flatnonzero(sizes > wished):
        members = order[starts[number] : starts[number + 1]]
        near = np.concatenate(
            [
                vectors[members[first : first + BLOCK_ROWS]].astype(np.float32) @ means[number]
                for first in range(0, len(members), BLOCK_ROWS)
            ]
        )
        spare.append(members[np.argsort(-near, kind="stable")[wished[number] :]])
    labels = labels.copy()
    waiting = np.sort(np.concatenate(spare)) if spare else np.zeros(0, dtype=np.int64)
    room = np.maximum(wished - sizes, 0)
    while len(waiting):
        waiting = _fill_once(vectors, labels, means, waiting, room)
    return labels


def _wished_sizes(sizes: Positions, least: int, most: int) -> Positions:
    """Return sizes between the bounds with the same sum, large clusters the larger ones."""
    wished = np.clip(sizes, least, most)
    missing = int(sizes.sum() - wished.sum())
    order = np.argsort(-sizes, kind="stable")
    if missing < 0:
        order = order[::-1]
    room = (most - wished if missing > 0 else wished - least)[order]
    handed = np.minimum(room, np.maximum(0, abs(missing) - (np.cumsum(room) - room)))
    wished[order] += handed if missing > 0 else -handed
    return wished


def _fill_once(vectors: Half, labels: Labels, means: Float32Array, waiting: Positions, room: Positions) -> Positions:
    """Give each who waits its nearest cluster with room, the nearest first; return who still waits."""
    import faiss

    open_ = np.flatnonzero(room)
    places, near = faiss.knn(vectors[waiting].astype(np.float32), means[open_], 1, metric=faiss.METRIC_INNER_PRODUCT)
    near, places = near[:, 0], places[:, 0]
    order = np.lexsort((-places, near))
    starts = np.searchsorted(near[order], np.arange(len(open_)))
    taken = np.arange(len(order)) - starts[near[order]] < room[open_[near[order]]]
    inside = order[taken]
    labels[waiting[inside]] = open_[near[inside]]
    np.subtract.at(room, open_[near[inside]], 1)
    return waiting[np.sort(order[~taken])]
