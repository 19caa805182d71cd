"""The numbers of a comparison: each row's headline metrics with intervals, differences to the control, and the gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_manifests.errors import InputError
from flows.comparison.variants import CONTROL, PRETRAINED

if TYPE_CHECKING:
    from flows.comparison.cells import FinishedCell
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.confidence import Interval, PairedDifference

RECALL = ("image_to_text_R@1", "text_to_image_R@1")
HEADLINES: Mapping[str, tuple[str, ...]] = {
    "retrieval": RECALL,
    "order": ("order_accuracy",),
    "scenes": (*RECALL, "foil_accuracy"),
    "zero_shot": ("top1",),
}
"""Metrics in the table by kind of benchmark; of other kinds, means of categories, or the first metric."""
BLIND = "blind_"
"""Prefix of the accuracy of text-only judges, which is shown next to a metric and never as one."""


@dataclass(frozen=True)
class ComparisonGate:
    """How many points a row may lose against the pretrained model, whatever it gains elsewhere.

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


@dataclass
class ComparisonRow:
    """One row of the table.

    Attributes:
        name: Its name.
        seeds: Finished seeds.
        numbers: Headline metrics by (``KIND:SRC``, metric).
        lost: Metrics that fail the gate, as (``KIND:SRC``, metric, points).
        faults: Errors that stopped cells, by the cell's label.
    """

    name: str
    seeds: tuple[int, ...] = ()
    numbers: dict[tuple[str, str], HeadlineNumber] = field(default_factory=dict)
    lost: list[tuple[str, str, float]] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it fails the gate."""
        return bool(self.lost)


def headline_metrics(on: str, outcome: BenchmarkResult) -> tuple[str, ...]:
    """Return a benchmark's metrics in the table."""
    wanted = HEADLINES.get(on.partition(":")[0], ())
    known = tuple(name for name in wanted if name in outcome.means or name in outcome.cases)
    seeing = tuple(name for name in outcome.means if not name.startswith(BLIND))
    return known or seeing or tuple(outcome.cases)[:1]


def best_blind_scores(finished: Sequence[FinishedCell]) -> dict[tuple[str, str], tuple[str, float]]:
    """Return the best text-only judge and its accuracy by (``KIND:SRC``, metric), for metrics that such judges have.

    They come from the pretrained model's evaluation, since its own text tower is one of the judges.
    """
    found: dict[tuple[str, str], tuple[str, float]] = {}
    for on, result in (item for cell in finished if cell.cell.row == PRETRAINED for item in cell.results.items()):
        judges = [(value, name) for name, value in result.result.metrics.items() if name.startswith(BLIND)]
        for metric in headline_metrics(on, result.result):
            if judges and metric not in (*RECALL, *HEADLINES["zero_shot"]):
                value, name = max(judges)
                found[on, metric] = (name.removeprefix(BLIND), float(value))
    return found


def compare_rows(
    finished: Sequence[FinishedCell], names: Sequence[str], on: Sequence[str], gate: ComparisonGate
) -> list[ComparisonRow]:
    """Return the rows, in the order of `names`, from all finished cells.

    A row fails when its mean in any metric of the gate lies more than the allowed points below the
    pretrained model's. Against that model and not against the control, since whoever deploys gives up the pretrained
    model; what plain fine-tuning alone costs shows in the control's own row.

    Raises:
        InputError: two cells were evaluated on different cases.
    """
    rows = {name: ComparisonRow(name) for name in names}
    done: dict[str, list[FinishedCell]] = {name: [] for name in names}
    for cell in finished:
        if cell.fault:
            rows[cell.cell.row].faults[cell.cell.label] = cell.fault
        else:
            done[cell.cell.row].append(cell)
    for name, row in rows.items():
        done[name].sort(key=lambda cell: cell.cell.seed or 0)
        row.seeds = tuple(cell.cell.seed for cell in done[name] if cell.cell.seed is not None)
    there = [name for name in names if done[name]]
    for benchmark in on if there else ():
        for metric in headline_metrics(benchmark, done[there[0]][0].results[benchmark].result):
            _compare_metric(rows, {name: done[name] for name in there}, benchmark, metric, gate)
    return list(rows.values())


def _compare_metric(
    rows: Mapping[str, ComparisonRow],
    done: Mapping[str, Sequence[FinishedCell]],
    on: str,
    metric: str,
    gate: ComparisonGate,
) -> None:
    """Add one metric to all rows; one bootstrap draws all of them, so that any two rows are paired."""
    from training.evaluate.confidence import Bootstrap, parts_of

    names = list(done)
    try:
        drawn = Bootstrap([[parts_of(cell.results[on].result, metric) for cell in done[name]] for name in names])
    except InputError as error:
        raise InputError(
            f"{on} {metric}: the cells were evaluated on different data: {error.got}",
            fix=f"delete the files {on.partition(':')[0]}-* of older cells; they are written again",
        ) from error
    for position, name in enumerate(names):
        to_control, to_pretrained = (
            drawn.difference(position, names.index(other)) if other in names and other != name else None
            for other in (CONTROL, PRETRAINED)
        )
        rows[name].numbers[on, metric] = HeadlineNumber(drawn.interval(position), to_control, to_pretrained)
        allowed = gate.allowed(on, metric)
        # twelve of 400 cases are three points, whatever binary fractions make of it
        points = None if to_pretrained is None else round(100 * to_pretrained.value, 6)
        if allowed is not None and points is not None and -points > allowed:
            rows[name].lost.append((on, metric, round(points, 2)))


def _round_values(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [float(f"{item:.6g}") for item in value] if isinstance(value, tuple) else round(float(value), 6)
        for name, value in values.items()
    }
