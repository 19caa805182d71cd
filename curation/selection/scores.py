"""Scores for selecting samples by their embeddings: s-CLIPLoss and NormSim. Products in float32, sums in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from curation.engine.stage import Columns
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

_BLOCK_FLOATS = 1 << 22
"""Numbers in memory at once: 32 MiB in float64."""


class CaptionedImages(NamedTuple):
    """Embeddings of some samples: uids, images [n, d], all captions, and where each sample's begin, and the last ones end."""

    uids: Sequence[str]
    images: FloatArray
    texts: FloatArray
    starts: IntArray

    @classmethod
    def chosen(cls, columns: Columns, number: int, seed: int, stage: str, purpose: str) -> CaptionedImages:
        """Read those of a random subset; see `random_subset`."""
        inside = iter(random_subset(columns.uids, number, seed, stage, purpose).tolist())
        samples = [sample for part in columns.batches() for sample in part if next(inside)]
        texts = [sample["text_embeddings"] for sample in samples]
        return cls(
            [sample.uid for sample in samples],
            np.stack([sample["image_embedding"] for sample in samples]),
            np.concatenate(texts),
            np.cumsum([0, *(len(rows) for rows in texts)]),
        )

    def texts_of(self, row: int) -> FloatArray:
        """Return the captions of a sample."""
        texts: FloatArray = self.texts[self.starts[row] : self.starts[row + 1]]
        return texts


def embedding_norms(vectors: FloatArray, uids: Sequence[str], stage: str) -> FloatArray:
    """Return the norm of each embedding in float64 [n]; stored ones have the rounding error of float16.

    Raises:
        InputError: an embedding has no direction.
    """
    norms: FloatArray = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        raise InputError(
            f"{stage}: an embedding of sample {uids[int(bad[0])]} has no direction",
            allowed="finite numbers, not all 0",
            fix="check the model: it embeds this sample as zeros or not-a-number",
        )
    return norms


