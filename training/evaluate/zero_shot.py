"""Zero-shot classification: is an image nearest to the text of its class?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues
from training.evaluate.features import encode_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.model.clip_model import ClipModel

TEMPLATES = (
    "a photo of a {}.",
    "a photo that shows a {}.",
    "a picture of one {}, close up.",
    "a picture of a {} from some way off.",
    "the {} in this photograph.",
    "a small photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
)
"""Templates for data without its own: eight plain sentences."""


def class_embeddings(
    model: ClipModel, classes: Sequence[Sequence[str]], templates: Sequence[str] = TEMPLATES
) -> NDArray[np.float32]:
    """Return a unit-norm embedding of each class, float32 [classes, embed_dim].

    It is the normalised mean of the unit-norm embeddings of all its names in all templates.

    Source: Radford et al. 2021 (CLIP), section 3.1.4 (arXiv:2103.00020).
    Differs: eight templates of our own instead of eighty; a class may have several names.

    Args:
        model: The model.
        classes: The names of each class, one or more.
        templates: Texts with ``{}`` or ``{c}`` where the name goes.
    """
    texts = [[fill(template, name) for name in names for template in templates] for names in classes]
    flat = iter(encode_texts(model, [text for of_class in texts for text in of_class]).astype(np.float64))
    means = np.stack([np.mean([next(flat) for _ in of_class], axis=0) for of_class in texts])
    found: NDArray[np.float32] = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
    return found


def fill(template: str, name: str) -> str:
    """Return a template with the name of a class filled in."""
    return template.replace("{c}", name).replace("{}", name)


def zero_shot(
    image: NDArray[np.float32],
    label: NDArray[np.int64],
    classes: NDArray[np.float32],
    names: Sequence[str],
    ids: Sequence[str],
) -> BenchmarkResult:
    """Return how often an image's class is ranked first, or among the first five; a tie counts as wrong.

    Args:
        image: Unit-norm embeddings [n, d].
        label: Each image's class [n].
        classes: Unit-norm embeddings of the classes [c, d].
        names: Names of the classes in the result [c].
        ids: Names of the images in the result [n].

    Returns:
        Metrics `top1`, `top5` (with more than five classes), `mean_per_class` (mean of the classes' own top-1, empty classes
        left out), `num_images`, `num_classes`, `num_ties` (another class has the same score as the right one), and `classes`: by name `accuracy` and `num_images`.

    Raises:
        InputError: no image, or fewer than two classes.
    """
    if not len(image) or len(classes) < 2:
        raise InputError(
            f"zero-shot: {len(image)} images of {len(classes)} classes", allowed="at least one image and two classes"
        )
    distinct, column = np.unique(classes, axis=0, return_inverse=True)
    # each distinct class is computed once: a matrix product may round equal columns differently
    scores = (image.astype(np.float64) @ distinct.astype(np.float64).T)[:, column]
    own = scores[np.arange(len(image)), label][:, None]
    above = (scores >= own).sum(axis=1) - 1
    ties = (scores == own).sum(axis=1) > 1
    first = (above < 1).astype(np.float64)
    images = tuple(ids)
    metrics: dict[str, Any] = {"top1": float(first.mean())}
    items = {"top1": CaseValues(images, images, first)}
    if len(classes) > 5:
        five = (above < 5).astype(np.float64)
        metrics["top5"], items["top5"] = float(five.mean()), CaseValues(images, images, five)
    by_class: dict[str, Any] = {}
    for number, name in enumerate(names):
        rows = np.flatnonzero(label == number)
        if len(rows):
            of_class = tuple(images[row] for row in rows)
            by_class[name] = {"accuracy": float(first[rows].mean()), "num_images": len(rows)}
            items[f"classes.{name}.accuracy"] = CaseValues(of_class, of_class, first[rows])
    means = tuple(f"classes.{name}.accuracy" for name in by_class)
    metrics["mean_per_class"] = float(np.mean([entry["accuracy"] for entry in by_class.values()]))
    metrics |= {"num_images": len(image), "num_classes": len(classes), "num_ties": int(ties.sum()), "classes": by_class}
    return BenchmarkResult(metrics, items, {"mean_per_class": means})
