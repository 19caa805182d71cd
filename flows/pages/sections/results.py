"""The section of a page with evaluation results: a table and charts for each benchmark, with intervals if known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.pages.charts import ChartValue, chart_grid, figure, group_rare, interval_chart, wilson
from flows.pages.html import Html, details, join, note, table, tag

ResultColumn = Mapping[str, Any]
"""One evaluation: ``label`` (or ``model``), ``on``, ``metrics``, and ``num_samples`` and ``num_refused`` if known."""

MAX_CHARTS = 12
"""Most charts of a benchmark; the table has all its numbers."""

_RANK = "medR"
"""Part of the names of ranks, which are not fractions although the best one is 1."""
_MINOR = re.compile(r"ties_in_order|R@5|R@10|MAP|blind_|chance|headline")
"""Names of numbers that are in the table alone."""


def results_section(columns: Sequence[ResultColumn]) -> Html:
    """Return each benchmark's numbers by column, their change from the first to the last, and charts of the fractions."""
    parts: list[Html] = []
    for on in dict.fromkeys(str(item["on"]) for item in columns):
        of_benchmark = [item for item in columns if item["on"] == on]
        values = [dict(flat_metrics(item["metrics"])) for item in of_benchmark]
        names = dict.fromkeys(name for column in values for name in column)
        rows = [
            (metric_name(name), *(shown_value(column.get(name)) for column in values), _change(name, values))
            for name in names
        ]
        heads = [f">{_label(item)}" for item in of_benchmark]
        changed = any(row[-1] for row in rows)
        if not changed:
            rows = [row[:-1] for row in rows]
        numbers = table(("metric", *heads, *([">change"] if changed else [])), rows)
        reasons = dict.fromkeys(
            item["metrics"].get("no_headline") for item in of_benchmark if item["metrics"].get("no_headline")
        )
        parts += [
            tag("h3", benchmark_name(on)),
            _counts(of_benchmark),
            *(note(tag("b", "No headline: "), reason) for reason in reasons),
            _chart(on, of_benchmark),
            details("All numbers", numbers),
        ]
    return join(parts)


def benchmark_name(on: str) -> str:
    """Return a benchmark's kind, the last part of its path and its options; the rest of the path, and other paths, may be private."""
    kind, _, source = on.partition(":")
    path, _, options = source.partition("?")
    name = f"{kind.replace('_', '-')} {path.rstrip('/').rpartition('/')[2].rpartition(':')[2]}".strip()
    return ", ".join([name, *(item.replace("=", " ") for item in options.split("&") if item and "/" not in item)])


def metric_name(name: str) -> str:
    """Return a metric's name as a person writes it: R@1 image→text, accuracy of "swap noun"."""
    for direction, shown in (("image_to_text", "image→text"), ("text_to_image", "text→image")):
        name = re.sub(rf"{direction}_(R@\d+|MAP|medR)", rf"\1 {shown}", name)
    parts = name.split(".")
    if len(parts) > 2:
        name = " ".join([*parts[1:-1], parts[-1]])
    return name.replace("_", " ").replace(".", ", ")


def _label(item: ResultColumn) -> str:
    return str(item.get("label") or item.get("model"))


def _counts(columns: Sequence[ResultColumn]) -> Html:
    counts = {(item.get("num_samples"), item.get("num_refused")) for item in columns} - {(None, None)}
    if not counts:
        return Html("")
    texts = [f"{samples:,} samples scored, {refused or 0:,} refused" for samples, refused in sorted(counts, key=str)]
    return note("; ".join(texts))


def _chart(on: str, columns: Sequence[ResultColumn]) -> Html:
    """Return a chart for each metric that is a fraction, with a row for each column; rare categories are one."""
    charts = []
    values = [dict(flat_metrics(_with_rare_grouped(item["metrics"]))) for item in columns]
    names = dict.fromkeys(name for column in values for name in column if _RANK not in name and not _MINOR.search(name))
    for name in [name for name in names if any(is_fraction(column.get(name)) for column in values)][:MAX_CHARTS]:
        numbers = [
            ChartValue(_label(item), *measured(column[name]))
            for item, column in zip(columns, values, strict=True)
            if is_fraction(column.get(name))
        ]
        title = f"{metric_name(name)}, in %"
        charts.append(figure(title, interval_chart(numbers, f"{benchmark_name(on)}: {title}")))
    return chart_grid(charts)


def _with_rare_grouped(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics in which the categories of few cases are one, with the interval of their common accuracy."""
    grouped: dict[str, Any] = {}
    for name, value in metrics.items():
        counts = _cases_by_category(value)
        grouped[name] = value
        if counts:
            grouped[name] = {
                shown: {
                    "accuracy": value[members[0]]["accuracy"]
                    if len(members) == 1
                    else _common_accuracy(value, members, counts)
                }
                for shown, members in group_rare(counts).items()
            }
    return grouped


def _cases_by_category(value: Any) -> dict[str, int]:
    """Return the number of cases of each category; none if a metric is something else."""
    if not isinstance(value, Mapping) or not all(
        isinstance(entry, Mapping) and "accuracy" in entry for entry in value.values()
    ):
        return {}
    return {name: int(entry.get("num_cases", entry.get("num_images", 0))) for name, entry in value.items()}


def _common_accuracy(value: Mapping[str, Any], members: Sequence[str], counts: Mapping[str, int]) -> dict[str, float]:
    num = sum(counts[name] for name in members)
    accuracy = sum(measured(value[name]["accuracy"])[0] * counts[name] for name in members) / max(num, 1)
    low, high = wilson(accuracy, max(num, 1))
    return {"value": accuracy, "low": low, "high": high}


def is_fraction(value: Any) -> bool:
    """Return whether a number is a share of cases."""
    number = _number(value)
    return number is not None and 0 <= number <= 1


def measured(value: Any) -> tuple[float, float | None, float | None]:
    """Return a number with the ends of its interval, which may be unknown."""
    if not isinstance(value, Mapping):
        return float(value), None, None
    low, high = (value.get(end) for end in ("low", "high"))
    return float(value["value"]), None if low is None else float(low), None if high is None else float(high)


def flat_metrics(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield numbers by dotted name, with their intervals where these are known."""
    for name, value in metrics.items():
        if isinstance(value, Mapping) and {"accuracy", "low", "high"} == value.keys():
            yield prefix + name, {"value": value["accuracy"], "low": value["low"], "high": value["high"]}
        elif isinstance(value, Mapping) and "value" not in value:
            yield from flat_metrics(value, f"{prefix}{name}.")
        elif not isinstance(value, bool | str):
            yield prefix + name, value


def shown_value(value: Any) -> str:
    """Return a number with its interval if it is known; nothing without a number."""
    if isinstance(value, Mapping):
        number, low, high = measured(value)
        return f"{number:.4f}" if low is None or high is None else f"{number:.4f} ({low:.4f} to {high:.4f})"
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _change(name: str, columns: Sequence[Mapping[str, Any]]) -> str:
    first, last = (_number(column.get(name)) for column in (columns[0], columns[-1]))
    return "" if len(columns) < 2 or first is None or last is None else f"{last - first:+.4f}"


def _number(value: Any) -> float | None:
    number = value.get("value") if isinstance(value, Mapping) else value
    return number if isinstance(number, float) else None
