"""What a run changed against its base: one headline, and the cases that it now gets right and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_manifests.manifest import Catalog
from flows.comparison.metrics import HEADLINES, RECALL, headline_metrics, metric_role
from flows.evaluation.intervals import read_cases
from flows.pages.glossary import word
from flows.pages.html import Html, join, note, tag
from flows.pages.sections.cases import MAX_GALLERIES, CaseSource, case_changes, cases_section
from flows.pages.sections.results import ResultColumn, benchmark_name, flat_metrics, is_fraction, measured, metric_name


@dataclass(frozen=True)
class BenchmarkPair:
    """A run's evaluation on one benchmark, and its base's.

    Attributes:
        before: The base's; None if it was not evaluated.
        after: The run's.
    """

    before: ResultColumn | None
    after: ResultColumn

    @property
    def metric(self) -> str:
        """The first metric of those that comparisons show, one of texts before recall; empty if it has no fraction."""
        on, metrics = str(self.after["on"]), dict(flat_metrics(self.after["metrics"]))
        result = _result(self.after)
        shown = (*headline_metrics(on, result.means, result.cases), *HEADLINES.get(on.partition(":")[0], ()))
        wanted = (*(name for name in shown if name not in RECALL), *shown, *metrics)
        return next((name for name in wanted if is_fraction(metrics.get(name))), "")

    @property
    def rank(self) -> int:
        """How far it is from the headline: tests of texts that need eyes, retrieval, the others, tests that do not."""
        role = metric_role(str(self.after["on"]), self.metric, _result(self.after))
        return 3 if role.reason else ("composition", "retrieval", "zero_shot", "other").index(role.role)

    @property
    def no_headline(self) -> str:
        """Why the test is no headline; empty where it may be one."""
        return metric_role(str(self.after["on"]), self.metric, _result(self.after)).reason


def pair_with_base(columns: Sequence[ResultColumn], base_hash: str) -> list[BenchmarkPair]:
    """Return the evaluations of a run with those of its base, the one for the headline first.

    Args:
        columns: Evaluations, each with the ``hash`` of its model and, between two models, the ``share``.
        base_hash: Hash of the model that the run started from.
    """
    found = []
    for on in dict.fromkeys(item["on"] for item in columns):
        mine = [item for item in columns if item["on"] == on]
        before = [item for item in mine if _is_base(item, base_hash)]
        after = [item for item in mine if not _is_base(item, base_hash) and item.get("share") in (None, 1.0)]
        if after:
            found.append(BenchmarkPair(before[0] if before else None, after[-1]))
    return sorted((pair for pair in found if pair.metric), key=lambda pair: pair.rank)


def _is_base(item: ResultColumn, base_hash: str) -> bool:
    if item.get("share") is None:
        return bool(item.get("hash") == base_hash)
    return bool(item["share"] == 0 and item.get("base_hash") == base_hash)


def _result(column: ResultColumn) -> Any:
    """Return a column as a benchmark's result; without cases where none were kept."""
    from training.evaluate.benchmark_result import BenchmarkResult

    path = column.get("cases")
    cases = read_cases(path, str(column["on"]), column.get("share")) if path is not None and path.is_file() else {}
    means = {name: tuple(parts) for name, parts in (column.get("means") or {}).items()}
    return BenchmarkResult(dict(column["metrics"]), cases, means)


def headline(pairs: Sequence[BenchmarkPair]) -> Html:
    """Return one line: a metric before and after, with the interval of its change as far as cases were kept."""
    pair = next((pair for pair in pairs if not pair.no_headline), None)
    if pair is None:
        return note(
            "No headline yet. Evaluate the run and its base: ",
            tag("code", "clipcurate evaluate RUN --on KIND:SRC --json RUN.json --items RUN.parquet"),
        )
    name = f"{benchmark_name(str(pair.after['on']))}, {metric_name(pair.metric)}"
    value, low, high = measured(dict(flat_metrics(pair.after["metrics"]))[pair.metric])
    if pair.before is None:
        around = "" if low is None or high is None else f" ({_points(low)} to {_points(high)})"
        remark = "The base was not evaluated: a file of evaluate --json for it, next to the run, shows what changed."
        return join([tag("p", f"{name}: {_points(value)} %{around}", class_="headline"), note(remark)])
    before, _, _ = measured(dict(flat_metrics(pair.before["metrics"]))[pair.metric])
    change = f"{100 * (value - before):+.1f}{_half_width(pair)}"
    text = f"{name}: {_points(before)} % → {_points(value)} % ({change} points)"
    told = (
        " over images, both models on the same ones." if "±" in change else ": evaluate both with --items to have it."
    )
    return join(
        [
            tag("p", text, class_="headline"),
            note("From the ", word("base"), " to this run; 95 % ", word("interval"), told),
        ]
    )


def _half_width(pair: BenchmarkPair) -> str:
    from training.evaluate.confidence import Bootstrap, parts_of

    outcomes = [_result(column) for column in (pair.before, pair.after) if column is not None]
    if not all(outcome.cases for outcome in outcomes):
        return ""
    drawn = Bootstrap([[parts_of(outcome, pair.metric)] for outcome in outcomes]).difference(1, 0)
    return f" ± {50 * (drawn.high - drawn.low):.1f}"


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def changed_cases(pairs: Sequence[BenchmarkPair], catalog: Catalog) -> Html:
    """Return the cases that differ between base and run, for the first benchmarks of which both kept theirs."""
    parts: list[Html] = []
    for pair in pairs:
        if pair.before is None or len(parts) == 2 * MAX_GALLERIES:
            continue
        outcomes = [_result(column) for column in (pair.before, pair.after)]
        if not all(outcome.cases for outcome in outcomes):
            continue
        names = outcomes[1].means.get(pair.metric, (pair.metric,))
        changes = case_changes([outcomes[0].cases], [outcomes[1].cases], names)
        source = CaseSource(str(pair.after["on"]), pair.after.get("split"), pair.after.get("limit"), catalog)
        title = f"{benchmark_name(source.on)}, {metric_name(pair.metric)}"
        parts += [tag("h3", title), cases_section(changes, source, "the base", "this run")]
    return join(parts)
