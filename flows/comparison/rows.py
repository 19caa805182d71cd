"""What a comparison says: its rows, their numbers and curves, what each metric counts as, and who dominates whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.comparison.metrics import RECALL, MetricKey, MetricRole

if TYPE_CHECKING:
    from training.evaluate.confidence import Interval, PairedDifference


@dataclass(frozen=True)
class ComparisonGate:
    """How many points a row may lose against the pretrained model on the reported images, whatever it gains elsewhere.

    Attributes:
        zero_shot: In zero-shot classification.
        retrieval: In R@1, either way.
    """

    zero_shot: float = 2.0
    retrieval: float = 3.0

    def allowed(self, on: str, metric: str) -> float | None:
        """Return how many points may be lost in a metric; None for any number."""
        if on.partition(":")[0] == "zero_shot":
            return self.zero_shot
        return self.retrieval if metric in RECALL else None


@dataclass(frozen=True)
class HeadlineNumber:
    """One headline metric of one row.

    Attributes:
        interval: Mean over seeds, with its interval.
        to_control: Difference to plain fine-tuning; None for the control itself, and where it has no value.
        to_pretrained: Difference to the pretrained model; None for that model.
    """

    interval: Interval
    to_control: PairedDifference | None
    to_pretrained: PairedDifference | None

    def to_json(self) -> dict[str, Any]:
        """Return fractions, rounded to six places."""
        found = _round_values(dataclasses.asdict(self.interval))
        for name in ("to_control", "to_pretrained"):
            value = getattr(self, name)
            if value is not None:
                found[name] = _round_values(dataclasses.asdict(value)) | {"told_apart": value.is_significant}
        return found


@dataclass(frozen=True)
class CurvePoint:
    """One row at one share of its tuned weights.

    Attributes:
        share: The share.
        lost: Points lost on the choosing images, the largest of any metric that chooses.
        kept: Whether that is allowed.
        numbers: Means over seeds on the reported images, with intervals.
    """

    share: float
    lost: float
    kept: bool
    numbers: Mapping[MetricKey, Interval]

    def to_json(self) -> dict[str, Any]:
        """Return fractions, rounded to six places."""
        numbers = [
            {"on": on, "metric": metric, **_round_values(dataclasses.asdict(interval))}
            for (on, metric), interval in self.numbers.items()
        ]
        return {"share": self.share, "lost": self.lost, "kept": self.kept, "numbers": numbers}


@dataclass
class ComparisonRow:
    """One row of the table.

    Attributes:
        name: Its name.
        seeds: Finished seeds.
        share: The share of its tuned weights at which it is reported; None for the pretrained model, or without a finished cell.
        numbers: Metrics at that share.
        curve: All shares.
        lost: Metrics that fail the gate, as (``KIND:SRC``, metric, points).
        faults: Errors that stopped cells, by the cell's label.
    """

    name: str
    seeds: tuple[int, ...] = ()
    share: float | None = None
    numbers: dict[MetricKey, HeadlineNumber] = field(default_factory=dict)
    curve: list[CurvePoint] = field(default_factory=list)
    lost: list[tuple[str, str, float]] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it fails the gate."""
        return bool(self.lost)


@dataclass(frozen=True)
class Dominance:
    """One row dominates another: significantly higher in a composition test, significantly lower in nothing that counts.

    Attributes:
        row: The better row.
        over: The other.
        higher: Composition tests in which it is higher.
    """

    row: str
    over: str
    higher: tuple[MetricKey, ...]


@dataclass(frozen=True)
class Comparison:
    """What finished cells say.

    Attributes:
        rows: The rows, in order.
        metrics: The metrics, in the order of the table's columns.
        dominance: Who dominates whom.
        blind: By metric, the best text-only judge and its accuracy on the reported images.
    """

    rows: list[ComparisonRow]
    metrics: list[MetricRole]
    dominance: list[Dominance]
    blind: Mapping[MetricKey, tuple[str, float]]


def _round_values(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [float(f"{item:.6g}") for item in value] if isinstance(value, tuple) else round(float(value), 6)
        for name, value in values.items()
    }
