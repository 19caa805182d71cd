"""Rows of float16 vectors: read blockwise, multiplied exactly, on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Half = NDArray[np.float16]
Float32Array = NDArray[np.float32]
Positions = NDArray[np.int64]
Labels = NDArray[np.int64]

DECIMALS = 6
"""Similarities are rounded to these before they are compared or stored."""

BLOCK_ROWS = 16_384
"""Rows that are turned to float32 at once."""

_PAIRS_AT_ONCE = 16_384


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep numpy and faiss to one thread: sums that depend on a thread count would make results depend on the machine."""
    import faiss
    from threadpoolctl import threadpool_limits

    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        yield


def as_half(vectors: NDArray[Any]) -> Half:
    """Return vectors [n, d] as float16; those that are stored so are not copied.

    Raises:
        ValueError: not two dimensions, or values that are not finite in float16.
    """
    half = np.asarray(vectors, dtype=np.float16)
    if half.ndim != 2:
        raise ValueError(f"vectors have two dimensions, [n, d]; got {half.ndim}")
    for first in range(0, len(half), _PAIRS_AT_ONCE):
        if not np.isfinite(half[first : first + _PAIRS_AT_ONCE]).all():
            raise ValueError(f"vectors {first} .. {first + _PAIRS_AT_ONCE}: a value is not finite in float16")
    return half


def exact_dots(queries: Half, vectors: Half, positions: Positions) -> NDArray[np.float64]:
    """Return the dot products [q, k] of each query with the vectors at its positions [q, k], rounded.

    A product of two float16 is a whole multiple of 2^-48, so for vectors of about unit norm float64 adds them up
    without rounding: the result does not depend on the order of the sum, the processor or the library.
    """
    width = max(1, positions.shape[1])
    step = max(1, _PAIRS_AT_ONCE // width)
    found = np.empty(positions.shape, dtype=np.float64)
    for first in range(0, len(queries), step):
        part = slice(first, first + step)
        chosen = vectors[positions[part]].astype(np.float64)
        found[part] = (chosen @ queries[part].astype(np.float64)[:, :, None])[:, :, 0]
    return np.round(found, DECIMALS)


def members_by_cluster(labels: Labels, num_clusters: int) -> tuple[Positions, Positions]:
    """Return positions ordered by cluster, and where each cluster starts in them [num_clusters + 1]."""
    order = np.argsort(labels, kind="stable")
    return order, np.searchsorted(labels[order], np.arange(num_clusters + 1))


def cluster_means(
    vectors: Half, order: Positions, starts: Positions, before: Float32Array | None = None
) -> Float32Array:
    """Return the mean [num_clusters, d] of the members ``order[starts[i]:starts[i + 1]]`` of each cluster.

    A cluster without members keeps its mean from `before`, or has a mean of zeros.
    """
    means = np.zeros((len(starts) - 1, vectors.shape[1]), dtype=np.float32)
    for number in range(len(means)):
        members = order[starts[number] : starts[number + 1]]
        if before is not None and not len(members):
            means[number] = before[number]
            continue
        for first in range(0, len(members), BLOCK_ROWS):
            means[number] += vectors[members[first : first + BLOCK_ROWS]].astype(np.float32).sum(axis=0)
        means[number] /= max(1, len(members))
    return means
