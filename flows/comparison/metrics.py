"""Which metrics of a benchmark a comparison shows, which of them choose the share, and what they count as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult

MetricKey = tuple[str, str]
"""``KIND:SRC`` and metric."""
RECALL = ("image_to_text_R@1", "text_to_image_R@1")
CHOOSING: Mapping[str, tuple[str, ...]] = {"retrieval": RECALL, "scenes": RECALL, "zero_shot": ("top1",)}
"""Metrics that choose the share, by kind of benchmark."""
HEADLINES: Mapping[str, tuple[str, ...]] = {
    "retrieval": RECALL,
    "order": ("order_accuracy",),
    "scenes": (*RECALL, "foil_accuracy"),
    "zero_shot": ("top1",),
    "foils": ("accuracy", "both_ways"),
    "half_truths": ("accuracy",),
    "paraphrase": ("accuracy", "tot_accuracy"),
}
"""Metrics in the table by kind of benchmark; of other kinds, means of categories, or the first metric."""
BLIND = "blind_"
"""Prefix of the accuracy of text-only judges, which is shown next to a metric and never as one."""


@dataclass(frozen=True)
class MetricRole:
    """What a metric of the table counts as.

    Attributes:
        on: ``KIND:SRC``.
        metric: Its name.
        role: ``retrieval``, ``zero_shot``, ``composition``, or ``other``.
        reason: Why a composition test is no headline; empty where it is one.
    """

    on: str
    metric: str
    role: str
    reason: str

    @property
    def headline(self) -> bool:
        """Whether it decides who dominates whom."""
        return self.role != "other" and not self.reason


def choosing_metrics(on: str) -> tuple[str, ...]:
    """Return the metrics of a benchmark that choose the share: recall and zero-shot accuracy."""
    return CHOOSING.get(on.partition(":")[0], ())


def headline_metrics(on: str, means: Iterable[str], cases: Iterable[str]) -> tuple[str, ...]:
    """Return a benchmark's metrics in the table.

    Args:
        on: ``KIND:SRC``.
        means: Names of its metrics that are means of others.
        cases: Names of its metrics that have cases.
    """
    means, cases = tuple(means), tuple(cases)
    known = tuple(name for name in HEADLINES.get(on.partition(":")[0], ()) if name in {*means, *cases})
    seeing = tuple(name for name in means if not name.startswith(BLIND))
    return known or seeing or cases[:1]


def metric_role(on: str, metric: str, outcome: BenchmarkResult) -> MetricRole:
    """Return what a metric counts as; a test of texts says itself whether it is a headline."""
    kind = on.partition(":")[0]
    if metric in choosing_metrics(on):
        return MetricRole(on, metric, "retrieval" if metric in RECALL else "zero_shot", "")
    if kind == "fairness":
        return MetricRole(on, metric, "other", "")
    reason = "" if outcome.metrics.get("headline", True) else str(outcome.metrics.get("no_headline", ""))
    if kind == "order" and not reason:
        reason = "the order of words is told without the image"
    return MetricRole(on, metric, "composition", reason)
