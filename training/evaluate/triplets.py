"""SugarCrepe++'s task for the text encoder alone: are two captions with the same meaning nearest to each other?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_manifests.errors import InputError
from training.evaluate.benchmark_result import BenchmarkResult, CaseValues
from training.evaluate.blind import Case, case_values, rows_by_category

if TYPE_CHECKING:
    from training.evaluate.features import EmbedTexts


def text_only(embed: EmbedTexts, cases: Sequence[Case]) -> BenchmarkResult:
    """Return how often two true captions are more alike than either is to the false one; a tie counts as wrong.

    Returns:
        Metrics `tot_accuracy` (mean over the categories) and `categories` with `tot_accuracy` and `num_tot_cases`.

    Source: Dumpala et al. 2024 (SugarCrepe++), the text-only task (TOT), arXiv 2406.11171.

    Raises:
        InputError: no case, or one without two true texts and one false text.
    """
    if not cases or any((len(case.right), len(case.wrong)) != (2, 1) for case in cases):
        raise InputError("text-only task: a case without two true captions and a false one", allowed="SugarCrepe++")
    first, second, wrong = (
        embed(side).astype(np.float64)
        for side in ([case.right[0] for case in cases], [case.right[1] for case in cases], [c.wrong[0] for c in cases])
    )
    alike = (first * second).sum(axis=1)
    hits = ((alike > (first * wrong).sum(axis=1)) & (alike > (second * wrong).sum(axis=1))).astype(np.float64)
    kept: dict[str, CaseValues] = {}
    categories: dict[str, Any] = {}
    for category, rows in rows_by_category(cases).items():
        kept[f"categories.{category}.tot_accuracy"] = case_values([cases[row] for row in rows], hits[rows])
        categories[category] = {"tot_accuracy": float(hits[rows].mean()), "num_tot_cases": len(rows)}
    mean = float(np.mean([entry["tot_accuracy"] for entry in categories.values()]))
    return BenchmarkResult({"tot_accuracy": mean, "categories": categories}, kept, {"tot_accuracy": tuple(kept)})


def add_text_only(embed: EmbedTexts, result: BenchmarkResult, cases: Sequence[Case]) -> BenchmarkResult:
    """Return a result with the text-only task added; it needs no image, so it has all cases."""
    added = text_only(embed, cases)
    categories = {name: dict(entry) for name, entry in result.metrics["categories"].items()}
    for name, entry in added.metrics["categories"].items():
        categories.setdefault(name, {}).update(entry)
    metrics = {**result.metrics, "tot_accuracy": added.metrics["tot_accuracy"], "categories": categories}
    return BenchmarkResult(metrics, {**result.cases, **added.cases}, {**result.means, **added.means})
