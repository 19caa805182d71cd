"""Blind judges: what a test's texts alone give away, reported with every accuracy of a model.

A judge prefers the text that is more like true captions. It learns what these look like from captions of other images:
from the test's own, one half of the images for the other half, or from texts of the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from training.evaluate.benchmark_result import BenchmarkResult, CaseValues

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.evaluate.features import EmbedTexts

DECIMALS = 4
MAX_MEAN_TEXTS = 2000


@dataclass(frozen=True)
class Case:
    """One case of a test of texts: an image with true and false texts.

    Attributes:
        id: Unique in its category; the same for every model.
        image: The image.
        category: The category that it is reported under.
        right: The true texts, one or more; each must beat every wrong one.
        wrong: The false texts, one or more.
        group: Name of cases that stand or fall together, such as those of two images with each other's texts: one judge judges
            them all, and learns from none of their images. Empty for a case by itself.
    """

    id: str
    image: str
    category: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    group: str = ""


def case_values(cases: Sequence[Case], values: NDArray[np.float64]) -> CaseValues:
    """Return the values of cases [n]; intervals draw groups whole."""
    return CaseValues(tuple(case.id for case in cases), tuple(case.group or case.image for case in cases), values)


def rows_by_category(cases: Sequence[Case]) -> dict[str, list[int]]:
    """Return the numbers of the cases of each category, sorted by category."""
    rows: dict[str, list[int]] = {}
    for row, case in enumerate(cases):
        rows.setdefault(case.category, []).append(row)
    return dict(sorted(rows.items()))


@dataclass(frozen=True)
class ReferenceTexts:
    """Texts that blind judges learn from.

    Attributes:
        own: True texts of the test's images, as (image, text); a case uses those of images that are in no case of its half.
        given: Texts from elsewhere; if there are any, every case uses these alone.
    """

    own: tuple[tuple[str, str], ...] = ()
    given: tuple[str, ...] = ()

    def by_half(self, cases: Sequence[Case]) -> list[tuple[NDArray[np.int64], list[str]]]:
        """Return groups of cases (their numbers), each with the texts that its judge may learn from."""
        if self.given:
            return [(np.arange(len(cases)), list(self.given))]
        sides = np.array([_half(case.group or case.image) for case in cases], dtype=np.int64)
        images = [
            {case.image for case, of_case in zip(cases, sides, strict=True) if of_case == side} for side in (0, 1)
        ]
        in_cases = images[0] | images[1]
        texts = [
            [
                text
                for image, text in self.own
                if (image not in images[side] if image in in_cases else _half(image) != side)
            ]
            for side in (0, 1)
        ]
        return [(np.flatnonzero(sides == side), texts[side]) for side in (0, 1)]


def _half(name: str) -> int:
    return blake3(f"blind half of {name}".encode()).digest(length=1)[0] % 2


def true_texts(cases: Sequence[Case]) -> tuple[tuple[str, str], ...]:
    """Return the true texts of cases, as (image, text), each once."""
    return tuple(dict.fromkeys((case.image, text) for case in cases for text in case.right))


def min_gaps(cases: Sequence[Case], right: NDArray[np.float64], wrong: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each case's lowest score of a right text minus the highest score of a wrong one [n].

    Args:
        cases: The cases [n].
        right: Scores of all right texts, case by case.
        wrong: Scores of all wrong texts, case by case.
    """
    sides = [case.right for case in cases], [case.wrong for case in cases]
    starts = [np.cumsum([0, *(len(texts) for texts in side)])[:-1] for side in sides]
    if not cases:
        return np.zeros(0)
    lowest, highest = np.minimum.reduceat(right, starts[0]), np.maximum.reduceat(wrong, starts[1])
    gaps: NDArray[np.float64] = lowest - highest
    return gaps


def flatten_texts(cases: Sequence[Case]) -> tuple[list[str], list[str]]:
    """Return all right and all wrong texts, case by case."""
    return [text for case in cases for text in case.right], [text for case in cases for text in case.wrong]


