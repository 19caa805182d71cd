"""Retrieval both ways: how high the right caption or image stands among all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError
from training.evaluate.items import Items, Outcome

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.evaluate.features import EvalFeatures

KS = (1, 5, 10)
CHUNK_IMAGES = 256


def retrieval(features: EvalFeatures) -> Outcome:
    """Return recall at 1, 5 and 10 and the median rank, image to text and text to image.

    The rank of a query is one more than the number of *wrong* items that score at least as high as its best right
    one: a tie with a wrong item counts as wrong, so a model that gives everything the same score finds nothing.

    Returns:
        Metrics `image_to_text_R@1` and so on (fractions 0 to 1), `image_to_text_medR` (1 is best), `num_images`, `num_texts`,
        and `num_ties_image_to_text`, `num_ties_text_to_image`: queries where a wrong item scores just like the best
        right one.

    Source: recall as in Karpathy and Fei-Fei 2015, section 4.2 (arXiv:1412.2306).
    Differs: ties are counted against the model instead of being settled by the sort's order.

    Raises:
        InputError: an image has no caption.
    """
    num_images, num_texts = len(features.image), len(features.text)
    owner = features.text_owner
    if len(np.unique(owner)) != num_images:
        raise InputError("retrieval: an image has no caption", allowed="at least one caption for each image")
    own_of_text = np.empty(num_texts)
    best_of_image = np.full(num_images, -np.inf)
    for start, scores in _score_blocks(features):
        inside = np.flatnonzero((owner >= start) & (owner < start + len(scores)))
        own_of_text[inside] = scores[owner[inside] - start, inside]
    np.maximum.at(best_of_image, owner, own_of_text)

    above_text, ties_text = np.zeros(num_texts, dtype=np.int64), np.zeros(num_texts, dtype=bool)
    above_image, ties_image = np.zeros(num_images, dtype=np.int64), np.zeros(num_images, dtype=bool)
    for start, scores in _score_blocks(features):
        rows = np.arange(start, start + len(scores))
        wrong = owner[None, :] != rows[:, None]
        best = best_of_image[rows, None]
        above_image[rows] = ((scores >= best) & wrong).sum(axis=1)
        ties_image[rows] = ((scores == best) & wrong).any(axis=1)
        above_text += ((scores >= own_of_text) & wrong).sum(axis=0)
        ties_text |= ((scores == own_of_text) & wrong).any(axis=0)
    result: dict[str, Any] = {"num_images": num_images, "num_texts": num_texts}
    number = np.arange(num_texts) - np.searchsorted(owner, owner)
    captions = tuple(f"{features.uids[image]}/{place}" for image, place in zip(owner, number, strict=True))
    images = tuple(features.uids[image] for image in owner)
    items: dict[str, Items] = {}
    for name, above, ties, ids, whose in (
        ("image_to_text", above_image, ties_image, features.uids, features.uids),
        ("text_to_image", above_text, ties_text, captions, images),
    ):
        items |= {f"{name}_R@{k}": Items(ids, whose, (above < k).astype(np.float64)) for k in KS}
        result |= {f"{name}_R@{k}": float((above < k).mean()) for k in KS}
        result[f"{name}_medR"] = float(np.median(above) + 1)
        result[f"num_ties_{name}"] = int(ties.sum())
    return Outcome(result, items)


def _score_blocks(features: EvalFeatures) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield (first image, scores [images, m]); equal embeddings have exactly equal scores, wherever they stand.

    A matrix product may round equal columns differently by their place, so each distinct one is computed once.
    """
    texts, text_row = np.unique(features.text, axis=0, return_inverse=True)
    images, image_row = np.unique(features.image, axis=0, return_inverse=True)
    products = images.astype(np.float64), texts.astype(np.float64).T
    for start in range(0, len(image_row), CHUNK_IMAGES):
        distinct, place = np.unique(image_row[start : start + CHUNK_IMAGES], return_inverse=True)
        scores: NDArray[np.float64] = products[0][distinct] @ products[1]
        yield start, scores[place][:, text_row]
