"""Lloyd's algorithm with prices that make clusters equally large.

A member of cluster c pays a price p_c in addition to its distance. The prices are the dual variables of the transport
problem with equal capacities: they rise while a cluster is too large and fall while it is too small, so the members that
lose least leave a large cluster. Where sizes may vary within a range, prices shrink towards zero inside it, as the duals
of two bounds do. A surplus that no price can separate, such as equal vectors, is moved by `equalise_sizes`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from curation.vectors.rows import (
    BLOCK_ROWS,
    Float32Array,
    Half,
    Labels,
    Positions,
    blocks,
    cluster_means,
    dots,
    exact_products,
    members_by_cluster,
)

_NEAR_CLUSTERS = 32
"""In each round a member may move to this many clusters, those with means nearest to its own cluster's."""
_FREE_ROUNDS = 3
_PRICE_STEPS = 30
_STEP = 0.1
"""First step of a price, relative to the difference between a member's best and eighth best cluster."""
_SETTLING_STEPS = 600
_SMALLEST_STEP = 1e-3
"""Last step of a settling price, relative to the first."""
_FLOATS_AT_ONCE = 1 << 21
_DECIMALS = 6
"""Of similarities and prices, and of a bound on sizes before it is rounded to an integer: 1.1 times 70 is 77."""


def priced_clusters(
    vectors: Half, labels: Labels, num_clusters: int, rounds: int, slack: float = 0.0
) -> tuple[Labels, Float32Array]:
    """Return labels whose sizes are nearly equal, or nearly within `slack` of that, and the means of the clusters."""
    prices = np.zeros(num_clusters, dtype=np.float32)
    means: Float32Array | None = None
    for number in range(_FREE_ROUNDS + rounds):
        order, starts = members_by_cluster(labels, num_clusters)
        means = cluster_means(vectors, order, starts, means)
        near, score = _nearby_scores(vectors, order, starts, means)
        if number < _FREE_ROUNDS:
            labels = near[labels, score.argmax(axis=1)]
        else:
            labels = _update_prices(near, labels, score, prices, slack)
    order, starts = members_by_cluster(labels, num_clusters)
    return labels, cluster_means(vectors, order, starts, means)


def free_clusters(vectors: Half, labels: Labels, num_clusters: int) -> tuple[Labels, Float32Array]:
    """Return labels and means after a few rounds of Lloyd's algorithm without prices; clusters may become empty."""
    return priced_clusters(vectors, labels, num_clusters, 0)


def _nearby_scores(
    vectors: Half, order: Positions, starts: Positions, means: Float32Array
) -> tuple[Positions, Float32Array]:
    """Return each cluster's near clusters [k, t], and the score (nearness) of each of those for each vector [n, t]."""
    import faiss

    near = faiss.knn(means, means, min(_NEAR_CLUSTERS, len(means)))[1]
    half_norms = (means * means).sum(axis=1) / 2
    score = np.empty((len(vectors), near.shape[1]), dtype=np.float32)
    for number, others in enumerate(near):
        members = order[starts[number] : starts[number + 1]]
        for part in blocks(len(members)):
            rows = members[part]
            score[rows] = vectors[rows].astype(np.float32) @ means[others].T - half_norms[others]
    return near, score