def number_of(sample: Sample, name: str, stage: str) -> float:
    """Return a sample's field as a number.

    Raises:
        InputError: it is not a number.
    """
    value = sample[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - nan
        raise InputError(
            f"{stage}: sample {sample.uid} has {name}={value!r}",
            allowed="a number in every sample",
            fix="name the field of a stage that scores, such as clip_score",
        )
    return float(value)


class Cut(NamedTuple):
    """The last of the samples with the highest scores: those above it are kept; of equal scores, the smaller uids."""

    score: float
    uid: str

    @classmethod
    def after(cls, score: FloatArray, uids: Sequence[str], among: BoolArray, kept: BoolArray) -> Cut | None:
        """Return the cut by which `kept` was chosen `among` all; None if all were kept."""
        inside = np.flatnonzero(kept)
        if not len(inside) or len(inside) == among.sum():
            return None
        last = int(inside[np.lexsort((inside, -score[inside]))[-1]])
        return cls(float(score[last]), uids[last])

    def keeps(self, score: float, uid: str) -> bool:
        """Return whether a sample is above the cut."""
        return (-score, uid) <= (-self.score, self.uid)


def draws_of(uids: Sequence[str], seed: int, stage: str, purpose: str) -> IntArray:
    """Return a random number for each sample, uint64 [n]; each depends on the sample's uid alone."""
    return np.array([draw_seed(seed, stage, uid, purpose) for uid in uids], np.uint64)


def random_subset(uids: Sequence[str], number: int, seed: int, stage: str, purpose: str) -> BoolArray:
    """Return which samples are in a random subset of this size [n]: those with the lowest `draws_of`."""
    chosen = np.zeros(len(uids), np.bool_)
    chosen[np.argsort(draws_of(uids, seed, stage, purpose), kind="stable")[:number]] = True
    return chosen


def last_draw(draws: IntArray, number: int) -> int:
    """Return the largest of the `number` lowest draws; -1 if the number is 0."""
    return int(np.sort(draws)[number - 1]) if number else -1


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


def rival_sums(similarity: FloatArray, temperature: float, num_others: float) -> FloatArray:
    """Return log sum_j exp(s_j / t) over other pairs j, for each row [n]; -inf if there are none.

    Args:
        similarity: To references that stand for the others, -inf where a row is compared with itself [n, m].
        temperature: t, above 0.
        num_others: How many others the references stand for.
    """
    count = np.isfinite(similarity).sum(axis=1)
    top = similarity.max(axis=1, initial=-np.inf)
    safe = np.where(count, top, 0.0)
    total = np.exp((similarity - safe[:, None]) / temperature).sum(axis=1) * num_others / np.maximum(count, 1)
    with np.errstate(divide="ignore"):
        sums: FloatArray = safe / temperature + np.log(total)
    return sums


def s_clip_loss(own: FloatArray, by_image: FloatArray, by_text: FloatArray, temperature: float) -> FloatArray:
    """Return s-CLIPLoss of pairs [n].

    With s_ij the similarity of image i and text j and t the temperature, the score of pair i is
    s_ii - (t / 2) (log sum_j exp(s_ij / t) + log sum_j exp(s_ji / t)), where j runs over all pairs, i included: minus t
    times its share of the contrastive loss.

    Args:
        own: s_ii [n].
        by_image: Log sums over the texts of other pairs; see `rival_sums` [n].
        by_text: Log sums over the images of other pairs [n].
        temperature: The model's, above 0.
    """
    both = np.logaddexp(own / temperature, by_image) + np.logaddexp(own / temperature, by_text)
    scores: FloatArray = own - temperature / 2 * both
    return scores


def second_moment(vectors: FloatArray, norms: FloatArray) -> FloatArray:
    """Return the mean of v v^T over the rows, divided by their norms [d, d], in float64."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for rows in _blocks(*vectors.shape):
        part = vectors[rows] / norms[rows, None]
        total += part.T @ part
    moment: FloatArray = total / max(1, len(vectors))
    return moment


def variance_alignment(images: FloatArray, norms: FloatArray, moment: FloatArray) -> FloatArray:
    """Return VAS, f^T M f, for each image [n]: the mean squared similarity to the images whose second moment M is."""
    scores = np.empty(len(images))
    for rows in _blocks(*images.shape):
        part = images[rows] / norms[rows, None]
        scores[rows] = np.einsum("ij,ij->i", part @ moment, part)
    return scores


def norm_sim_inf(images: FloatArray, target: FloatArray) -> FloatArray:
    """Return the infinity norm of each image's products with all target images [n]: the largest absolute value.

    Args:
        images: float16 [n, d].
        target: On the grid of `on_grid` [m, d].
    """
    from curation.vectors.rows import exact_products

    best = np.zeros(len(images))
    for rows in _blocks(len(target), 4 * max(images.shape)):
        np.maximum(best, np.abs(exact_products(images.astype(np.float64), target[rows])).max(axis=1), out=best)
    return best


def pool_core(images: FloatArray, norms: FloatArray, keep: int, num_rounds: int, decimals: int) -> IntArray:
    """Return the core of a pool: the positions of `keep` images, those with the highest VAS, f^T M f, with the core's own M.

    NormSim-D: each round computes M of the remaining images and drops those with the lowest VAS, the same number each time,
    until `keep` remain. Then the `keep` images with the highest VAS among all are taken until these stay the same, or as
    often as there were rounds.

    Args:
        images: [n, d].
        norms: Their norms [n].
        keep: Images in the core.
        num_rounds: Number of rounds.
        decimals: VAS is rounded before ranking, as its last bits differ between machines; ties by position.
    """
    everyone: IntArray = np.arange(len(images))
    left, keep = everyone, min(max(1, keep), len(images))
    total = second_moment(images, norms) * len(images)
    for size in np.round(np.linspace(len(images), keep, max(1, num_rounds) + 1)).astype(np.int64)[1:].tolist():
        score = np.round(variance_alignment(images[left], norms[left], total / len(left)), decimals)
        stays = highest(score, np.ones(len(left), np.bool_), size)
        dropped, left = left[~stays], left[stays]
        total -= second_moment(images[dropped], norms[dropped]) * len(dropped)
    for _ in range(max(1, num_rounds)):
        inside = np.isin(everyone, left)
        moment = second_moment(images[left], norms[left])
        score = np.round(alignment_to_others(images, norms, moment, len(left), inside), decimals)
        core = np.flatnonzero(highest(score, np.ones(len(images), np.bool_), keep))
        if np.array_equal(core, left):
            break
        left = core
    return left


def alignment_to_others(
    images: FloatArray, norms: FloatArray, moment: FloatArray, number: int, inside: BoolArray
) -> FloatArray:
    """Return VAS of each image to the images of a moment, without itself [n].

    Args:
        images: [n, d].
        norms: Their norms [n].
        moment: M of the images [d, d].
        number: Number of these images.
        inside: Which of the images are among them [n].
    """
    score = variance_alignment(images, norms, moment)
    others: FloatArray = np.where(inside, (score * number - 1.0) / max(number - 1, 1), score)
    return others


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
