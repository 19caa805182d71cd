"""Retrieval in both directions: the rank of the right caption or image among all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data_manifests.errors import InputError
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.evaluate.features import EvalFeatures

KS = (1, 5, 10)
CHUNK_IMAGES = 256


def retrieval(features: EvalFeatures) -> BenchmarkResult:
    """Return recall at 1, 5 and 10, the median rank and the mean average precision, image to text and text to image.

    The rank of a query is one more than the number of *wrong* items that score at least as high as its best right
    one: a tie with a wrong item counts as wrong, so a model that gives everything the same score finds nothing.

    Returns:
        Metrics `image_to_text_R@1` and so on (fractions 0 to 1), `image_to_text_medR` (1 is best), `image_to_text_MAP` (mean
        over the queries of the average precision over a query's right items; with one right item, the mean
        reciprocal rank), `num_images`, `num_texts`, `num_ties_image_to_text`, `num_ties_text_to_image` (queries where a wrong
        item has the same score as the best right one), and `ties_in_order`: recall where the earlier of items with equal scores
        is ranked first, as in a stable sort (CLIP_benchmark takes the first k of ``topk``, where the order of ties is
        undefined; without ties all three are equal).

    Source: recall as in Karpathy and Fei-Fei 2015, section 4.2 (arXiv:1412.2306); average precision as in Manning et
        al. 2008, section 8.4.
    Differs: ties count against the model instead of being broken by the sort.

    Raises:
        InputError: an image has no caption.
    """
    num_images, num_texts = len(features.image), len(features.text)
    owner = features.text_owner
    if len(np.unique(owner)) != num_images:
        raise InputError("retrieval: an image has no caption", allowed="at least one caption for each image")
    ranks = _ranks(features)
    result: dict[str, Any] = {"num_images": num_images, "num_texts": num_texts}
    number = np.arange(num_texts) - np.searchsorted(owner, owner)
    captions = tuple(f"{features.uids[image]}/{caption}" for image, caption in zip(owner, number, strict=True))
    images = tuple(features.uids[image] for image in owner)
    items: dict[str, CaseValues] = {}
    in_order: dict[str, float] = {}
    for name, found, ids, whose in (
        ("image_to_text", ranks[0], features.uids, features.uids),
        ("text_to_image", ranks[1], captions, images),
    ):
        items |= {f"{name}_R@{k}": CaseValues(ids, whose, (found.above < k).astype(np.float64)) for k in KS}
        result |= {f"{name}_R@{k}": float((found.above < k).mean()) for k in KS}
        result[f"{name}_medR"] = float(np.median(found.above) + 1)
        items[f"{name}_MAP"] = CaseValues(ids, whose, found.precision)
        result[f"{name}_MAP"] = float(found.precision.mean())
        result[f"num_ties_{name}"] = int(found.ties.sum())
        in_order |= {f"{name}_R@{k}": float((found.before < k).mean()) for k in KS}
    return BenchmarkResult({**result, "ties_in_order": in_order}, items)


class _Ranks(NamedTuple):
    """Ranks of the queries of one direction.

    Attributes:
        above: Wrong items that score at least as high as the best right one [queries].
        before: Wrong items that a stable sort puts before the best right one [queries].
        ties: Whether a wrong item has the same score as the best right one [queries].
        precision: Average precision over the right items [queries].
    """

    above: NDArray[np.int64]
    before: NDArray[np.int64]
    ties: NDArray[np.bool_]
    precision: NDArray[np.float64]


def _ranks(features: EvalFeatures) -> tuple[_Ranks, _Ranks]:
    """Return the ranks image to text and text to image."""
    num_images, num_texts, owner = len(features.image), len(features.text), features.text_owner
    own = np.empty(num_texts)
    for start, scores in _score_blocks(features):
        inside = np.flatnonzero((owner >= start) & (owner < start + len(scores)))
        own[inside] = scores[owner[inside] - start, inside]
    best = np.full(num_images, -np.inf)
    np.maximum.at(best, owner, own)
    # the first of a query's best right texts
    leader = np.full(num_images, num_texts, dtype=np.int64)
    np.minimum.at(leader, owner, np.where(own == best[owner], np.arange(num_texts), num_texts))

    above_own = np.zeros(num_texts, dtype=np.int64)  # wrong texts at least as near to a text's image as the text is
    images, texts = _empty_ranks(num_images), _empty_ranks(num_texts)
    number = np.arange(num_texts)
    for start, scores in _score_blocks(features):
        rows = np.arange(start, start + len(scores))
        wrong = owner[None, :] != rows[:, None]
        equal, more = (scores == best[rows, None]) & wrong, (scores > best[rows, None]) & wrong
        images.above[rows] = (equal | more).sum(axis=1)
        images.ties[rows] = equal.any(axis=1)
        images.before[rows] = (more | (equal & (number < leader[rows, None]))).sum(axis=1)
        equal, more = (scores == own) & wrong, (scores > own) & wrong
        texts.above[:] += (equal | more).sum(axis=0)
        texts.ties[:] |= equal.any(axis=0)
        texts.before[:] += (more | (equal & (rows[:, None] < owner))).sum(axis=0)
        for text in np.flatnonzero((owner >= start) & (owner < start + len(scores))):
            row = owner[text] - start
            above_own[text] = np.count_nonzero((scores[row] >= own[text]) & wrong[row])
    texts.precision[:] = 1 / (texts.above + 1)
    # right texts of an image in the order of their scores: the i-th of them has i - 1 right ones before it
    order = np.lexsort((-own, owner))
    rank = np.arange(num_texts) - np.searchsorted(owner, owner) + 1
    np.add.at(images.precision, owner, rank / (rank + above_own[order]))
    images.precision[:] /= np.bincount(owner, minlength=num_images)
    return images, texts


def _empty_ranks(num: int) -> _Ranks:
    return _Ranks(np.zeros(num, np.int64), np.zeros(num, np.int64), np.zeros(num, np.bool_), np.zeros(num))


def _score_blocks(features: EvalFeatures) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield (first image, scores [images, m]); equal embeddings have exactly equal scores.

    A matrix product may round equal columns differently, so each distinct one is computed once.
    """
    texts, text_row = np.unique(features.text, axis=0, return_inverse=True)
    images, image_row = np.unique(features.image, axis=0, return_inverse=True)
    products = images.astype(np.float64), texts.astype(np.float64).T
    for start in range(0, len(image_row), CHUNK_IMAGES):
        distinct, inverse = np.unique(image_row[start : start + CHUNK_IMAGES], return_inverse=True)
        scores: NDArray[np.float64] = products[0][distinct] @ products[1]
        yield start, scores[inverse][:, text_row]