def _update_prices(near: Positions, labels: Labels, score: Float32Array, prices: Float32Array, slack: float) -> Labels:
    """Change prices until sizes are nearly equal, or nearly within `slack` of that; return the labels they give."""
    share = len(labels) / len(prices)
    eighth = max(0, score.shape[1] - 8)
    ordered = np.partition(score[:: max(1, len(score) // 10_000)], [eighth, score.shape[1] - 1], axis=1)
    step = _STEP * max(1e-4, float(np.median(ordered[:, -1] - ordered[:, eighth])))
    chosen = np.empty_like(labels)
    for number in range(_PRICE_STEPS):
        price_of_near = prices[near]
        for part in blocks(len(labels), BLOCK_ROWS * 4):
            best = (score[part] - price_of_near[labels[part]]).argmax(axis=1)
            chosen[part] = near[labels[part], best]
        if number + 1 == _PRICE_STEPS:
            break
        excess = np.bincount(chosen, minlength=len(prices)) / share - 1.0
        size = step * (1 - number / _PRICE_STEPS)
        prices += (size * np.clip(excess, -1.0, 1.0)).astype(np.float32)
        prices[:] = np.sign(prices) * np.maximum(np.abs(prices) - np.float32(size * slack), 0)
    return chosen


def size_bounds(num_vectors: int, num_clusters: int, slack: float) -> tuple[int, int]:
    """Return the smallest and the largest size that a cluster may have."""
    share = num_vectors / num_clusters
    least, most = round(share * (1 - slack), _DECIMALS), round(share * (1 + slack), _DECIMALS)
    return max(min(1, num_vectors), math.floor(least)), math.ceil(most)


def equalise_sizes(vectors: Half, labels: Labels, means: Float32Array, slack: float = 0.0) -> Labels:
    """Return labels with equal cluster sizes (they differ by 1 at most), or with sizes within `slack` of that.

    The members farthest from the mean of a too large cluster move to the others.
    """
    num_clusters = len(means)
    sizes = np.bincount(labels, minlength=num_clusters)
    target = _target_sizes(sizes, *size_bounds(len(labels), num_clusters, slack))
    order, starts = members_by_cluster(labels, num_clusters)
    surplus = [np.zeros(0, dtype=np.int64)]
    for number in np.flatnonzero(sizes > target):
        members = order[starts[number] : starts[number + 1]]
        nearness = dots(vectors, members, means[number])
        surplus.append(members[np.argsort(-nearness, kind="stable")[target[number] :]])
    labels = labels.copy()
    unplaced = np.sort(np.concatenate(surplus))
    room = np.maximum(target - sizes, 0)
    while len(unplaced):
        unplaced = _place_in_nearest(vectors, labels, means, unplaced, room)
    return labels


def _target_sizes(sizes: Positions, least: int, most: int) -> Positions:
    """Return sizes between the bounds with the same sum; clusters that are larger now stay larger."""
    target = np.clip(sizes, least, most)
    missing = int(sizes.sum() - target.sum())
    order = np.argsort(-sizes, kind="stable")
    if missing < 0:
        order = order[::-1]
    room = (most - target if missing > 0 else target - least)[order]
    change = np.minimum(room, np.maximum(0, abs(missing) - (np.cumsum(room) - room)))
    target[order] += change if missing > 0 else -change
    return target


def _place_in_nearest(
    vectors: Half, labels: Labels, means: Float32Array, unplaced: Positions, room: Positions
) -> Positions:
    """Move each unplaced vector to its nearest cluster with room, the nearest first; return those still unplaced."""
    import faiss

    free = np.flatnonzero(room)
    rows = vectors[unplaced].astype(np.float32)
    similarity, near = (found[:, 0] for found in faiss.knn(rows, means[free], 1, metric=faiss.METRIC_INNER_PRODUCT))
    order = np.lexsort((-similarity, near))
    starts = np.searchsorted(near[order], np.arange(len(free)))
    placed = np.arange(len(order)) - starts[near[order]] < room[free[near[order]]]
    inside = order[placed]
    labels[unplaced[inside]] = free[near[inside]]
    np.subtract.at(room, free[near[inside]], 1)
    return unplaced[np.sort(order[~placed])]


def nearest_centroids(
    vectors: Half, centroids: Float32Array, prices: NDArray[np.float64]
) -> tuple[Labels, NDArray[np.float64]]:
    """Return, for each vector, the centroid of the highest similarity minus price, and the similarity to it.

    Similarities are exact and rounded to six decimals, and of equal ones the first counts, so a vector's result does not
    depend on the others.

    Args:
        vectors: [n, d].
        centroids: On the grid of `on_grid` [k, d].
        prices: Rounded to six decimals [k].
    """
    labels, similarity = np.zeros(len(vectors), np.int64), np.zeros(len(vectors))
    for part in blocks(len(vectors), _rows_at_once(centroids)):
        products = exact_products(vectors[part].astype(np.float64), centroids)
        labels[part] = np.round(products - prices, _DECIMALS).argmax(axis=1)
        similarity[part] = products[np.arange(len(products)), labels[part]]
    return labels, similarity


def settled_prices(vectors: Half, centroids: Float32Array, slack: float = 0.0) -> NDArray[np.float64]:
    """Return prices with which `nearest_centroids` gives sizes equal or within `slack`, but for a few vectors [k].

    Descent on the dual of the transport problem for fixed centroids: a price rises while its cluster is too large and falls
    while it is too small, in ever smaller steps; the best prices on the way count. On 7,000 vectors in 109 clusters of 64
    or 65, the clusters had 63 to 67. Vectors that are equal stay together whatever the prices.
    """
    count = len(centroids)
    near, score = _near_centroids(vectors, centroids)
    least, most = size_bounds(len(vectors), count, slack)
    share = len(vectors) / count
    step = _STEP * max(1e-4, float(np.median(score[:, 0] - score[:, min(7, score.shape[1] - 1)])))
    prices, best, fewest = np.zeros(count), np.zeros(count), len(vectors) + 1
    for number in range(_SETTLING_STEPS):
        rounded = np.round(prices, _DECIMALS)
        chosen = near[np.arange(len(near)), np.round(score - rounded[near], _DECIMALS).argmax(axis=1)]
        sizes = np.bincount(chosen, minlength=count)
        outside = np.where((sizes > most) | (sizes < least), sizes / share - 1.0, 0.0)
        misplaced = int((np.maximum(sizes - most, 0) + np.maximum(least - sizes, 0)).sum())
        if misplaced < fewest:
            best, fewest = rounded, misplaced
        if not misplaced:
            break
        prices += step * _SMALLEST_STEP ** (number / _SETTLING_STEPS) * np.clip(outside, -1.0, 1.0)
    return best


def _near_centroids(vectors: Half, centroids: Float32Array) -> tuple[Positions, NDArray[np.float64]]:
    """Return each vector's nearest centroids [n, t], in order, and the similarities to them [n, t]."""
    width = min(_NEAR_CLUSTERS, len(centroids))
    near = np.empty((len(vectors), width), np.int64)
    score = np.empty((len(vectors), width))
    for part in blocks(len(vectors), _rows_at_once(centroids)):
        products = exact_products(vectors[part].astype(np.float64), centroids)
        near[part] = np.argsort(-products, axis=1, kind="stable")[:, :width]
        score[part] = np.take_along_axis(products, near[part], axis=1)
    return near, score


def _rows_at_once(centroids: Float32Array) -> int:
    return max(1, _FLOATS_AT_ONCE // max(1, *map(int, centroids.shape)))
