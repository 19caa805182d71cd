"""Choose pairs of caption and negative so that scorers without the image are right half of the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.blind.tokens import Float64s, Int64s, Mask, UInt64s

_MAX_CODE = 1 << 62
_ALL = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class MirrorGrids:
    """Which pairs to keep, so that in each group every cell has as many pairs as its mirror cell.

    A pair's cell is, for each scorer, the sign of its gap and the quantile of the gap's size; the mirror cell has all
    signs reversed. Grids go from fine to coarse: a pair without a partner in a fine cell may find one in a coarser
    cell, so that more pairs are kept than with one grid and partners are as similar as possible. Pairs without any gap
    are their own mirror.

    A cell with more pairs than its mirror keeps those with the smallest draws; the largest of these is stored, so that a
    pair's own draw decides, whatever other pairs there are.

    Attributes:
        edges: Quantiles of gap sizes, padded with infinity [groups, grids, scorers, bins - 1].
        cells: Numbers of the cells from which pairs are kept, over all groups and grids, sorted.
        limits: The largest draw that is kept, for each of these cells.
        bins: Number of quantiles in each grid, from fine to coarse.

    Source: Hsieh et al. 2023 (SugarCrepe), section 4 and its released refinement, arXiv 2306.14610.
    Differs: quantiles of the rarer sign's sizes, where the original cuts the range into 50 equal parts; several grids,
        where the original has one; any number of scorers; a threshold for the draws of each cell.
    """

    edges: Float64s
    cells: Int64s
    limits: UInt64s
    bins: tuple[int, ...]

    @classmethod
    def learn(cls, gaps: Float64s, groups: Int64s, draws: UInt64s, bins: Sequence[int]) -> MirrorGrids:
        """Learn grids from pairs.

        Args:
            gaps: Score of the caption minus score of the negative [pairs, scorers], rounded.
            groups: Pairs are balanced within their group, 0 .. number of groups - 1.
            draws: One number per pair, all different.
            bins: Number of quantiles of gap sizes in each grid, from fine to coarse.
        """
        num_groups, num_scorers = int(groups.max(initial=-1)) + 1, gaps.shape[1]
        edges = np.full((num_groups, len(bins), num_scorers, max(bins) - 1), np.inf)
        found: list[tuple[Int64s, UInt64s]] = [(np.zeros(0, np.int64), np.zeros(0, np.uint64))]
        order = np.lexsort((draws, groups))
        order = order[gaps[order].any(axis=1)]
        bounds = np.searchsorted(groups[order], np.arange(num_groups + 1))
        for group in range(num_groups):
            waiting = order[bounds[group] : bounds[group + 1]]  # those with the smallest draws first
            for grid, num in enumerate(bins):
                edges[group, grid, :, : num - 1] = _quantiles(gaps[waiting], num)
                codes = _codes(gaps[waiting], edges[None, group, grid], bins[0])
                cells, limits, matched = _limits(codes, draws[waiting], num_scorers, bins[0])
                found.append((_segment(group, grid, len(bins), num_scorers, bins[0]) + cells, limits))
                waiting = waiting[~matched]
        cells, limits = (np.concatenate(column) for column in zip(*found, strict=True))
        return cls(edges, cells, limits, tuple(bins))

    def keeps(self, gaps: Float64s, groups: Int64s, draws: UInt64s) -> Mask:
        """Return which pairs are kept; those that it was learned from are balanced exactly.

        Args:
            gaps: As in `learn`.
            groups: As in `learn`; pairs of group -1 are not kept.
            draws: As in `learn`.
        """
        known = groups >= 0
        kept: Mask = known & ~gaps.any(axis=1)
        waiting = np.flatnonzero(known & ~kept)
        for grid in range(len(self.bins)):
            if not (len(waiting) and len(self.cells)):
                break
            own = groups[waiting]
            codes = _codes(gaps[waiting], self.edges[own, grid], self.bins[0])
            codes = codes + _segment(own, grid, len(self.bins), gaps.shape[1], self.bins[0])
            place = np.minimum(np.searchsorted(self.cells, codes), len(self.cells) - 1)
            matched = (self.cells[place] == codes) & (draws[waiting] <= self.limits[place])
            kept[waiting[matched]] = True
            waiting = waiting[~matched]
        return kept

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return its arrays by name."""
        return {"edges": self.edges, "cells": self.cells, "limits": self.limits}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray[Any, Any]], prefix: str, bins: tuple[int, ...]) -> MirrorGrids:
        """Return the grids of arrays whose names have a prefix."""
        return cls(arrays[f"{prefix}edges"], arrays[f"{prefix}cells"], arrays[f"{prefix}limits"], bins)


