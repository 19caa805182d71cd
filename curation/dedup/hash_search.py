"""Pairs of 64-bit hashes within a distance: exact, without comparing all with all.

Two hashes that differ in at most `radius` bits agree, in at least one of n bands of bits, up to radius // n bits; with
as many bands as make this 1, whoever lies in the same bucket of a band, or one bit beside it, is compared in full.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_BITS = 64
_PAIRS_AT_ONCE = 2**22
"""Compared at once; bounds memory."""


def near_pairs(queries: Array, known: Array, radius: int) -> tuple[Array, Array, Array]:
    """Return all pairs of a query and a known hash that differ in at most `radius` bits.

    Args:
        queries: uint64 [q].
        known: uint64 [n].
        radius: 0 to 15 bits.

    Returns:
        Positions in `queries`, positions in `known` and distances, each pair once, sorted.

    Raises:
        ValueError: a radius that would leave bands too narrow.
    """
    if not 0 <= radius <= 15:
        raise ValueError(f"radius {radius}: 0 to 15 bits are searched")
    found: list[tuple[Array, Array]] = []
    for shift, width in _bands(radius):
        for asked, there in _same_bucket(_band(queries, shift, width), _band(known, shift, width), width, radius > 0):
            near = np.bitwise_count(queries[asked] ^ known[there]) <= radius
            found.append((asked[near], there[near]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.uint8)
    pairs = np.unique(np.concatenate([asked * len(known) + there for asked, there in found]))
    asked, there = pairs // len(known), pairs % len(known)
    return asked, there, np.bitwise_count(queries[asked] ^ known[there])


def _bands(radius: int) -> list[tuple[int, int]]:
    """Return (first bit, width) of the bands."""
    count = max(2, (radius + 2) // 2)
    edges = [place * _BITS // count for place in range(count + 1)]
    return [(first, end - first) for first, end in pairwise(edges)]


def _band(hashes: Array, shift: int, width: int) -> Array:
    bits: Array = (hashes >> np.uint64(shift)) & np.uint64((1 << width) - 1)
    return bits


def _same_bucket(asked: Array, known: Array, width: int, beside: bool) -> Iterator[tuple[Array, Array]]:
    """Yield positions of a query and a known hash whose bands are equal, or differ in one bit if `beside`."""
    flips = np.array([0, *(1 << bit for bit in range(width if beside else 0))], dtype=np.uint64)
    keys = (known[None, :] ^ flips[:, None]).ravel()
    order = np.argsort(keys, kind="stable")
    keys, holder = keys[order], np.tile(np.arange(len(known)), len(flips))[order]
    first = np.searchsorted(keys, asked, side="left")
    count = np.searchsorted(keys, asked, side="right") - first
    ends = np.cumsum(count)
    start = 0
    while start < len(asked):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        sizes = count[start:stop]
        inside = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield np.repeat(np.arange(start, stop), sizes), holder[np.repeat(first[start:stop], sizes) + inside]
        start = stop
