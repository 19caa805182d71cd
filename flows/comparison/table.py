"""The table of a comparison: for the terminal, and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from rich.table import Table
from rich.text import Text

from flows.comparison.metrics import MetricKey
from flows.comparison.rows import Comparison, ComparisonRow, HeadlineNumber
from flows.comparison.variants import CONTROL, PRETRAINED
from flows.terminal.console import table

LABELS = {
    "image_to_text_R@1": "R@1 image→text",
    "text_to_image_R@1": "R@1 text→image",
    "order_accuracy": "accuracy",
    "foil_accuracy": "foils",
    "top1": "top-1",
}
BLIND_ROW = "best blind judge"
NO_HEADLINE = " °"
"""Follows the heading of a composition test that is no headline."""
LEGEND = (
    f"In %: mean over seeds (95 % interval over images and seeds), difference to `{CONTROL}`; ▲ ▼ where the paired test "
    "is significant."
)


def columns_of(comparison: Comparison) -> dict[MetricKey, str]:
    """Return headings: the kind, the end of the source where kinds repeat, the metric."""
    kinds = Counter(on.partition(":")[0] for on in {role.on for role in comparison.metrics})
    headings = {}
    for role in comparison.metrics:
        on, metric = role.on, role.metric
        kind, _, source = on.partition(":")
        place = source.rstrip("/").replace(":", "/").rpartition("/")[2]
        words = [kind.replace("_", "-"), *([place] if kinds[kind] > 1 else []), LABELS.get(metric, metric)]
        headings[on, metric] = " ".join(words) + (NO_HEADLINE if role.reason else "")
    return headings


def terminal_table(title: str, comparison: Comparison, samples: Mapping[str, int]) -> Table:
    """Return the table for the terminal: failed rows red, significant differences to the control green or yellow."""
    columns = columns_of(comparison)
    made = table(title, "row", ">share", ">samples", *(f">{name}" for name in columns.values()), "gate")
    made.columns[0].no_wrap = True
    for row in comparison.rows:
        cells = [_terminal_number(row.numbers[key]) if key in row.numbers else Text("") for key in columns]
        style = "bold red" if row.failed or row.faults else ""
        gate = Text(_gate(row).replace("**", ""), style or "green")
        name, is_control = Text(row.name, style), row.name == CONTROL
        made.add_row(name, _share(row), _count(samples, row.name), *cells, gate, end_section=is_control)
    if blind := comparison.blind:
        made.add_section()
        made.add_row(BLIND_ROW, "", "-", *(_points(blind[key][1]) if key in blind else "" for key in columns), "")
    return made


def markdown_table(comparison: Comparison, samples: Mapping[str, int]) -> str:
    """Return the table as Markdown, its legend below."""
    columns = columns_of(comparison)
    lines = [
        "| " + " | ".join(_cell(name) for name in ("row", "share", "samples", *columns.values(), "gate")) + " |",
        "| --- | ---: | ---: |" + " ---: |" * len(columns) + " --- |",
    ]
    for row in comparison.rows:
        cells = [_number(row.numbers[key]) if key in row.numbers else "" for key in columns]
        name = f"**{row.name}**" if row.failed else row.name
        parts = [name, _share(row), _count(samples, row.name), *cells, _cell(_gate(row))]
        lines.append("| " + " | ".join(parts) + " |")
    if blind := comparison.blind:
        cells = [f"{_points(blind[key][1])} ({blind[key][0]})" if key in blind else "" for key in columns]
        lines.append("| " + " | ".join([f"*{BLIND_ROW}*", "", "-", *cells, ""]) + " |")
    return "\n".join([*lines, "", LEGEND])


def describe_dominance(comparison: Comparison) -> Iterator[str]:
    """Yield sentences: which tests are no headline and why, and which row dominates which."""
    columns = columns_of(comparison)
    for role in comparison.metrics:
        if role.reason:
            yield f"{columns[role.on, role.metric]}: no headline, {role.reason}."
    over: dict[str, list[str]] = {}
    for pair in comparison.dominance:
        tests = ", ".join(columns[key] for key in pair.higher)
        over.setdefault(pair.row, []).append(f"{pair.over} ({tests})")
    if not any(role.headline and role.role == "composition" for role in comparison.metrics):
        yield "No composition test here is a headline, so no row can dominate another."
        return
    for row, others in over.items():
        yield f"{row} dominates {', '.join(others)}."
    found = "" if over else "No row dominates another. "
    yield (
        f"{found}A row dominates another if paired tests find it higher in a headline test of composition, and lower in no "
        "other headline, R@1 or zero-shot accuracy (intervals of 95 % over images and seeds, not corrected for the number of pairs)."
    )


def _share(row: ComparisonRow) -> str:
    return "" if row.share is None else f"{row.share:g}"


def _count(samples: Mapping[str, int], name: str) -> str:
    return f"{samples[name]:,}" if name in samples else "-"


def _number(number: HeadlineNumber) -> str:
    text = f"{_points(number.interval.value)} ({_points(number.interval.low)}-{_points(number.interval.high)})"
    return text if number.to_control is None else f"{text} {_difference(number)}"


def _terminal_number(number: HeadlineNumber) -> Text:
    text = Text(f"{_points(number.interval.value)}\n")
    text.append(f"{_points(number.interval.low)}-{_points(number.interval.high)}", "dim")
    if number.to_control is not None:
        style = "green" if number.to_control.value > 0 else "yellow"
        text.append(f"\n{_difference(number)}", style if number.to_control.is_significant else "")
    return text


def _difference(number: HeadlineNumber) -> str:
    found = number.to_control
    if found is None:
        return ""
    mark = ("▲" if found.value > 0 else "▼") if found.is_significant else ""
    return f"{100 * found.value:+.1f}{mark}"


def _points(value: float) -> str:
    return f"{100 * value:.1f}"


def _gate(row: ComparisonRow) -> str:
    if row.faults:
        return f"did not run: {next(iter(row.faults.values())).splitlines()[0]}"
    if row.failed:
        lost = ", ".join(
            f"{on.partition(':')[0].replace('_', '-')} {LABELS.get(metric, metric)} {points:+.1f}"
            for on, metric, points in row.lost
        )
        return f"**failed**: {lost}"
    return "" if row.name == PRETRAINED or not row.numbers else "passed"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
