"""The numbers of a comparison: the share of each row, its metrics with intervals, differences, who dominates whom, the gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from data_manifests.errors import InputError
from flows.comparison.cells import BenchmarkSplit, Results
from flows.comparison.metrics import BLIND, MetricKey, MetricRole, choosing_metrics, headline_metrics, metric_role
from flows.comparison.rows import (
    Comparison,
    ComparisonGate,
    ComparisonRow,
    CurvePoint,
    Dominance,
    HeadlineNumber,
)
from flows.comparison.shares import (
    BASE_SHARE,
    LOSS_POINTS,
    SHARES,
    TUNED_SHARE,
    ImageSides,
    choose_share,
    mean_of,
    points_lost,
    restrict,
)
from flows.comparison.variants import CONTROL, PRETRAINED

if TYPE_CHECKING:
    from flows.comparison.cells import Benchmarks, FinishedCell
    from training.evaluate.confidence import Bootstrap, Interval, PairedDifference, Parts


def compare_rows(
    finished: Sequence[FinishedCell],
    names: Sequence[str],
    benchmarks: Benchmarks,
    gate: ComparisonGate,
    points: float = LOSS_POINTS,
) -> Comparison:
    """Choose each row's share, and return its numbers there, in the order of `names`, from all finished cells.

    A row fails the gate when its mean in any metric of the gate lies more than the allowed points below the
    pretrained model's. Against that model and not against the control, since whoever deploys gives up the pretrained
    model; what plain fine-tuning alone costs shows in the control's own row.

    Args:
        finished: The cells, the pretrained model's among them.
        names: Names of the rows.
        benchmarks: What the cells were evaluated on.
        gate: Points that may be lost on the reported images.
        points: Points that the share may lose on the choosing images.

    Raises:
        InputError: two cells were evaluated on different cases, or no image is left to choose or to report.
    """
    rows = {name: ComparisonRow(name) for name in names}
    done: dict[str, list[FinishedCell]] = {name: [] for name in names}
    for cell in finished:
        if cell.fault:
            rows[cell.cell.row].faults[cell.cell.label] = cell.fault
        else:
            done[cell.cell.row].append(cell)
    base = done[PRETRAINED][0]
    at_base = {BASE_SHARE: [base.results[TUNED_SHARE]]}
    curves: dict[str, Curve] = {PRETRAINED: at_base}
    for name, cells in done.items():
        cells.sort(key=lambda cell: cell.cell.seed or 0)
        rows[name].seeds = tuple(cell.cell.seed for cell in cells if cell.cell.seed is not None)
        if name != PRETRAINED and cells:
            curves[name] = at_base | {share: [cell.results[share] for cell in cells] for share in SHARES[1:]}
    return _Statistics(curves, benchmarks).fill_rows(rows, gate, points)


Curve = Mapping[float, Sequence[Results]]
"""By share, the results of each seed; at share 0 those of the pretrained model, once."""
SplitMetric = tuple[BenchmarkSplit, str]


class _Statistics:
    """Compares rows; one bootstrap for each metric draws all rows at all shares, so that any two of them are paired.

    Args:
        curves: The results by row; the pretrained model has share 0 only.
        benchmarks: What they are of.
    """

    def __init__(self, curves: Mapping[str, Curve], benchmarks: Benchmarks) -> None:
        self._curves = curves
        self._base = curves[PRETRAINED][BASE_SHARE][0]
        self._keys: list[SplitMetric] = [
            (which, metric)
            for which in benchmarks.reported
            for metric in headline_metrics(which.on, self._base[which].result.means, self._base[which].result.cases)
        ]
        self._choosing: list[SplitMetric] = [
            (which, metric) for which in benchmarks.choosing for metric in choosing_metrics(which.on)
        ]
        self._sides = ImageSides.divide(
            (cases for key in self._choosing for cases in _parts(self._base, key)),
            (cases for key in self._keys for cases in _parts(self._base, key)),
        )
        self._models = [(name, share) for name, curve in curves.items() for share in curve]

    def fill_rows(self, rows: Mapping[str, ComparisonRow], gate: ComparisonGate, points: float) -> Comparison:
        """Return the comparison, after filling in its rows."""
        lost = {name: self._points_lost(curve) for name, curve in self._curves.items()}
        share = {name: choose_share(of_row, points) for name, of_row in lost.items()}
        numbers: dict[tuple[str, float], dict[MetricKey, Interval]] = {model: {} for model in self._models}
        differences: dict[MetricKey, Pairs] = {}
        for which, metric in self._keys:
            drawn, key = self._bootstrap((which, metric)), (which.on, metric)
            for position, model in enumerate(self._models):
                numbers[model][key] = drawn.interval(position)
            places = {name: self._models.index((name, share[name])) for name in self._curves}
            differences[key] = {
                (one, other): drawn.difference(places[one], places[other])
                for one in places
                for other in places
                if one != other
            }
        for name in self._curves:
            row = rows[name]
            for key, of_pair in differences.items():
                to = (of_pair.get((name, CONTROL)), of_pair.get((name, PRETRAINED)))
                row.numbers[key] = HeadlineNumber(numbers[name, share[name]][key], *to)
                row.lost += _gate_losses(key, row.numbers[key], gate)
            if name != PRETRAINED:
                row.share = share[name]
                row.curve = [CurvePoint(at, loss, loss <= points, numbers[name, at]) for at, loss in lost[name].items()]
        roles = [metric_role(which.on, metric, self._base[which].result) for which, metric in self._keys]
        return Comparison(list(rows.values()), roles, list(_dominance(roles, differences)), self._best_blind_scores())

    def _restricted(self, runs: Sequence[Results], key: SplitMetric, images: frozenset[str]) -> list[Parts]:
        """Return a metric's cases in each run, those of some images.

        Raises:
            InputError: there is none.
        """
        found = [restrict(_parts(results, key), images) for results in runs]
        if not all(found):
            what = "be reported" if images is self._sides.reported else "choose the share"
            raise InputError(
                f"{key[0].on}: no image is left that may {what}; an image either chooses or is reported",
                allowed="images for both",
                fix="give more images, or others that choose: --choose-on KIND:SRC or --choose-split SPLIT",
            )
        return found

    def _points_lost(self, curve: Curve) -> dict[float, float]:
        """Return, by share, the largest loss on the choosing images."""

        def means(runs: Sequence[Results]) -> list[float]:
            return [mean_of(self._restricted(runs, key, self._sides.choosing)) for key in self._choosing]

        base = means([self._base])
        return {share: points_lost(base, means(runs)) for share, runs in curve.items()}

    def _bootstrap(self, key: SplitMetric) -> Bootstrap:
        """Return one metric of every row at every share on the reported images.

        Raises:
            InputError: cells of different cases, or no image.
        """
        from training.evaluate.confidence import Bootstrap

        runs = [self._restricted(self._curves[name][share], key, self._sides.reported) for name, share in self._models]
        try:
            return Bootstrap(runs)
        except InputError as error:
            on, metric = key[0].on, key[1]
            raise InputError(
                f"{on} {metric}: the cells were evaluated on different data: {error.got}",
                fix=f"delete the files {on.partition(':')[0]}-* of older cells; they are written again",
            ) from error

    def _best_blind_scores(self) -> dict[MetricKey, tuple[str, float]]:
        """Return the best text-only judges; the pretrained model's text tower is one of them."""
        found = {}
        for which, metric in self._keys:
            judges = [name for name in self._base[which].result.metrics if name.startswith(BLIND)]
            scores = [
                (mean_of(self._restricted([self._base], (which, name), self._sides.reported)), name) for name in judges
            ]
            if scores and metric not in choosing_metrics(which.on):
                value, name = max(scores)
                found[which.on, metric] = (name.removeprefix(BLIND), value)
        return found


