"""All pairs of 64-bit hashes within a Hamming distance: an exact search that does not compare every pair.

The bits are divided into n bands. Two hashes that differ in at most `radius` bits differ in at most radius // n bits in
at least one band. With n such that this is at most 1, only hashes in the same bucket of a band, or in a bucket one bit
away, are compared in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BITS = 64
_PAIRS_PER_BATCH = 2**22
"""Pairs compared at once; bounds memory."""


def near_pairs(
    queries: NDArray[Any], known: NDArray[Any], radius: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return all pairs of a query and a known hash that differ in at most `radius` bits.

    Args:
        queries: uint64 [q].
        known: uint64 [n].
        radius: 0 to 15 bits.

    Returns:
        Positions in `queries`, positions in `known` and distances, each pair once, sorted.

    Raises:
        ValueError: the radius is larger, so that bands would be too narrow.
    """
    if not 0 <= radius <= 15:
        raise ValueError(f"radius {radius}; allowed: 0 to 15 bits")
    found: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for shift, width in _bands(radius):
        for left, right in _candidates(_band(queries, shift, width), _band(known, shift, width), width, radius > 0):
            near = np.bitwise_count(queries[left] ^ known[right]) <= radius
            found.append((left[near], right[near]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    pairs = np.unique(np.concatenate([left * len(known) + right for left, right in found]))
    left, right = pairs // len(known), pairs % len(known)
    return left, right, np.bitwise_count(queries[left] ^ known[right])


def _bands(radius: int) -> list[tuple[int, int]]:
    """Return (first bit, width) of the bands."""
    count = max(2, (radius + 2) // 2)
    edges = [band * _BITS // count for band in range(count + 1)]
    return [(first, end - first) for first, end in pairwise(edges)]


def _band(hashes: NDArray[Any], shift: int, width: int) -> NDArray[Any]:
    bits: NDArray[Any] = (hashes >> np.uint64(shift)) & np.uint64((1 << width) - 1)
    return bits


def _candidates(
    queries: NDArray[Any], known: NDArray[Any], width: int, one_bit_off: bool
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield positions of a query and a known hash whose bands are equal, or differ in one bit if `one_bit_off`."""
    flips = np.array([0, *(1 << bit for bit in range(width if one_bit_off else 0))], dtype=np.uint64)
    keys = (known[None, :] ^ flips[:, None]).ravel()
    order = np.argsort(keys, kind="stable")
    keys, owners = keys[order], np.tile(np.arange(len(known)), len(flips))[order]
    first = np.searchsorted(keys, queries, side="left")
    count = np.searchsorted(keys, queries, side="right") - first
    ends = np.cumsum(count)
    start = 0
    while start < len(queries):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS_PER_BATCH, side="right")))
        sizes = count[start:stop]
        offset = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield np.repeat(np.arange(start, stop), sizes), owners[np.repeat(first[start:stop], sizes) + offset]
        start = stop
