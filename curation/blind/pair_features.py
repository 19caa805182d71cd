"""Features of a pair of caption and negative for a text-only judge, and its logistic regression.

A pair's features are the difference of its two texts' n-grams: what they share cancels, so that a swap of two words
leaves a dozen numbers. There is no constant term, so that a pair with caption and negative exchanged gets the opposite score.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from curation.blind.ngram_model import Encoded, Float64s, Int64s, pad

Int32s = np.ndarray[Any, np.dtype[np.int32]]
Float32s = np.ndarray[Any, np.dtype[np.float32]]

NUM_HASHED = 1 << 18
_PAIRS_PER_CHUNK = 10_000
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_NUM_MOVES = 8
_MAX_GRADIENT = 1e-4


class Sparse(NamedTuple):
    """A sparse matrix: its non-zero values with their rows and columns, in any order."""

    rows: Int32s
    columns: Int32s
    values: Float32s
    num_rows: int

    def take(self, chosen: Int64s) -> Sparse:
        """Return some rows, in ascending order of their numbers."""
        renumbered = np.full(self.num_rows, -1, np.int32)
        renumbered[chosen] = np.arange(len(chosen), dtype=np.int32)
        rows = renumbered[self.rows]
        kept = rows >= 0
        return Sparse(rows[kept], self.columns[kept], self.values[kept], len(chosen))

    def times(self, weights: Float64s) -> Float64s:
        """Return each row's product with a weight per column."""
        return np.asarray(np.bincount(self.rows, self.values * weights[self.columns], minlength=self.num_rows))

    def transposed_times(self, weights: Float64s, num_columns: int) -> Float64s:
        """Return each column's product with a weight per row."""
        return np.asarray(np.bincount(self.columns, self.values * weights[self.rows], minlength=num_columns))


class TokenView(NamedTuple):
    """Captions and negatives as token numbers (words, or classes of words), and the length of the longest n-gram."""

    captions: Encoded
    negatives: Encoded
    longest: int


def pair_features(views: list[TokenView], dense: Float64s) -> Sparse:
    """Return hashed n-grams of captions minus those of negatives, then the dense numbers of each pair.

    Args:
        views: The same pairs as different tokens, such as words and classes.
        dense: Further differences [pairs, numbers], scaled to about 1; columns `NUM_HASHED` on.
    """
    num_pairs, num_dense = dense.shape
    more = np.arange(num_pairs * num_dense)
    parts = [_compact(more // max(num_dense, 1), NUM_HASHED + more % max(num_dense, 1), dense.ravel())]
    for start in range(0, num_pairs if views else 0, _PAIRS_PER_CHUNK):
        stop = min(start + _PAIRS_PER_CHUNK, num_pairs)
        found = [
            (_ngram_keys(side.part(start, stop), view.longest, salt), sign)
            for salt, view in enumerate(views)
            for side, sign in ((view.captions, 1.0), (view.negatives, -1.0))
        ]
        signs = np.concatenate([np.full(len(keys), sign) for keys, sign in found])
        distinct, place = np.unique(np.concatenate([keys for keys, _ in found]), return_inverse=True)
        sums = np.bincount(place, signs)
        differ = sums != 0
        parts.append(_compact(start + distinct[differ] // NUM_HASHED, distinct[differ] % NUM_HASHED, sums[differ]))
    rows, columns, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Sparse(rows, columns, values, num_pairs)


def _compact(rows: Int64s, columns: Int64s, values: Float64s) -> tuple[Int32s, Int32s, Float32s]:
    """Return the arrays in 32-bit types."""
    return rows.astype(np.int32), columns.astype(np.int32), values.astype(np.float32)


def _ngram_keys(texts: Encoded, longest: int, salt: int) -> Int64s:
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


def fit_logistic(pairs: Sparse, *, penalty: float = 1.0, num_steps: int = 40) -> Float64s:
    """Return the weights of a logistic regression from features of pairs to "the caption is the true text", by L-BFGS.

    Args:
        pairs: Caption minus negative for each pair; the caption is right for all of them.
        penalty: Weight of the squared weights in the loss, in pairs.
        num_steps: Most steps.

    Source: Liu and Nocedal 1989, algorithm 2.1 (L-BFGS).
    Differs: halves a step until it improves (Armijo 1966); stops when no gradient exceeds 1e-4.
    """
    # few pairs use few columns, and the cost of a step grows with the number of weights
    used, place = np.unique(pairs.columns, return_inverse=True)
    packed = pairs._replace(columns=place.astype(np.int32))
    every = np.zeros(int(used.max(initial=0)) + 1)
    every[used] = _minimise(packed, np.zeros(len(used)), penalty, num_steps)
    return every


def _minimise(pairs: Sparse, weights: Float64s, penalty: float, num_steps: int) -> Float64s:
    """Return the weights that minimise the loss, starting from `weights`."""
    loss, gradient = _loss(pairs, weights, penalty)
    moves: list[tuple[Float64s, Float64s, float]] = []
    for _ in range(num_steps):
        if np.abs(gradient).max(initial=0.0) < _MAX_GRADIENT:
            break
        direction = _direction(gradient, moves)
        descent, step = float(direction @ gradient), 1.0
        while True:
            new = weights + step * direction
            new_loss, new_gradient = _loss(pairs, new, penalty)
            if new_loss <= loss + 1e-4 * step * descent or step < 1e-6:
                break
            step /= 2
        moved, turned = new - weights, new_gradient - gradient
        curvature = float(moved @ turned)
        if curvature > 1e-12:
            moves = [*moves, (moved, turned, 1.0 / curvature)][-_NUM_MOVES:]
        weights, loss, gradient = new, new_loss, new_gradient
    return weights


def _loss(pairs: Sparse, weights: Float64s, penalty: float) -> tuple[float, Float64s]:
    """Return the mean loss and its gradient."""
    margin = pairs.times(weights)
    scale = 1.0 / max(pairs.num_rows, 1)
    loss = float(np.logaddexp(0.0, -margin).sum() + 0.5 * penalty * (weights @ weights)) * scale
    wrong = -1.0 / (1.0 + np.exp(np.minimum(margin, 500.0)))
    return loss, (pairs.transposed_times(wrong, len(weights)) + penalty * weights) * scale


def _direction(gradient: Float64s, moves: list[tuple[Float64s, Float64s, float]]) -> Float64s:
    """Return the direction of descent, by the two loops of L-BFGS over the last moves."""
    direction, shares = -gradient, []
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


def log_odds(pairs: Sparse, weights: Float64s) -> Float64s:
    """Return the log odds that each caption is the true text; 0 for a pair with unknown features only."""
    known = pairs.columns < len(weights)
    return Sparse(pairs.rows[known], pairs.columns[known], pairs.values[known], pairs.num_rows).times(weights)