Pairs = Mapping[tuple[str, str], "PairedDifference"]
"""By row and other row, by how much the first exceeds the other."""


def _parts(results: Results, key: SplitMetric) -> Parts:
    """Return the cases of one metric in one cell's results."""
    from training.evaluate.confidence import parts_of

    return parts_of(results[key[0]].result, key[1])


def _gate_losses(key: MetricKey, number: HeadlineNumber, gate: ComparisonGate) -> Iterator[tuple[str, str, float]]:
    """Yield a metric with the points lost, if these are more than the gate allows."""
    allowed = gate.allowed(*key)
    if allowed is not None and number.to_pretrained is not None:
        lost = points_lost([0.0], [number.to_pretrained.value])
        if lost > allowed:
            yield (*key, round(-lost, 2))


def _dominance(roles: Sequence[MetricRole], differences: Mapping[MetricKey, Pairs]) -> Iterator[Dominance]:
    """Yield the pairs of rows of which one dominates the other."""
    counted = [role for role in roles if role.headline]
    for pair in next(iter(differences.values()), {}):
        signs = {role: differences[role.on, role.metric][pair].sign for role in counted}
        higher = [(role.on, role.metric) for role, sign in signs.items() if sign > 0 and role.role == "composition"]
        if higher and min(signs.values()) >= 0:
            yield Dominance(*pair, tuple(higher))
