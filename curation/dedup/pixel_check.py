"""The pixel check of candidate pairs: whether one thumbnail shows the other or a window of it, perhaps mirrored.

A hash or an embedding finds candidates. Only the pixels, aligned with each other, distinguish a copy from another
photograph of a similar scene. All sums are of whole numbers below 2^53, so that a pair has the same score in any batch
and on any machine.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curation.dedup.perceptual_hash import GRID
from curation.vectors.rows import blocks

_COARSE = (0.0, 0.05, 0.1)
_FINE = (0.0, 0.025, 0.05, 0.075, 0.1)
_MIN_TO_REFINE = 0.35
"""Agreement at half size below which a pair is not compared at full size: duplicates have 0.5 or more there."""

_DOUBTFUL = (0.5, 0.9)
"""Agreement at full size between which all finer windows are compared: a better alignment adds 0.2 at most to duplicates."""

_BLUR = {GRID // 2: 1, GRID: 2}
"""Grid -> radius, in cells, of the mean that is subtracted."""

_WEIGHT_UNIT = 2**14
_DETAIL_UNIT = 2**21
_PAIRS_AT_ONCE = 128
_FINE_AT_ONCE = 8
_DECIMALS = 3

Array = NDArray[np.float64]
Positions = NDArray[np.int64]


class _Windows(NamedTuple):
    """Fine structure of windows [n, windows, cells], whole numbers; their sum, and cells^2 times their variance."""

    detail: Array
    total: Array
    spread: Array


def agreements(left: NDArray[Any], right: NDArray[Any], pairs: Positions) -> Array:
    """Return the correlation of fine structure at the best alignment of each pair [m], -1 to 1, three decimals.

    Fine structure is the image minus its local mean. Alignments are mirroring and windows of either thumbnail that
    cut off up to a tenth of each side. Whether one is mirrored is decided at half size; if the best agreement there is
    promising, windows are compared at full size, and finer ones where that leaves doubt.

    Args:
        left: Grey, 0 .. 255 [n, GRID, GRID].
        right: The same.
        pairs: Positions in both [m, 2].
    """
    found = np.empty(len(pairs))
    for first in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[first : first + _PAIRS_AT_ONCE]
        sides = [np.asarray(side[rows], np.float64) for side, rows in ((left, part[:, 0]), (right, part[:, 1]))]
        found[first : first + _PAIRS_AT_ONCE] = _of_part(*sides)
    rounded: Array = np.round(found, _DECIMALS)
    return rounded


def _of_part(left: Array, right: Array) -> Array:
    """Return the agreement of each left image with the right one at its place [m]."""
    small = [image.reshape(len(image), GRID // 2, 2, GRID // 2, 2).mean(axis=(2, 4)) for image in (left, right)]
    windows = [_windows(image, _cuts(_COARSE), _cuts(_COARSE)) for image in small]
    scores = np.stack([_correlations(*sides) for sides in (windows, windows[::-1])], axis=1)
    best = scores.max(axis=(1, 3))  # plain and mirrored
    score: Array = best.max(axis=1)
    for mirrored in (0, 1):
        rows = np.flatnonzero((score >= _MIN_TO_REFINE) & (best.argmax(axis=1) == mirrored))
        score[rows] = _at_full_size(left[rows], right[rows], mirrored)
    return score


def _at_full_size(left: Array, right: Array, mirrored: int) -> Array:
    """Return the best correlation of windows of one image with all of the other, at full size [m]."""
    windows = [_windows(image, _cuts(_COARSE), _cuts(_COARSE)) for image in (left, right)]
    scores = np.stack([_correlations(*sides)[:, mirrored] for sides in (windows, windows[::-1])], axis=1).max(axis=2)
    score: Array = scores.max(axis=1)
    doubtful = np.flatnonzero((score >= _DOUBTFUL[0]) & (score < _DOUBTFUL[1]))
    for part in blocks(len(doubtful), _FINE_AT_ONCE):
        rows = doubtful[part]
        of_left = (scores[rows, 0] >= scores[rows, 1])[:, None, None]
        windowed, whole = np.where(of_left, left[rows], right[rows]), np.where(of_left, right[rows], left[rows])
        fine = _correlations(
            _windows(windowed, _cuts(_FINE), _cuts(_FINE)), _windows(whole, _cuts(_FINE)[:1], _cuts(_FINE)[:1])
        )
        score[rows] = fine[:, mirrored].max(axis=1)
    return score


def _correlations(windows: _Windows, whole: _Windows) -> Array:
    """Return the correlation of windows with the first window of others, plain and mirrored [n, 2, windows]."""
    num_cells = whole.detail.shape[2]
    side = round(num_cells**0.5)
    plain = whole.detail[:, 0].reshape(-1, side, side)
    targets = np.stack([plain, plain[:, :, ::-1]], axis=1).reshape(len(plain), 2, num_cells)
    products = targets @ windows.detail.transpose(0, 2, 1)
    products = products * num_cells - windows.total[:, None, :] * whole.total[:, None, :1]
    spread = np.sqrt(windows.spread[:, None, :]) * np.sqrt(whole.spread[:, None, :1])
    correlations: Array = products / np.maximum(spread, 1.0)
    return correlations


def _windows(images: Array, down: tuple[tuple[float, float], ...], across: tuple[tuple[float, float], ...]) -> _Windows:
    """Return the windows of images [n, grid, grid] that remain after cutting `down` x `across` off the sides."""
    grid = images.shape[1]
    of_down, of_across = _interval_matrices(grid, down), _interval_matrices(grid, across)
    plain, smooth = (
        (one.reshape(-1, grid) @ images) @ two.reshape(-1, grid).T for one, two in zip(of_down, of_across, strict=True)
    )
    detail = np.rint((plain - smooth) / _DETAIL_UNIT)
    side = grid - 2
    detail = detail.reshape(-1, len(down), side, len(across), side).transpose(0, 1, 3, 2, 4)
    detail = detail.reshape(len(images), len(down) * len(across), side * side)
    total = detail.sum(axis=2)
    return _Windows(detail, total, (detail * detail).sum(axis=2) * side * side - total * total)


@functools.cache
def _cuts(steps: tuple[float, ...]) -> tuple[tuple[float, float], ...]:
    """Return (before, after): the shares of a side that are cut off, nothing first."""
    return tuple((before, after) for before in steps for after in steps if before + after <= steps[-1] + 1e-9)


@functools.cache
def _interval_matrices(grid: int, cuts: tuple[tuple[float, float], ...]) -> tuple[Array, Array]:
    """Return matrices [cuts, grid - 2, grid] that resample a side's cells to those of an interval: plain, blurred.

    Weights are whole parts of 2^-14. The outermost cells are left out, because their blur would reach outside the image.
    """
    near = np.abs(np.subtract.outer(np.arange(grid), np.arange(grid))) <= _BLUR[grid]
    blur = near / near.sum(axis=1, keepdims=True)
    cells, edges = np.arange(grid)[None, :], np.arange(grid + 1) / grid
    matrices = []
    for before, after in cuts:
        inner = (before + edges * (1 - before - after)) * grid
        overlap = np.clip(np.minimum(inner[1:, None], cells + 1) - np.maximum(inner[:-1, None], cells), 0, None)
        matrices.append(overlap / overlap.sum(axis=1, keepdims=True))
    plain = np.stack(matrices)
    return np.rint(plain[:, 1:-1] * _WEIGHT_UNIT), np.rint((blur @ plain)[:, 1:-1] * _WEIGHT_UNIT)
