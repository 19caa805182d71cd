"""What a comparison found: each row's headline numbers with intervals, its difference to the control, and the gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_manifests.errors import InputError
from flows.comparison.variants import CONTROL, PRETRAINED

if TYPE_CHECKING:
    from flows.comparison.cells import Finished
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.confidence import Interval, PairedDifference

RECALL = ("image_to_text_R@1", "text_to_image_R@1")
HEADLINES: Mapping[str, tuple[str, ...]] = {
    "retrieval": RECALL,
    "order": ("order_accuracy",),
    "scenes": (*RECALL, "foil_accuracy"),
    "zero_shot": ("top1",),
}
"""What the table shows of each kind of benchmark; of others, what is a mean of categories, or the first number."""
BLIND = "blind_"
"""What judges that see no image reach stands beside a number, not in its place."""


@dataclass(frozen=True)
class ComparisonGate:
    """How many points a row may lose against the pretrained model, whatever it wins.

    Attributes:
        zero_shot: In zero-shot classification.
        retrieval: In R@1, either way.
    """

    zero_shot: float = 2.0
    retrieval: float = 3.0

    def allowed(self, on: str, metric: str) -> float | None:
        """Return how many points may be lost in a headline number; None where any loss may be."""
        if on.partition(":")[0] == "zero_shot":
            return self.zero_shot
        return self.retrieval if metric in RECALL else None


@dataclass(frozen=True)
class Number:
    """One headline number of one row.

    Attributes:
        interval: Mean over seeds, with its interval.
        to_control: Minus that of plain fine-tuning; None for the control itself, and where it has no number.
        to_pretrained: Minus that of the pretrained model; None for the model itself.
    """

    interval: Interval
    to_control: PairedDifference | None
    to_pretrained: PairedDifference | None

    def to_json(self) -> dict[str, Any]:
        """Return fractions, rounded to six places."""
        found = _rounded(dataclasses.asdict(self.interval))
        for name in ("to_control", "to_pretrained"):
            value = getattr(self, name)
            if value is not None:
                found[name] = _rounded(dataclasses.asdict(value)) | {"told_apart": value.is_significant}
        return found


@dataclass
class ComparisonRow:
    """One row of the table.

    Attributes:
        name: Its name.
        seeds: Those that are done.
        numbers: Headline numbers by (``KIND:SRC``, metric).
        lost: What fails it at the gate, as (``KIND:SRC``, metric, points).
        faults: What stopped cells, by their label.
    """

    name: str
    seeds: tuple[int, ...] = ()
    numbers: dict[tuple[str, str], Number] = field(default_factory=dict)
    lost: list[tuple[str, str, float]] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Say whether the gate fails it."""
        return bool(self.lost)


def headlines(on: str, outcome: BenchmarkResult) -> tuple[str, ...]:
    """Return the metrics that stand for a benchmark in the table."""
    wanted = HEADLINES.get(on.partition(":")[0], ())
    known = tuple(name for name in wanted if name in outcome.means or name in outcome.cases)
    seeing = tuple(name for name in outcome.means if not name.startswith(BLIND))
    return known or seeing or tuple(outcome.cases)[:1]


def blind_numbers(finished: Sequence[Finished]) -> dict[tuple[str, str], tuple[str, float]]:
    """Return the best judge that sees no image, and what it reaches, beside each number that such judges have.

    By (``KIND:SRC``, metric), from the pretrained model's evaluation: what its own text tower says is one of them.
    """
    found: dict[tuple[str, str], tuple[str, float]] = {}
    for on, result in (item for cell in finished if cell.cell.row == PRETRAINED for item in cell.results.items()):
        judges = [(value, name) for name, value in result.result.metrics.items() if name.startswith(BLIND)]
        for metric in headlines(on, result.result):
            if judges and metric not in (*RECALL, *HEADLINES["zero_shot"]):
                value, name = max(judges)
                found[on, metric] = (name.removeprefix(BLIND), float(value))
    return found


def compare_rows(
    finished: Sequence[Finished], names: Sequence[str], on: Sequence[str], gate: ComparisonGate
) -> list[ComparisonRow]:
    """Return the rows, in the order of `names`, from all cells that are done.

    A row fails when, in any number that the gate looks at, its mean lies more than the allowed points below the
    pretrained model's. Against that model and not against the control, since whoever deploys gives up the pretrained
    model; what plain fine-tuning alone costs shows in the control's own row.

    Raises:
        InputError: two cells were evaluated on different cases.
    """
    rows = {name: ComparisonRow(name) for name in names}
    done: dict[str, list[Finished]] = {name: [] for name in names}
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
        for metric in headlines(benchmark, done[there[0]][0].results[benchmark].result):
            _weigh_metric(rows, {name: done[name] for name in there}, benchmark, metric, gate)
    return list(rows.values())


def _weigh_metric(
    rows: Mapping[str, ComparisonRow],
    done: Mapping[str, Sequence[Finished]],
    on: str,
    metric: str,
    gate: ComparisonGate,
) -> None:
    """Put one number of all rows into them; all are drawn together, so that any two pair."""
    from training.evaluate.confidence import Bootstrap, parts_of

    names = list(done)
    try:
        drawn = Bootstrap([[parts_of(cell.results[on].result, metric) for cell in done[name]] for name in names])
    except InputError as error:
        raise InputError(
            f"{on} {metric}: the cells were evaluated on different data: {error.got}",
            fix=f"delete the files {on.partition(':')[0]}-* of older cells; they are made again",
        ) from error
    for place, name in enumerate(names):
        to_control, to_pretrained = (
            drawn.difference(place, names.index(other)) if other in names and other != name else None
            for other in (CONTROL, PRETRAINED)
        )
        rows[name].numbers[on, metric] = Number(drawn.interval(place), to_control, to_pretrained)
        allowed = gate.allowed(on, metric)
        # twelve of 400 cases are three points, whatever binary fractions make of it
        points = None if to_pretrained is None else round(100 * to_pretrained.value, 6)
        if allowed is not None and points is not None and -points > allowed:
            rows[name].lost.append((on, metric, round(points, 2)))


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [float(f"{item:.6g}") for item in value] if isinstance(value, tuple) else round(float(value), 6)
        for name, value in values.items()
    }