def length_gaps(cases: Sequence[Case]) -> NDArray[np.float64]:
    """Return by how many words each case's right text is shorter than its wrong one: this judge prefers short texts.

    An accuracy far below one half gives a test away as much as one far above: the opposite judge is right.
    """
    right, wrong = (-np.array([len(text.split()) for text in side], dtype=np.float64) for side in flatten_texts(cases))
    return min_gaps(cases, right, wrong)


def text_encoder_gaps(embed: EmbedTexts, cases: Sequence[Case], reference: ReferenceTexts) -> NDArray[np.float64]:
    """Return by how much the model's text encoder alone finds each right text more like captions in general.

    A text's score is its similarity to the mean embedding of the reference texts, of at most 2,000 of them (those with
    the smallest hash).
    """
    right, wrong = (embed(side).astype(np.float64) for side in flatten_texts(cases))
    gaps = np.zeros(len(cases))
    of_right = np.repeat(np.arange(len(cases)), [len(case.right) for case in cases])
    of_wrong = np.repeat(np.arange(len(cases)), [len(case.wrong) for case in cases])
    for rows, texts in reference.by_half(cases):
        chosen = sorted(set(texts), key=lambda text: blake3(text.encode()).digest())[:MAX_MEAN_TEXTS]
        if not chosen or not len(rows):
            continue
        mean = embed(chosen).astype(np.float64).mean(axis=0)
        part = [cases[row] for row in rows]
        sides = [
            (side[np.isin(owner, rows)] * mean).sum(axis=1) for side, owner in ((right, of_right), (wrong, of_wrong))
        ]
        gaps[rows] = min_gaps(part, sides[0], sides[1])
    return gaps


def gap_accuracy(gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 for a case that a judge gets right, 0 for one it gets wrong, 0.5 for a tie."""
    accuracy: NDArray[np.float64] = (1 + np.sign(np.round(gaps, DECIMALS))) / 2
    return accuracy


def add_blind_accuracy(
    result: BenchmarkResult, prefix: str, cases: Sequence[Case], gaps: Mapping[str, NDArray[np.float64]]
) -> BenchmarkResult:
    """Return a result with ``blind_JUDGE`` added to each category, and their mean.

    The mean is over the same categories as the model's.

    Args:
        result: Its metrics may have an entry for each category under `prefix`.
        prefix: Such as ``categories``.
        cases: The cases; in any order.
        gaps: Gaps of the cases, by judge.
    """
    metrics: dict[str, Any] = {**result.metrics}
    entries = {name: dict(entry) for name, entry in metrics.get(prefix, {}).items()}
    kept, means, rows = dict(result.cases), dict(result.means), rows_by_category(cases)
    averaged = {name.split(".")[1] for names in means.values() for name in names if name.startswith(f"{prefix}.")}
    for judge, of_cases in gaps.items():
        accuracy = gap_accuracy(of_cases)
        for category, of_category in rows.items():
            values = case_values([cases[row] for row in of_category], accuracy[of_category])
            kept[f"{prefix}.{category}.blind_{judge}"] = values
            entries.setdefault(category, {})[f"blind_{judge}"] = float(values.values.mean())
        names = [f"{prefix}.{category}.blind_{judge}" for category in rows if not averaged or category in averaged]
        metrics[f"blind_{judge}"] = float(np.mean([kept[name].values.mean() for name in names]))
        means[f"blind_{judge}"] = tuple(names)
    return BenchmarkResult({**metrics, prefix: entries}, kept, means)


def set_overall_blind_accuracy(
    result: BenchmarkResult, cases: Sequence[Case], gaps: Mapping[str, NDArray[np.float64]]
) -> BenchmarkResult:
    """Return a result whose overall ``blind_JUDGE`` is the mean over these cases, not over the categories."""
    metrics, kept, means = dict(result.metrics), dict(result.cases), dict(result.means)
    for judge, of_cases in gaps.items():
        accuracy = gap_accuracy(of_cases)
        metrics[f"blind_{judge}"] = float(accuracy.mean())
        kept[f"blind_{judge}"] = case_values(cases, accuracy)
        means.pop(f"blind_{judge}", None)
    return BenchmarkResult(metrics, kept, means)
