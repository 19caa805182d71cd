"""Scores for selecting samples by their embeddings: s-CLIPLoss and NormSim. Products in float32, sums in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from curation.engine.stage import Corpus
from data_manifests.errors import InputError
from data_manifests.seeds import draw_seed

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

_BLOCK_FLOATS = 1 << 24
"""Similarities in memory at once: 64 MiB in float32."""


class CaptionedImages(NamedTuple):
    """Unit rows: images [n, d], all captions [sum of counts, d], each sample's first caption and their number [n]."""

    images: FloatArray
    texts: FloatArray
    first: IntArray
    counts: IntArray

    @classmethod
    def of(cls, corpus: Corpus, stage: str) -> CaptionedImages:
        """Read the embeddings of a corpus.

        Raises:
            InputError: an embedding has no direction.
        """
        captions = corpus.column("text_embeddings")
        counts = np.array([len(rows) for rows in captions])
        images = embedding_directions(corpus.array("image_embedding"), corpus.uids, stage)
        owners = [uid for uid, rows in zip(corpus.uids, captions, strict=True) for _ in rows]
        texts = embedding_directions(np.concatenate(captions), owners, stage)
        return cls(images, texts, np.cumsum(counts) - counts, counts)


def embedding_directions(vectors: FloatArray, uids: Sequence[str], stage: str) -> FloatArray:
    """Return `unit_rows` of samples' embeddings.

    Raises:
        InputError: an embedding has no direction.
    """
    try:
        return unit_rows(vectors)
    except ValueError as error:
        raise InputError(
            f"{stage}: an embedding of sample {uids[error.args[0]]} has no direction",
            allowed="finite numbers, not all 0",
            fix="check the model: it embeds this sample as zeros or not-a-number",
        ) from None


def numeric_field(corpus: Corpus, name: str, stage: str) -> FloatArray:
    """Return a field as float64 [n].

    Raises:
        InputError: a sample's value is not a number.
    """
    values = corpus.column(name)
    for uid, value in zip(corpus.uids, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - nan
            raise InputError(
                f"{stage}: sample {uid} has {name}={value!r}",
                allowed="a number in every sample",
                fix="name the field of a stage that scores, such as clip_score",
            )
    return np.array(values, np.float64)


def random_subset(uids: Sequence[str], number: int, seed: int, stage: str, purpose: str) -> BoolArray:
    """Return which samples are in a random subset of this size [n]; each sample's draw depends on its uid alone."""
    draws = np.array([draw_seed(seed, stage, uid, purpose) for uid in uids], np.uint64)
    chosen = np.zeros(len(uids), np.bool_)
    chosen[np.argsort(draws, kind="stable")[:number]] = True
    return chosen


def _blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Yield slices of rows whose products with `num_columns` others fit in memory."""
    step = max(1, _BLOCK_FLOATS // max(1, num_columns))
    return (slice(first, first + step) for first in range(0, num_rows, step))


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Return float32 rows of length 1 [n, d]; stored ones have the rounding error of float16.

    Raises:
        ValueError: a row has no direction; the argument is its number.
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

    With s_ij the similarity of image i and text j and t the temperature, the score of pair i is
    s_ii - (t / 2) (log sum_j exp(s_ij / t) + log sum_j exp(s_ji / t)), where j runs over all pairs, i included: minus t
    times its share of the contrastive loss.

    Args:
        images: Unit rows [b, d].
        texts: Unit rows [b, d]; row i belongs to image i.
        temperature: The model's, above 0.
    """
    size = len(images)
    own = np.einsum("ij,ij->i", images, texts, dtype=np.float64)
    by_image = np.empty(size)
    peak, total = np.full(size, -np.inf), np.zeros(size)
    for rows in _blocks(size, size):
        part = images[rows] @ texts.T
        top = part.max(axis=1, keepdims=True)
        sums = np.exp((part - top) / np.float32(temperature)).sum(axis=1, dtype=np.float64)
        by_image[rows] = top[:, 0] / temperature + np.log(sums)
        # columns are complete only after the last block: each keeps its largest entry and a sum relative to it
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

    Every shuffle splits all pairs into batches of equal size, as near to `batch_size` as the number allows. If all fit
    into one batch, one pass is exact and nothing is shuffled.

    Args:
        images: Unit rows [n, d].
        texts: Unit rows [n, d].
        draws: Draws the shuffles.
        temperature: The model's.
        batch_size: Pairs that are compared with each other.
        num_shuffles: Shuffles to average over.
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
    for rows in _blocks(*vectors.shape):
        part = vectors[rows].astype(np.float64)
        total += part.T @ part
    moment: FloatArray = total / max(1, len(vectors))
    return moment


def variance_alignment(images: FloatArray, moment: FloatArray) -> FloatArray:
    """Return VAS, f^T M f, for each image [n]: the mean squared similarity to the images whose second moment M is."""
    scores = np.empty(len(images))
    for rows in _blocks(*images.shape):
        part = images[rows].astype(np.float64)
        scores[rows] = np.einsum("ij,ij->i", part @ moment, part)
    return scores


def norm_sim_2(images: FloatArray, target: FloatArray) -> FloatArray:
    """Return the 2-norm of each image's similarities to all target images [n]."""
    squared = variance_alignment(images, second_moment(target)) * len(target)
    norm: FloatArray = np.sqrt(np.maximum(squared, 0.0))
    return norm


def norm_sim_inf(images: FloatArray, target: FloatArray) -> FloatArray:
    """Return the infinity norm of each image's similarities to all target images [n]: the largest absolute value."""
    best = np.zeros(len(images))
    for rows in _blocks(len(images), len(target)):
        best[rows] = np.abs(images[rows] @ target.T).max(axis=1)
    return best


def norm_sim_d(images: FloatArray, start: IntArray, keep: int, num_rounds: int, decimals: int) -> FloatArray:
    """Return how long each image of `start` survives when the least aligned are dropped round by round [n], 0 to 1.

    Each round computes the second moment of the remaining images and drops those with the lowest VAS, the same number
    each time, until `keep` remain. Survival is the rank: dropped earlier is lower; within a round and at the end by VAS,
    ties by position (the earlier one stays). Images outside `start` get 0. The `keep` highest are what the rounds kept.

    Args:
        images: Unit rows [n, d].
        start: Positions of the first round, ascending.
        keep: Images that remain at the end.
        num_rounds: Number of rounds.
        decimals: VAS is rounded before ranking, as its last bits differ between machines.
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
    """Return the chosen positions by their VAS among the chosen, lowest first; of ties the later position comes first."""
    score = np.round(variance_alignment(images[chosen], second_moment(images[chosen])), decimals)
    ranked: IntArray = chosen[np.lexsort((-chosen, score))]
    return ranked


def highest(score: FloatArray, among: BoolArray, number: int) -> BoolArray:
    """Return which samples of `among` have the `number` highest scores [n]; of ties, the earlier positions."""
    inside = np.flatnonzero(among)
    order = inside[np.lexsort((inside, -score[inside]))]
    kept = np.zeros(len(score), np.bool_)
    kept[order[: max(0, number)]] = True
    return kept


def count_of(share: float, total: int) -> int:
    """Return a share of a number of samples, rounded half up."""
    return int(share * total + 0.5)
