"""Choose pairs of caption and negative so that scorers without the image are right half of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from curation.blind.ngram_model import Float64s, Int64s

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_MAX_CODE = 1 << 62


def mirror_balance(gaps: Float64s, groups: Int64s, draws: np.ndarray[Any, Any], bins: Sequence[int]) -> Mask:
    """Return which pairs to keep, so that in each group every cell has as many pairs as its mirror cell.

    A pair's cell is, for each scorer, the sign of its gap and the quantile of the gap's size; the mirror cell has all
    signs reversed. Grids go from fine to coarse: a pair without a partner in a fine cell may find one in a coarser
    cell, so that more pairs are kept than with one grid and partners are as similar as possible. Pairs without any gap
    are their own mirror.

    Args:
        gaps: Score of the caption minus score of the negative [pairs, scorers], rounded.
        groups: Pairs are balanced within their group.
        draws: One number per pair, all different; where a cell has too many pairs, those with the smallest numbers stay.
        bins: Number of quantiles of gap sizes in each grid, from fine to coarse.

    Source: Hsieh et al. 2023 (SugarCrepe), section 4 and its released refinement, arXiv 2306.14610.
    Differs: quantiles of the rarer sign's sizes, where the original cuts the range into 50 equal parts; several grids,
        where the original has one; any number of scorers.
    """
    kept: Mask = np.zeros(len(gaps), np.bool_)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        waiting = members[np.lexsort((draws[members],))]
        kept[members] |= ~gaps[members].any(axis=1)
        waiting = waiting[gaps[waiting].any(axis=1)]
        for num in bins:
            if len(waiting) < 2:
                break
            cells, mirrors = _cells(gaps[waiting], num)
            matched = _matched(cells, mirrors)
            kept[waiting[matched]] = True
            waiting = waiting[~matched]
    return kept


def _cells(gaps: Float64s, num: int) -> tuple[Int64s, Int64s]:
    """Return the cell of each pair and the cell of its mirror, as numbers."""
    num_scorers = gaps.shape[1]
    base = 2 * num + 1
    if base**num_scorers > _MAX_CODE:
        raise ValueError(f"{num} bins for {num_scorers} scorers: too many cells for 64-bit numbers")
    cells = np.zeros(len(gaps), np.int64)
    for column in gaps.T:
        rarer = column < 0 if (column < 0).sum() <= (column > 0).sum() else column > 0
        sizes = np.abs(column[rarer]) if rarer.any() else np.abs(column[column != 0])
        edges = np.quantile(sizes, np.linspace(0, 1, num + 1)[1:-1]) if len(sizes) else np.zeros(0)
        level = np.where(column == 0, 0, 1 + np.searchsorted(edges, np.abs(column)))
        cells = cells * base + np.sign(column).astype(np.int64) * level + num
    return cells, base**num_scorers - 1 - cells


def _matched(cells: Int64s, mirrors: Int64s) -> Mask:
    """Return which pairs have a partner, the first of a cell before later ones."""
    order = np.argsort(cells, kind="stable")
    distinct, first, counts = np.unique(cells[order], return_index=True, return_counts=True)
    rank = np.empty(len(cells), np.int64)
    rank[order] = np.arange(len(cells)) - np.repeat(first, counts)
    place = np.minimum(np.searchsorted(distinct, mirrors), len(distinct) - 1)
    partners = np.where(distinct[place] == mirrors, counts[place], 0)
    return np.asarray(rank < partners)
