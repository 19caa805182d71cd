"""Rows of float16 vectors: processed in blocks, multiplied exactly, on one thread."""

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
"""Similarities are rounded to this many decimals before they are compared or stored."""

BLOCK_ROWS = 16_384
"""Rows that are converted to float32 at once."""

_PAIRS_AT_ONCE = 16_384
_GRID = 2.0**24


@contextmanager
def one_thread() -> Iterator[None]:
    """Run numpy and faiss on one thread: sums that depend on a thread count would make results depend on the machine."""
    import faiss
    from threadpoolctl import threadpool_limits

    faiss.omp_set_num_threads(1)
    with threadpool_limits(1):
        yield


def as_half(vectors: NDArray[Any]) -> Half:
    """Return vectors [n, d] as float16, without a copy if they are float16 already.

    Raises:
        ValueError: not two dimensions, or a value is not finite in float16.
    """
    half = np.asarray(vectors, dtype=np.float16)
    if half.ndim != 2:
        raise ValueError(f"vectors have two dimensions, [n, d]; got {half.ndim}")
    for part in blocks(len(half)):
        if not np.isfinite(half[part]).all():
            raise ValueError(f"vectors {part.start} .. {part.stop}: a value is not finite in float16")
    return half


def blocks(num_rows: int, step: int = BLOCK_ROWS) -> Iterator[slice]:
    """Yield the slices of `step` rows that cover `num_rows`."""
    return (slice(first, first + step) for first in range(0, num_rows, step))


def dots(vectors: Half, positions: Positions, direction: Float32Array) -> Float32Array:
    """Return the float32 dot product [k] of a direction with each of the vectors at some positions."""
    return np.concatenate([vectors[positions[part]].astype(np.float32) @ direction for part in blocks(len(positions))])


def exact_dots(queries: Half, vectors: Half, positions: Positions) -> NDArray[np.float64]:
    """Return the dot products [q, k] of each query with the vectors at its positions [q, k], rounded.

    A product of two float16 values is a multiple of 2^-48, so float64 adds them up without rounding for vectors of about
    unit norm: the result does not depend on the order of the sum, the processor or the library.
    """
    found = np.empty(positions.shape, dtype=np.float64)
    for part in blocks(len(queries), max(1, _PAIRS_AT_ONCE // max(1, positions.shape[1]))):
        chosen = vectors[positions[part]].astype(np.float64)
        found[part] = (chosen @ queries[part].astype(np.float64)[:, :, None])[:, :, 0]
    return np.round(found, DECIMALS)


def on_grid(vectors: NDArray[Any]) -> Float32Array:
    """Return vectors of about unit norm, rounded to multiples of 2^-24 as float16 values are; see `exact_products`."""
    grid: Float32Array = (np.round(np.asarray(vectors, np.float64) * _GRID) / _GRID).astype(np.float32)
    return grid


def exact_products(queries: NDArray[np.float64], vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Return the dot products [q, n] of each query with each vector, as exact as those of `exact_dots`.

    Args:
        queries: Float16 numbers as float64 [q, d].
        vectors: float16, or float32 by `on_grid` [n, d].
    """
    return np.round(queries @ vectors.astype(np.float64).T, DECIMALS)


def members_by_cluster(labels: Labels, num_clusters: int) -> tuple[Positions, Positions]:
    """Return positions sorted by cluster, and the index where each cluster starts [num_clusters + 1]."""
    order = np.argsort(labels, kind="stable")
    return order, np.searchsorted(labels[order], np.arange(num_clusters + 1))


def cluster_means(
    vectors: Half, order: Positions, starts: Positions, before: Float32Array | None = None
) -> Float32Array:
    """Return the mean [num_clusters, d] of the members ``order[starts[i]:starts[i + 1]]`` of each cluster.

    A cluster without members keeps its mean of `before`, or has a mean of zeros.
    """
    means = np.zeros((len(starts) - 1, vectors.shape[1]), dtype=np.float32)
    for number in range(len(means)):
        members = order[starts[number] : starts[number + 1]]
        if before is not None and not len(members):
            means[number] = before[number]
            continue
        for part in blocks(len(members)):
            means[number] += vectors[members[part]].astype(np.float32).sum(axis=0)
        means[number] /= max(1, len(members))
    return means
