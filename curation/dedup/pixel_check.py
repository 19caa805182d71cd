"""The second look: whether one small grey picture shows the other, or a window of it, perhaps mirrored.

A hash or an embedding says that two pictures may be the same; only their pixels, laid over each other, tell a copy
from a photograph of the same kind of scene.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_COARSE = (0.0, 0.05, 0.1)
_FINE = (0.0, 0.025, 0.05, 0.075, 0.1)
_WORTH_REFINING = 0.25
_BLUR = 2
"""Cells on each side that the smooth part is a mean of."""


def agreement(left: Array, right: Array) -> float:
    """Return how well two thumbnails agree when laid over each other as well as they can be, -1 to 1, three decimals.

    The correlation of what is left of them without their smooth parts, the best over mirroring and over windows of
    either that leave up to a tenth of each side out.

    Args:
        left: Grey [grid, grid].
        right: The same.
    """
    one, other = left.astype(np.float64), right.astype(np.float64)
    turned = (one, one[:, ::-1])
    ways = [pair for here in turned for pair in ((here, other), (other, here))]
    scores = [_best_window(windowed, whole, _COARSE) for windowed, whole in ways]
    best = max(scores)
    if best >= _WORTH_REFINING:
        windowed, whole = ways[scores.index(best)]
        best = max(best, _best_window(windowed, whole, _FINE))
    return round(best, 3)


def _best_window(windowed: Array, whole: Array, cuts: tuple[float, ...]) -> float:
    """Return the best correlation of a window of one picture with the whole of another."""
    plain, smooth = _interval_matrices(len(whole), cuts)
    straight, blurred = _interval_matrices(len(whole), (0.0,))
    detail = straight[0] @ whole @ straight[0].T - blurred[0] @ whole @ blurred[0].T
    windows = (plain @ windowed)[:, None] @ plain.transpose(0, 2, 1)[None]
    windows = windows - (smooth @ windowed)[:, None] @ smooth.transpose(0, 2, 1)[None]
    flat = windows.reshape(len(plain) ** 2, -1)
    target = (detail - detail.mean()).ravel()
    spread = np.sqrt(np.maximum((flat * flat).sum(axis=1) - flat.sum(axis=1) ** 2 / flat.shape[1], 0.0))
    return float((flat @ target / np.maximum(spread * np.sqrt(target @ target), 1e-6)).max())


@functools.lru_cache(maxsize=8)
def _interval_matrices(grid: int, cuts: tuple[float, ...]) -> tuple[Array, Array]:
    """Return matrices [intervals, grid - 2, grid] from cells of a side to cells of an interval of it, plain and blurred.

    The outermost cells are left out: there a blur would reach outside the picture.
    """
    blur = np.array([[abs(row - column) <= _BLUR for column in range(grid)] for row in range(grid)], dtype=np.float64)
    blur /= blur.sum(axis=1, keepdims=True)
    cells, edges = np.arange(grid)[None, :], np.arange(grid + 1) / grid
    made = []
    for before, after in ((a, b) for a in cuts for b in cuts if a + b <= cuts[-1] + 1e-9):
        inner = (before + edges * (1 - before - after)) * grid
        overlap = np.clip(np.minimum(inner[1:, None], cells + 1) - np.maximum(inner[:-1, None], cells), 0, None)
        made.append(overlap / overlap.sum(axis=1, keepdims=True))
    plain = np.stack(made)
    return plain[:, 1:-1], (blur @ plain)[:, 1:-1]
