"""Scores that selection ranks by, over frozen embeddings: s-CLIPLoss and NormSim. Products in float32, sums in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

_BLOCK_FLOATS = 1 << 24
"""Similarities held at once: 64 MiB in float32."""


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Return float32 rows of length 1 [n, d]; stored ones are off by the rounding of float16.

    Raises:
        ValueError: a row has no direction; the message is its number.
    """
    exact = vectors.astype(np.float64)
    norms = np.sqrt((exact * exact).sum(axis=1))
    bad = ~np.isfinite(norms) | (norms == 0)
    if bad.any():
        raise ValueError(int(np.flatnonzero(bad)[0]))
    unit: FloatArray = (exact / norms[:, None]).astype(np.float32)
    return unit


def clip_loss_batch(images: FloatArray, texts: FloatArray, temperature: float) -> FloatArray:
    """Return s-CLIPLoss of each pair within one batch [b], in float64.

    With s_ij the similarity of image i and text j and t the temperature, pair i scores
    s_ii - (t / 2) (log sum_j exp(s_ij / t) + log sum_j exp(s_ji / t)), its own pair among the j: minus t times its
    share of the contrastive loss.

    Args:
        images: Unit rows [b, d].
        texts: Unit rows [b, d]; row i belongs to image i.
        temperature: The teacher's, above 0.
    """
    size = len(images)
    rows = max(1, _BLOCK_FLOATS // max(1, size))
    own = np.einsum("ij,ij->i", images, texts, dtype=np.float64)
    by_image = np.empty(size)
    peak, total = np.full(size, -np.inf), np.zeros(size)
    for first in range(0, size, rows):
        part = images[first : first + rows] @ texts.T
        top = part.max(axis=1, keepdims=True)
        sums = np.exp((part - top) / np.float32(temperature)).sum(axis=1, dtype=np.float64)
        by_image[first : first + rows] = top[:, 0] / temperature + np.log(sums)
        # columns are finished only with the last block: each keeps its largest entry and a sum relative to it
        higher = np.maximum(peak, part.max(axis=0))
        total *= np.exp((peak - higher) / temperature)
        total += np.exp((part - higher.astype(np.float32)) / np.float32(temperature)).sum(axis=0, dtype=np.float64)
        peak = higher
    by_text = peak / temperature + np.log(total)
    scores: FloatArray = own - temperature / 2 * (by_image + by_text)
    return scores


def s_clip_loss(
    images: FloatArray,
    texts: FloatArray,
    draws: np.random.Generator,
    temperature: float,
    batch_size: int,
    num_shuffles: int,
) -> FloatArray:
    """Return s-CLIPLoss of each pair [n], averaged over random batches.

    Every shuffle deals all pairs into batches of equal size, as near to `batch_size` as the number allows. If all fit
    into one batch, one pass is exact and no shuffling is needed.

    Args:
        images: Unit rows [n, d].
        texts: Unit rows [n, d].
        draws: Shuffles.
        temperature: The teacher's.
        batch_size: Pairs that are contrasted with each other.
        num_shuffles: Shuffles that are averaged.
    """
    size = len(images)
    if size <= batch_size:
        return clip_loss_batch(images, texts, temperature)
    total = np.zeros(size)
    for _ in range(num_shuffles):
        for chosen in np.array_split(draws.permutation(size), round(size / batch_size)):
            total[chosen] += clip_loss_batch(images[chosen], texts[chosen], temperature)
    mean: FloatArray = total / num_shuffles
    return mean


def second_moment(vectors: FloatArray) -> FloatArray:
    """Return the mean of v v^T over the rows [d, d], in float64."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    rows = max(1, _BLOCK_FLOATS // vectors.shape[1])
    for first in range(0, len(vectors), rows):
        part = vectors[first : first + rows].astype(np.float64)
        total += part.T @ part
    moment: FloatArray = total / max(1, len(vectors))
    return moment


def variance_alignment(images: FloatArray, moment: FloatArray) -> FloatArray:
    """Return VAS, f^T M f, for each image [n]: the mean squared similarity to the images that M was made of."""
    scores = np.empty(len(images))
    rows = max(1, _BLOCK_FLOATS // images.shape[1])
    for first in range(0, len(images), rows):
        part = images[first : first + rows].astype(np.float64)
        scores[first : first + rows] = np.einsum("ij,ij->i", part @ moment, part)
    return scores


def norm_sim_2(images: FloatArray, target: FloatArray) -> FloatArray:
    """Return the 2-norm of each image's similarities to all target images [n]."""
    squared = variance_alignment(images, second_moment(target)) * len(target)
    norm: FloatArray = np.sqrt(np.maximum(squared, 0.0))
    return norm


def norm_sim_inf(images: FloatArray, target: FloatArray) -> FloatArray:
    """Return the infinity norm of each image's similarities to all target images [n]: the largest absolute value."""
    best = np.zeros(len(images))
    rows = max(1, _BLOCK_FLOATS // max(1, len(target)))
    for first in range(0, len(images), rows):
        best[first : first + rows] = np.abs(images[first : first + rows] @ target.T).max(axis=1)
    return best


def norm_sim_d(images: FloatArray, start: IntArray, keep: int, num_rounds: int, decimals: int) -> FloatArray:
    """Return how long each image of `start` survives when the least aligned are dropped round by round [n], 0 to 1.

    Each round takes the second moment of what is left and drops the lowest VAS, in equal portions, until `keep` are
    left. Survival is the rank: dropped sooner is lower, within a round and at the end by VAS, equals by position
    (earlier stays). Images outside `start` get 0; whoever keeps the `keep` highest keeps what the rounds kept.

    Args:
        images: Unit rows [n, d].
        start: Positions that take part, ascending.
        keep: Images at the end.
        num_rounds: Rounds.
        decimals: VAS is rounded so before ranks are taken, as its last bits differ between machines.
    """
    left, keep = start, min(max(1, keep), len(start))
    sizes = np.round(np.linspace(len(start), keep, max(1, num_rounds) + 1)).astype(np.int64)[1:]
    order: list[IntArray] = []
    for size in sizes:
        if size == len(left):
            continue
        ranked = _lowest_first(images, left, decimals)
        order.append(ranked[: len(left) - size])
        left = np.sort(ranked[len(left) - size :])
    order.append(_lowest_first(images, left, decimals))
    survival = np.zeros(len(images))
    survival[np.concatenate(order)] = np.arange(1, len(start) + 1) / len(start)
    return survival


def _lowest_first(images: FloatArray, chosen: IntArray, decimals: int) -> IntArray:
    """Return positions by VAS within the chosen, lowest first; of equals the later position comes first."""
    score = np.round(variance_alignment(images[chosen], second_moment(images[chosen])), decimals)
    ranked: IntArray = chosen[np.lexsort((-chosen, score))]
    return ranked


def highest(score: FloatArray, among: BoolArray, number: int) -> BoolArray:
    """Return which of the samples `among` have the `number` highest scores [n]; of equals, earlier positions."""
    inside = np.flatnonzero(among)
    order = inside[np.lexsort((inside, -score[inside]))]
    kept = np.zeros(len(score), np.bool_)
    kept[order[: max(0, number)]] = True
    return kept


def count_of(share: float, total: int) -> int:
    """Return a share of a number of samples, rounded half up."""
    return int(share * total + 0.5)
