"""What a text-only judge sees of a caption and its negative, and the linear judge over it.

A pair is the difference of its two texts' n-grams: what they share cancels, so that a swap of two words leaves a
dozen numbers. The judge has no constant term, so that it cannot but judge a turned-round pair the other way.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from curation.blind.ngram_model import Encoded, Floats, Ints, pad

Small = np.ndarray[Any, np.dtype[np.int32]]
Singles = np.ndarray[Any, np.dtype[np.float32]]

NUM_HASHED = 1 << 18
_PAIRS_PER_CHUNK = 10_000
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MEMORY = 8
_SUFFICIENT = 1e-4


class Sparse(NamedTuple):
    """Rows of numbers that are mostly 0: the ones that are not, in any order."""

    rows: Small
    columns: Small
    values: Singles
    num_rows: int

    def take(self, chosen: Ints) -> Sparse:
        """Return some rows, in ascending order of their numbers."""
        renumbered = np.full(self.num_rows, -1, np.int32)
        renumbered[chosen] = np.arange(len(chosen), dtype=np.int32)
        rows = renumbered[self.rows]
        kept = rows >= 0
        return Sparse(rows[kept], self.columns[kept], self.values[kept], len(chosen))

    def times(self, weights: Floats) -> Floats:
        """Return each row's product with a weight per column."""
        return np.asarray(np.bincount(self.rows, self.values * weights[self.columns], minlength=self.num_rows))

    def transposed_times(self, weights: Floats, num_columns: int) -> Floats:
        """Return each column's product with a weight per row."""
        return np.asarray(np.bincount(self.columns, self.values * weights[self.rows], minlength=num_columns))


class View(NamedTuple):
    """One way to read the pairs: captions and negatives as numbers, and the longest n-gram that counts."""

    captions: Encoded
    negatives: Encoded
    longest: int


