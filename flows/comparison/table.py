"""The table of a comparison: for the terminal, and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from flows.comparison.statistics import ComparisonRow, HeadlineNumber
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
BlindScores = Mapping[tuple[str, str], tuple[str, float]]
"""By (``KIND:SRC``, metric): a text-only judge, and its accuracy."""
LEGEND = (
    f"In %: mean over seeds (95 % interval over images and seeds), difference to `{CONTROL}`; ▲ ▼ where the paired test "
    "is significant."
)


def columns_of(rows: Sequence[ComparisonRow]) -> dict[tuple[str, str], str]:
    """Return headings by (``KIND:SRC``, metric): the kind, the end of the source where kinds repeat, the metric."""
    keys = dict.fromkeys(key for row in rows for key in row.numbers)
    kinds = Counter(on.partition(":")[0] for on in {on for on, _ in keys})
    headings = {}
    for on, metric in keys:
        kind, _, source = on.partition(":")
        place = source.rstrip("/").replace(":", "/").rpartition("/")[2]
        words = [kind.replace("_", "-"), *([place] if kinds[kind] > 1 else []), LABELS.get(metric, metric)]
        headings[on, metric] = " ".join(words)
    return headings


def terminal_table(title: str, rows: Sequence[ComparisonRow], samples: Mapping[str, int], blind: BlindScores) -> Table:
    """Return the table for the terminal: failed rows red, significant differences to the control green or yellow."""
    columns = columns_of(rows)
    made = table(title, "row", ">samples", *(f">{name}" for name in columns.values()), "gate")
    made.columns[0].no_wrap = True
    for row in rows:
        cells = [_terminal_number(row.numbers[key]) if key in row.numbers else Text("") for key in columns]
        style = "bold red" if row.failed or row.faults else ""
        gate = Text(_gate(row).replace("**", ""), style or "green")
        name, is_control = Text(row.name, style), row.name == CONTROL
        made.add_row(name, _count(samples, row.name), *cells, gate, end_section=is_control)
    if blind:
        made.add_section()
        made.add_row(BLIND_ROW, "-", *(_points(blind[key][1]) if key in blind else "" for key in columns), "")
    return made


def markdown_table(rows: Sequence[ComparisonRow], samples: Mapping[str, int], blind: BlindScores) -> str:
    """Return the table as Markdown, its legend below."""
    columns = columns_of(rows)
    lines = [
        "| " + " | ".join(_cell(name) for name in ("row", "samples", *columns.values(), "gate")) + " |",
        "| --- | ---: |" + " ---: |" * len(columns) + " --- |",
    ]
    for row in rows:
        cells = [_number(row.numbers[key]) if key in row.numbers else "" for key in columns]
        name = f"**{row.name}**" if row.failed else row.name
        lines.append("| " + " | ".join([name, _count(samples, row.name), *cells, _cell(_gate(row))]) + " |")
    if blind:
        cells = [f"{_points(blind[key][1])} ({blind[key][0]})" if key in blind else "" for key in columns]
        lines.append("| " + " | ".join([f"*{BLIND_ROW}*", "-", *cells, ""]) + " |")
    return "\n".join([*lines, "", LEGEND])


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
