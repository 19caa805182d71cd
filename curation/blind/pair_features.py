"""Features of a pair of caption and negative for a text-only judge, and its logistic regression.

A pair's features are the difference of its two texts' n-grams: what they share cancels, so that a swap of two words
leaves a dozen numbers. There is no constant term, so that a pair with caption and negative exchanged gets the opposite score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from curation.blind.tokens import Float64s, Int64s, Mask, Padded

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Int32s = np.ndarray[Any, np.dtype[np.int32]]

NUM_HASHED = 1 << 18
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_NUM_MOVES = 8
_MAX_GRADIENT = 1e-4


class TokenView(NamedTuple):
    """Captions and negatives as token numbers (words, or classes of words), and the length of the longest n-gram."""

    captions: Padded
    negatives: Padded
    longest: int


def pair_features(views: list[TokenView], dense: Float64s) -> csr_array:
    """Return hashed n-grams of captions minus those of negatives, then the dense numbers of each pair.

    Args:
        views: The same pairs as different tokens, such as words and classes.
        dense: Further differences [pairs, numbers], scaled to about 1; columns `NUM_HASHED` on.

    Returns:
        Sparse float32 [pairs, NUM_HASHED + numbers], the columns of each row in ascending order.
    """
    from scipy.sparse import csr_array

    num_pairs, num_dense = dense.shape
    pairs, numbers = np.nonzero(dense)
    rows, columns, values = [pairs], [NUM_HASHED + numbers], [dense[pairs, numbers]]
    for salt, view in enumerate(views):
        for side, sign in ((view.captions, 1.0), (view.negatives, -1.0)):
            owners, hashes = _ngrams(side, view.longest, salt)
            rows.append(owners)
            columns.append(hashes)
            values.append(np.full(len(owners), sign))
    place = tuple(np.concatenate(part).astype(np.int32) for part in (rows, columns))
    found = csr_array(
        (np.concatenate(values).astype(np.float32), place), shape=(num_pairs, NUM_HASHED + num_dense), dtype=np.float32
    )
    found.sum_duplicates()
    found.eliminate_zeros()
    return found


def word_differences(captions: Padded, negatives: Padded, shape: tuple[int, int]) -> csr_array:
    """Return how often each caption has each word minus how often its negative has it [pairs, words]; what both have is left out.

    Args:
        captions: The captions of pairs where they differ from their negatives; see `pad_differences`.
        negatives: The negatives.
        shape: Number of pairs, and size of the vocabulary.
    """
    from scipy.sparse import csr_array

    rows = np.concatenate([captions.owner, negatives.owner])
    columns = np.concatenate([captions.ids, negatives.ids])
    values = np.repeat([1.0, -1.0], [len(captions.ids), len(negatives.ids)])
    found = csr_array((values, (rows.astype(np.int32), columns.astype(np.int32))), shape=shape)
    found.sum_duplicates()
    found.eliminate_zeros()
    return found


def _ngrams(texts: Padded, longest: int, salt: int) -> tuple[Int64s, Int64s]:
    """Return the text and the hash of every n-gram of 1 .. `longest` tokens, both ends of a text included."""
    numbers = texts.ids.astype(np.uint64)
    mixed = np.full(len(numbers), salt + 1, np.uint64)
    owners, hashes = [], []
    for length in range(min(longest, len(numbers))):
        end = len(numbers) - length
        mixed = _mix(mixed[:end] + numbers[length:])
        inside = texts.owner[:end] == texts.owner[length:]
        owners.append(texts.owner[:end][inside])
        hashes.append((mixed[inside] % NUM_HASHED).astype(np.int64))
    empty = np.zeros(0, np.int64)
    return np.concatenate([empty, *owners]), np.concatenate([empty, *hashes])


def _mix(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return well-mixed 64-bit numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    mixed = numbers * np.uint64(_MIX[0])
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_MIX[1])
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_MIX[2])
    return mixed ^ (mixed >> np.uint64(31))


def fit_logistic(
    pairs: csr_array, columns: Mask | None = None, *, penalty: float = 1.0, num_steps: int = 40
) -> Float64s:
    """Return the weights of a logistic regression from features of pairs to "the caption is the true text", by L-BFGS.

    Args:
        pairs: Caption minus negative for each pair; the caption is right for all of them.
        columns: Which features to use; all if None. The others get no weight.
        penalty: Weight of the squared weights in the loss, in pairs.
        num_steps: Most steps.

    Source: Liu and Nocedal 1989, algorithm 2.1 (L-BFGS), as in scipy; stops when no gradient exceeds 1e-4.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    # few pairs use few columns, and the cost of a step grows with the number of weights
    used = np.zeros(pairs.shape[1], np.bool_)
    used[pairs.indices] = True
    if columns is not None:
        used &= columns
    packed, width = _packed(pairs, used), pairs.shape[1]
    turned = packed.T
    scale = 1.0 / max(pairs.shape[0], 1)
    del pairs  # callers keep no features of one fit

    def loss(weights: Float64s) -> tuple[float, Float64s]:
        margin = packed @ weights
        wrong = -1.0 / (1.0 + np.exp(np.minimum(margin, 500.0)))
        total = float(np.logaddexp(0.0, -margin).sum() + 0.5 * penalty * (weights @ weights))
        return total * scale, (turned @ wrong + penalty * weights) * scale

    options = {"maxcor": _NUM_MOVES, "maxiter": num_steps, "gtol": _MAX_GRADIENT, "ftol": 0.0}
    with threadpool_limits(1):  # scipy has an algebra library of its own, which is loaded by the import
        found = minimize(loss, np.zeros(int(used.sum())), jac=True, method="L-BFGS-B", options=options)
    weights = np.zeros(width)
    weights[used] = found.x
    return weights


def _packed(pairs: csr_array, used: Mask) -> csr_array:
    """Return the used columns in double precision."""
    from scipy.sparse import csr_array

    place, chosen = (np.cumsum(used) - 1).astype(np.int32), used[pairs.indices]
    before = np.zeros(len(chosen) + 1, pairs.indptr.dtype)
    np.cumsum(chosen, out=before[1:])
    values, columns = pairs.data[chosen].astype(np.float64), place[pairs.indices[chosen]]
    return csr_array((values, columns, before[pairs.indptr]), shape=(pairs.shape[0], int(used.sum())))


def fitting(ends: Int64s) -> Int64s | Int32s:
    """Return where the rows of a sparse array end, in 32 bits if they fit: its columns get the same type."""
    return ends.astype(np.int32) if int(ends[-1]) <= np.iinfo(np.int32).max else ends