def pair_features(views: list[View], dense: Floats) -> Sparse:
    """Return hashed n-grams of captions minus those of negatives, with further numbers of each pair behind them.

    Args:
        views: Ways to read the same pairs, such as words and classes.
        dense: Further differences [pairs, numbers], scaled to about 1; columns `NUM_HASHED` on.
    """
    num_pairs, num_dense = dense.shape
    more = np.arange(num_pairs * num_dense)
    parts = [_packed(more // max(num_dense, 1), NUM_HASHED + more % max(num_dense, 1), dense.ravel())]
    for start in range(0, num_pairs if views else 0, _PAIRS_PER_CHUNK):
        stop = min(start + _PAIRS_PER_CHUNK, num_pairs)
        found = [
            (_ngram_keys(_part(side, start, stop), view.longest, salt), sign)
            for salt, view in enumerate(views)
            for side, sign in ((view.captions, 1.0), (view.negatives, -1.0))
        ]
        signs = np.concatenate([np.full(len(keys), sign) for keys, sign in found])
        distinct, place = np.unique(np.concatenate([keys for keys, _ in found]), return_inverse=True)
        sums = np.bincount(place, signs)
        differ = sums != 0
        parts.append(_packed(start + distinct[differ] // NUM_HASHED, distinct[differ] % NUM_HASHED, sums[differ]))
    rows, columns, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Sparse(rows, columns, values, num_pairs)


def _packed(rows: Ints, columns: Ints, values: Floats) -> tuple[Small, Small, Singles]:
    """Return half as many bytes."""
    return rows.astype(np.int32), columns.astype(np.int32), values.astype(np.float32)


def _part(texts: Encoded, start: int, stop: int) -> Encoded:
    """Return a run of texts."""
    ends = np.cumsum(texts.lengths)
    return Encoded(texts.ids[ends[start] - texts.lengths[start] : ends[stop - 1]], texts.lengths[start:stop])


def _ngram_keys(texts: Encoded, longest: int, salt: int) -> Ints:
    """Return row * `NUM_HASHED` + hash for every n-gram of 1 .. `longest` tokens, both ends of a text included."""
    padded, _, owner = pad(texts)
    # every text has two beginnings; n-grams start at the second of them
    numbers = padded.astype(np.uint64)
    mixed = np.full(len(padded), salt + 1, np.uint64)
    keys = []
    for length in range(longest):
        end = len(padded) - length
        mixed = _mix(mixed[:end] + numbers[length:])
        inside = owner[:end] == owner[length:]
        keys.append(owner[:end][inside] * NUM_HASHED + (mixed[inside] % NUM_HASHED).astype(np.int64))
    return np.concatenate(keys)


def _mix(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return well-mixed 64-bit numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = numbers * np.uint64(_MIX[0])
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_MIX[1])
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_MIX[2])
    return mixed ^ (mixed >> np.uint64(31))


def fit_logistic(pairs: Sparse, *, penalty: float = 1.0, num_steps: int = 40) -> Floats:
    """Return the weights by which a caption is told from its negative: logistic regression, by L-BFGS.

    Args:
        pairs: Caption minus negative for each pair; the caption is right for all of them.
        penalty: Strength of the square penalty, as a number of pairs.
        num_steps: At most this many steps.

    Source: Liu and Nocedal 1989, algorithm 2.1 (L-BFGS).
    Differs: halves a step until it improves (Armijo 1966); stops when no slope exceeds 1e-4.
    """
    # few pairs use few of the columns, and whole rows of weights are what a step costs
    used, place = np.unique(pairs.columns, return_inverse=True)
    packed = pairs._replace(columns=place.astype(np.int32))
    every = np.zeros(int(used.max(initial=0)) + 1)
    every[used] = _minimised(packed, np.zeros(len(used)), penalty, num_steps)
    return every


def _minimised(pairs: Sparse, weights: Floats, penalty: float, num_steps: int) -> Floats:
    """Return the weights of least loss, from given ones on."""
    loss, slope = _loss(pairs, weights, penalty)
    moves: list[tuple[Floats, Floats, float]] = []
    for _ in range(num_steps):
        if np.abs(slope).max(initial=0.0) < _SUFFICIENT:
            break
        direction = _direction(slope, moves)
        descent, step = float(direction @ slope), 1.0
        while True:
            new = weights + step * direction
            new_loss, new_slope = _loss(pairs, new, penalty)
            if new_loss <= loss + 1e-4 * step * descent or step < 1e-6:
                break
            step /= 2
        moved, turned = new - weights, new_slope - slope
        curvature = float(moved @ turned)
        if curvature > 1e-12:
            moves = [*moves, (moved, turned, 1.0 / curvature)][-_MEMORY:]
        weights, loss, slope = new, new_loss, new_slope
    return weights


def _loss(pairs: Sparse, weights: Floats, penalty: float) -> tuple[float, Floats]:
    """Return the mean loss and its slope."""
    margin = pairs.times(weights)
    scale = 1.0 / max(pairs.num_rows, 1)
    loss = float(np.logaddexp(0.0, -margin).sum() + 0.5 * penalty * (weights @ weights)) * scale
    wrong = -1.0 / (1.0 + np.exp(np.minimum(margin, 500.0)))
    return loss, (pairs.transposed_times(wrong, len(weights)) + penalty * weights) * scale


def _direction(slope: Floats, moves: list[tuple[Floats, Floats, float]]) -> Floats:
    """Return the direction of descent that the last moves suggest (the two loops of L-BFGS)."""
    direction, shares = -slope, []
    for moved, turned, weight in reversed(moves):
        share = weight * float(moved @ direction)
        direction = direction - share * turned
        shares.append(share)
    if moves:
        moved, turned, weight = moves[-1]
        direction = direction / (weight * float(turned @ turned))
    for (moved, turned, weight), share in zip(moves, reversed(shares), strict=True):
        direction = direction + moved * (share - weight * float(turned @ direction))
    return direction


def judge(pairs: Sparse, weights: Floats) -> Floats:
    """Return by how much each caption is preferred to its negative; 0 for a pair of which nothing is known."""
    known = pairs.columns < len(weights)
    return Sparse(pairs.rows[known], pairs.columns[known], pairs.values[known], pairs.num_rows).times(weights)
