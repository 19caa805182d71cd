"""The section of a page with evaluation results: a table and a chart for each benchmark, with intervals where known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.pages.charts import ChartValue, figure, interval_chart
from flows.pages.html import Html, join, table, tag

ResultColumn = Mapping[str, Any]
"""One evaluation: ``label`` (or ``model``), ``on``, ``metrics``; ``num_samples`` and ``num_refused`` if they are known."""

MAX_CHARTS = 12
"""Most numbers of a benchmark that have a chart; the table has all."""

_ENDS = ("low", "high")
_RANK = "medR"
"""Ranks are no fractions, though the best of them is 1."""


def results_section(columns: Sequence[ResultColumn]) -> Html:
    """Return, for each benchmark, the columns' numbers, their change from first to last, and a chart of the fractions."""
    parts: list[Html] = []
    for on in dict.fromkeys(str(item["on"]) for item in columns):
        mine = [item for item in columns if item["on"] == on]
        values = [dict(_flat(item["metrics"])) for item in mine]
        names = dict.fromkeys(name for column in values for name in column)
        rows = [(name, *(_shown(column.get(name)) for column in values), _change(name, values)) for name in names]
        heads = [f">{_label(item)}" for item in mine]
        changed = any(row[-1] for row in rows)
        if not changed:
            rows = [row[:-1] for row in rows]
        told = table(("metric", *heads, *([">change"] if changed else [])), rows)
        parts += [
            tag("h3", benchmark_name(on)),
            _counts(mine),
            _chart(on, mine, values),
            tag("details", tag("summary", "All numbers"), told),
        ]
    return join(parts)


def benchmark_name(on: str) -> str:
    """Return a benchmark's kind and the last part of where it lies: the rest of a path is nobody else's business."""
    kind, _, source = on.partition(":")
    return f"{kind.replace('_', '-')} {source.rstrip('/').rpartition('/')[2].rpartition(':')[2]}".strip()


def _label(item: ResultColumn) -> str:
    return str(item.get("label") or item.get("model"))


def _counts(columns: Sequence[ResultColumn]) -> Html:
    told = {(item.get("num_samples"), item.get("num_refused")) for item in columns} - {(None, None)}
    if not told:
        return Html("")
    texts = [f"{samples:,} samples scored, {refused or 0:,} refused" for samples, refused in sorted(told, key=str)]
    return tag("p", "; ".join(texts), class_="soft")


def _chart(on: str, columns: Sequence[ResultColumn], values: Sequence[Mapping[str, Any]]) -> Html:
    """Return the fractions of each metric, column below column."""
    charts = []
    names = dict.fromkeys(name for column in values for name in column if _RANK not in name)
    for name in [name for name in names if any(_is_fraction(column.get(name)) for column in values)][:MAX_CHARTS]:
        numbers = [
            ChartValue(_label(item), *_measured(column[name]))
            for item, column in zip(columns, values, strict=True)
            if _is_fraction(column.get(name))
        ]
        charts.append(figure(f"{name}, in %", interval_chart(numbers, f"{benchmark_name(on)}: {name}")))
    return tag("div", *charts, class_="charts small") if charts else Html("")


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
