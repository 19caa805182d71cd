"""The section of a page with evaluation results: a table and charts for each benchmark, with intervals if known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.pages.charts import ChartValue, chart_grid, figure, interval_chart
from flows.pages.html import Html, details, join, note, table, tag

ResultColumn = Mapping[str, Any]
"""One evaluation: ``label`` (or ``model``), ``on``, ``metrics``, and ``num_samples`` and ``num_refused`` if known."""

MAX_CHARTS = 12
"""Most charts of a benchmark; the table has all its numbers."""

_ENDS = ("low", "high")
_RANK = "medR"
"""Part of the names of ranks, which are not fractions although the best one is 1."""


def results_section(columns: Sequence[ResultColumn]) -> Html:
    """Return each benchmark's numbers by column, their change from the first to the last, and charts of the fractions."""
    parts: list[Html] = []
    for on in dict.fromkeys(str(item["on"]) for item in columns):
        of_benchmark = [item for item in columns if item["on"] == on]
        values = [dict(_flat(item["metrics"])) for item in of_benchmark]
        names = dict.fromkeys(name for column in values for name in column)
        rows = [(name, *(_shown(column.get(name)) for column in values), _change(name, values)) for name in names]
        heads = [f">{_label(item)}" for item in of_benchmark]
        changed = any(row[-1] for row in rows)
        if not changed:
            rows = [row[:-1] for row in rows]
        numbers = table(("metric", *heads, *([">change"] if changed else [])), rows)
        parts += [
            tag("h3", benchmark_name(on)),
            _counts(of_benchmark),
            _chart(on, of_benchmark, values),
            details("All numbers", numbers),
        ]
    return join(parts)


def benchmark_name(on: str) -> str:
    """Return a benchmark's kind and the last part of its path; the rest of the path may be private."""
    kind, _, source = on.partition(":")
    return f"{kind.replace('_', '-')} {source.rstrip('/').rpartition('/')[2].rpartition(':')[2]}".strip()


def _label(item: ResultColumn) -> str:
    return str(item.get("label") or item.get("model"))


def _counts(columns: Sequence[ResultColumn]) -> Html:
    counts = {(item.get("num_samples"), item.get("num_refused")) for item in columns} - {(None, None)}
    if not counts:
        return Html("")
    texts = [f"{samples:,} samples scored, {refused or 0:,} refused" for samples, refused in sorted(counts, key=str)]
    return note("; ".join(texts))


def _chart(on: str, columns: Sequence[ResultColumn], values: Sequence[Mapping[str, Any]]) -> Html:
    """Return a chart for each metric that is a fraction, with a row for each column."""
    charts = []
    names = dict.fromkeys(name for column in values for name in column if _RANK not in name)
    for name in [name for name in names if any(_is_fraction(column.get(name)) for column in values)][:MAX_CHARTS]:
        numbers = [
            ChartValue(_label(item), *_measured(column[name]))
            for item, column in zip(columns, values, strict=True)
            if _is_fraction(column.get(name))
        ]
        charts.append(figure(f"{name}, in %", interval_chart(numbers, f"{benchmark_name(on)}: {name}")))
    return chart_grid(charts)


def _is_fraction(value: Any) -> bool:
    number = _number(value)
    return number is not None and 0 <= number <= 1


def _measured(value: Any) -> tuple[float, float | None, float | None]:
    if not isinstance(value, Mapping):
        return float(value), None, None
    low, high = (value.get(end) for end in _ENDS)
    return float(value["value"]), None if low is None else float(low), None if high is None else float(high)


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping) and "value" not in value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        number, low, high = _measured(value)
        return f"{number:.4f}" if low is None or high is None else f"{number:.4f} ({low:.4f} to {high:.4f})"
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _change(name: str, columns: Sequence[Mapping[str, Any]]) -> str:
    first, last = (_number(column.get(name)) for column in (columns[0], columns[-1]))
    return "" if len(columns) < 2 or first is None or last is None else f"{last - first:+.4f}"


def _number(value: Any) -> float | None:
    number = value.get("value") if isinstance(value, Mapping) else value
    return number if isinstance(number, float) else None
