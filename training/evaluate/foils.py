"""Foils: does every true text of an image score above every false one?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues
from training.evaluate.blind import Case, case_values, flatten_texts, min_gaps, rows_by_category
from training.evaluate.encoding_cache import tokens_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.evaluate.features import EmbedTexts
    from training.model.clip_model import ClipModel


@dataclass(frozen=True)
class CaseCounts:
    """How many cases a test lists by category, and how many of them cannot be evaluated.

    Attributes:
        listed: Cases in the test's files.
        missing: Cases whose image is missing or cannot be read.
        outside_mean: Categories that are shown but not part of the mean over categories, unless there is no other.
    """

    listed: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    outside_mean: frozenset[str] = frozenset()


def foil_accuracy(
    embed: EmbedTexts, cases: Sequence[Case], image: NDArray[np.float32], counts: CaseCounts = CaseCounts()
) -> BenchmarkResult:
    """Return how often all right texts of a case score above all wrong ones; a tie counts as wrong.

    Args:
        embed: The model's text encoder.
        cases: The cases [n].
        image: Unit-norm embeddings of their images [n, embed_dim].
        counts: What the test's files list.

    Returns:
        Metrics `accuracy` (mean over the categories), `micro_accuracy` (over the cases), `chance`, `num_cases`, `num_ties`, where counts
        list cases `num_listed` and `num_missing`, and `categories`: the same by category.

    Raises:
        InputError: no case.
    """
    if not cases:
        raise InputError("test of texts: no case", fix="check the benchmark's files and images")
    right, wrong = flatten_texts(cases)
    embedded = embed([*right, *wrong])
    owners = [row for row, case in enumerate(cases) for _ in case.right]
    owners += [row for row, case in enumerate(cases) for _ in case.wrong]
    scores = (image[owners].astype(np.float64) * embedded.astype(np.float64)).sum(axis=1)
    gaps = min_gaps(cases, scores[: len(right)], scores[len(right) :])
    correct = (gaps > 0).astype(np.float64)
    categories: dict[str, Any] = {}
    kept: dict[str, CaseValues] = {}
    rows = rows_by_category(cases)
    for category in sorted({*rows, *counts.listed}):
        of_category = rows.get(category, [])
        entry = _counts(gaps[of_category], counts.listed.get(category), counts.missing.get(category, 0))
        if of_category:
            kept[f"categories.{category}.accuracy"] = case_values(
                [cases[row] for row in of_category], correct[of_category]
            )
            entry = {"accuracy": float(correct[of_category].mean()), **entry}
        categories[category] = entry
    means = tuple(name for name in kept if name.split(".")[1] not in counts.outside_mean) or tuple(kept)
    ids = tuple(f"{case.category}/{case.id}" for case in cases)
    kept["micro_accuracy"] = CaseValues(ids, tuple(case.image for case in cases), correct)
    total = sum(counts.listed.values()) if counts.listed else None
    metrics = {
        "accuracy": float(np.mean([kept[name].values.mean() for name in means])),
        "micro_accuracy": float(correct.mean()),
        "chance": chance(cases),
        **_counts(gaps, total, sum(counts.missing.values())),
        "categories": categories,
    }
    return BenchmarkResult(metrics, kept, {"accuracy": means})


def chance(cases: Sequence[Case]) -> float:
    """Return the accuracy of guessing: the share of all orders of a case's texts that have the right ones first."""
    return float(np.mean([1 / comb(len(case.right) + len(case.wrong), len(case.right)) for case in cases]))


def add_both_ways(result: BenchmarkResult, cases: Sequence[Case]) -> BenchmarkResult:
    """Return a result with `both_ways`: the share of groups of which every case is right.

    In a group of two photographs each has the other's true text as its false one, so a judge that sees only texts is
    right at most once, and reaches 0; guessing reaches 0.25.

    Source: Thrush et al. 2022 (Winoground, arXiv 2204.03162), the image side of its group score.

    Args:
        result: By `foil_accuracy`.
        cases: The same cases, each in a group.
    """
    correct: dict[str, list[float]] = {}
    image: dict[str, str] = {}
    for case, value in zip(cases, result.cases["micro_accuracy"].values.tolist(), strict=True):
        correct.setdefault(case.group, []).append(value)
        image.setdefault(case.group, case.image)
    values = np.array([min(of_group) for of_group in correct.values()], dtype=np.float64)
    kept = {**result.cases, "both_ways": CaseValues(tuple(correct), tuple(image.values()), values)}
    return BenchmarkResult({**result.metrics, "both_ways": float(values.mean())}, kept, result.means)


def equal_cases(model: ClipModel, cases: Sequence[Case]) -> int:
    """Return in how many cases a true and a false text have the same tokens once cut to the model's context: ties, whatever it learned."""
    right, wrong = flatten_texts(cases)
    names = {
        text: row.tobytes()
        for text, row in zip([*right, *wrong], tokens_of(model, [*right, *wrong]).numpy(), strict=True)
    }
    return sum(
        not {names[text] for text in case.right}.isdisjoint(names[text] for text in case.wrong) for case in cases
    )


def _counts(gaps: NDArray[np.float64], listed: int | None, missing: int) -> dict[str, Any]:
    found = {"num_cases": len(gaps), "num_ties": int((gaps == 0).sum())}
    return found if listed is None else {**found, "num_listed": listed, "num_missing": missing}


def count_cases(
    cases: Sequence[Case], readable: NDArray[np.bool_], outside_mean: frozenset[str] = frozenset()
) -> CaseCounts:
    """Return the counts of cases of which some have a readable image."""
    listed = Counter(case.category for case in cases)
    found = Counter(case.category for case, is_readable in zip(cases, readable, strict=True) if is_readable)
    missing = {category: number - found[category] for category, number in listed.items()}
    return CaseCounts(listed, missing, outside_mean)


def rare_categories(cases: Sequence[Case], min_cases: int) -> frozenset[str]:
    """Return the categories with fewer cases: two of them would weigh as much as two hundred elsewhere."""
    counts = Counter(case.category for case in cases)
    return frozenset(category for category, number in counts.items() if number < min_cases)