def _quantiles(gaps: Float64s, num: int) -> Float64s:
    """Return for each scorer the inner edges of `num` quantiles of gap sizes [scorers, num - 1]."""
    edges = np.full((gaps.shape[1], num - 1), np.inf)
    for scorer, column in enumerate(gaps.T):
        rarer = column < 0 if (column < 0).sum() <= (column > 0).sum() else column > 0
        sizes = np.abs(column[rarer]) if rarer.any() else np.abs(column[column != 0])
        if len(sizes):
            edges[scorer] = np.quantile(sizes, np.linspace(0, 1, num + 1)[1:-1])
    return edges


def _codes(gaps: Float64s, edges: Float64s, most: int) -> Int64s:
    """Return the cell of each pair as a number; that of its mirror is `_size` - 1 minus it.

    Args:
        gaps: Gaps [pairs, scorers].
        edges: Edges of each pair's grid [pairs or 1, scorers, bins - 1].
        most: Number of bins of the finest grid.
    """
    level = 1 + (edges < np.abs(gaps)[:, :, None]).sum(axis=2)
    codes = np.zeros(len(gaps), np.int64)
    for column in (np.sign(gaps).astype(np.int64) * level).T:
        codes = codes * (2 * most + 1) + column + most
    return codes


def _size(num_scorers: int, most: int) -> int:
    """Return the number of cells of the finest grid."""
    return int((2 * most + 1) ** num_scorers)


def _segment(groups: Any, grid: int, num_grids: int, num_scorers: int, most: int) -> Any:
    """Return what is added to the numbers of the cells of groups and a grid.

    Raises:
        ValueError: there are too many cells for 64-bit numbers.
    """
    size = _size(num_scorers, most)
    if size * num_grids * (int(np.max(groups, initial=0)) + 1) > _MAX_CODE:
        raise ValueError(f"{most} bins for {num_scorers} scorers: too many cells for 64-bit numbers")
    return (groups * num_grids + grid) * size


def _limits(codes: Int64s, draws: UInt64s, num_scorers: int, most: int) -> tuple[Int64s, UInt64s, Mask]:
    """Return the cells that have partners, the largest draw that is kept in each, and which pairs that are.

    Args:
        codes: The cell of each pair.
        draws: Draws, ascending.
        num_scorers: Number of scorers.
        most: Number of bins of the finest grid.
    """
    order = np.argsort(codes, kind="stable")
    cells, first, counts = np.unique(codes[order], return_index=True, return_counts=True)
    if not len(cells):
        return cells, np.zeros(0, np.uint64), np.zeros(0, np.bool_)
    mirrors = _size(num_scorers, most) - 1 - cells
    place = np.minimum(np.searchsorted(cells, mirrors), len(cells) - 1)
    partners = np.where(cells[place] == mirrors, counts[place], 0)
    limits = np.full(len(cells), _ALL)
    some = np.flatnonzero((partners > 0) & (partners < counts))
    # of n draws the m-th smallest is m / (n + 1) on average: a new pair is kept with the ratio of the cells, without bias
    limits[some] = draws[order[first[some] + partners[some] - 1]]
    rank = np.empty(len(codes), np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(first, counts)
    owner = np.empty(len(codes), np.int64)
    owner[order] = np.repeat(np.arange(len(cells)), counts)
    return cells[partners > 0], limits[partners > 0], rank < partners[owner]
