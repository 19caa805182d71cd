"""Tests of texts: does every true text of an image score above every false one?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues
from training.evaluate.blind import Case, flatten_texts, min_gaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.evaluate.features import EmbedTexts


@dataclass(frozen=True)
class CaseCounts:
    """How many cases a test lists by category, and how many of them cannot be asked.

    Attributes:
        listed: Cases in the test's files.
        missing: Cases whose image is not there or cannot be read.
        apart: Categories that are shown and are no part of the mean over categories, unless there is no other.
    """

    listed: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    apart: frozenset[str] = frozenset()


def foil_accuracy(
    embed: EmbedTexts, cases: Sequence[Case], image: NDArray[np.float32], tally: CaseCounts | None = None
) -> BenchmarkResult:
    """Return how often all right texts of a case score above all wrong ones; a tie counts as wrong.

    Args:
        embed: The model's text tower.
        cases: The cases [n].
        image: Unit-norm embeddings of their images [n, embed_dim].
        tally: What the test's files list; without it, nothing was missing.

    Returns:
        Metrics `accuracy` (mean over the categories), `micro_accuracy` (over the cases), `num_cases`, `num_ties`, with a
        tally `num_listed` and `num_missing`, and `categories`: the same by category.

    Raises:
        InputError: no case.
    """
    if not cases:
        raise InputError("test of texts: no case", fix="check the benchmark's files and images")
    texts = flatten_texts(cases)
    embedded = embed([*texts[0], *texts[1]])
    return score_texts(cases, image, embedded[: len(texts[0])], embedded[len(texts[0]) :], tally)


def score_texts(
    cases: Sequence[Case],
    image: NDArray[np.float32],
    right: NDArray[np.float32],
    wrong: NDArray[np.float32],
    tally: CaseCounts | None = None,
) -> BenchmarkResult:
    """Return `foil_accuracy` for embeddings of the texts: all right ones and all wrong ones, case by case."""
    owners = (np.repeat(np.arange(len(cases)), [len(side) for side in sides])
              for sides in ([case.right for case in cases], [case.wrong for case in cases]))  # fmt: skip
    scores = [
        (image[owner].astype(np.float64) * text.astype(np.float64)).sum(axis=1)
        for owner, text in zip(owners, (right, wrong), strict=True)
    ]
    gaps = min_gaps(cases, scores[0], scores[1])
    categories: dict[str, Any] = {}
    items: dict[str, CaseValues] = {}
    names = np.array([case.category for case in cases])
    listed = tally or CaseCounts()
    for category in sorted({*names.tolist(), *listed.listed}):
        mine = np.flatnonzero(names == category)
        entry = _counts(gaps[mine], listed.listed.get(category), listed.missing.get(category, 0))
        if len(mine):
            values = (gaps[mine] > 0).astype(np.float64)
            entry = {"accuracy": float(values.mean()), **entry}
            ids, images = (tuple(getattr(cases[place], what) for place in mine.tolist()) for what in ("id", "image"))
            items[f"categories.{category}.accuracy"] = CaseValues(ids, images, values)
        categories[category] = entry
    every = (gaps > 0).astype(np.float64)
    means = tuple(name for name in items if name.split(".")[1] not in listed.apart) or tuple(items)
    items["micro_accuracy"] = CaseValues(
        tuple(f"{case.category}/{case.id}" for case in cases), tuple(case.image for case in cases), every
    )
    total = sum(listed.listed.values()) if listed.listed else None
    metrics = {
        "accuracy": float(np.mean([items[name].values.mean() for name in means])),
        "micro_accuracy": float(every.mean()),
        **_counts(gaps, total, sum(listed.missing.values())),
        "categories": categories,
    }
    return BenchmarkResult(metrics, items, {"accuracy": means})


def _counts(gaps: NDArray[np.float64], listed: int | None, missing: int) -> dict[str, Any]:
    found = {"num_cases": len(gaps), "num_ties": int((gaps == 0).sum())}
    return found if listed is None else {**found, "num_listed": listed, "num_missing": missing}


def count_cases(cases: Sequence[Case], readable: NDArray[np.bool_], apart: frozenset[str] = frozenset()) -> CaseCounts:
    """Return the tally of cases of which some have a readable image."""
    listed: dict[str, int] = {}
    missing: dict[str, int] = {}
    for case, holds in zip(cases, readable.tolist(), strict=True):
        listed[case.category] = listed.get(case.category, 0) + 1
        missing[case.category] = missing.get(case.category, 0) + (not holds)
    return CaseCounts(listed, missing, apart)


def rare_categories(cases: Sequence[Case], least: int) -> frozenset[str]:
    """Return the categories with fewer cases than `least`: two of them would weigh as much as two hundred elsewhere."""
    counts = Counter(case.category for case in cases)
    return frozenset(category for category, number in counts.items() if number < least)
