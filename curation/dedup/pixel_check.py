"""The pixel check of candidate pairs: whether one thumbnail shows the other or a window of it, perhaps mirrored.

A hash or an embedding finds candidates. Only the pixels, aligned with each other, distinguish a copy from another
photograph of a similar scene.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COARSE = (0.0, 0.05, 0.1)
_FINE = (0.0, 0.025, 0.05, 0.075, 0.1)
_MIN_TO_REFINE = 0.25
_BLUR = 2
"""Radius, in cells, of the mean that is subtracted."""


def agreement(left: NDArray[Any], right: NDArray[Any]) -> float:
    """Return the correlation of two thumbnails' fine structure at the best alignment, -1 to 1, three decimals.

    Fine structure is the image minus its local mean. Alignments are mirroring and windows of either thumbnail that
    cut off up to a tenth of each side.

    Args:
        left: Grey [grid, grid].
        right: The same.
    """
    one, other = left.astype(np.float64), right.astype(np.float64)
    pairs = [pair for image in (one, one[:, ::-1]) for pair in ((image, other), (other, image))]
    scores = [_best_window(*pair, _COARSE) for pair in pairs]
    best = max(scores)
    if best >= _MIN_TO_REFINE:
        best = max(best, _best_window(*pairs[scores.index(best)], _FINE))
    return round(best, 3)


def _best_window(windowed: NDArray[Any], whole: NDArray[Any], cuts: tuple[float, ...]) -> float:
    """Return the best correlation of a window of one image with the whole of another."""
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
def _interval_matrices(grid: int, cuts: tuple[float, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return matrices [intervals, grid - 2, grid] that resample a side's cells to those of an interval: plain, blurred.

    The outermost cells are left out, because their blur would reach outside the image.
    """
    blur = np.array([[abs(row - column) <= _BLUR for column in range(grid)] for row in range(grid)], dtype=np.float64)
    blur /= blur.sum(axis=1, keepdims=True)
    cells, edges = np.arange(grid)[None, :], np.arange(grid + 1) / grid
    matrices = []
    for before, after in ((a, b) for a in cuts for b in cuts if a + b <= cuts[-1] + 1e-9):
        inner = (before + edges * (1 - before - after)) * grid
        overlap = np.clip(np.minimum(inner[1:, None], cells + 1) - np.maximum(inner[:-1, None], cells), 0, None)
        matrices.append(overlap / overlap.sum(axis=1, keepdims=True))
    plain = np.stack(matrices)
    return plain[:, 1:-1], (blur @ plain)[:, 1:-1]
