"""The table of a comparison: for the terminal, and as Markdown."""

from __future__ import annotations

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


def column_name(on: str, metric: str, all_on: Sequence[str]) -> str:
    """Return a heading: the benchmark's kind, the end of its source where kinds repeat, the metric."""
    kind, _, source = on.partition(":")
    several = sum(other.partition(":")[0] == kind for other in all_on) > 1
    place = source.rstrip("/").replace(":", "/").rpartition("/")[2]
    return " ".join([kind.replace("_", "-"), *([place] if several else []), LABELS.get(metric, metric)])


def columns_of(rows: Sequence[ComparisonRow]) -> list[tuple[str, str]]:
    """Return (``KIND:SRC``, metric) of every metric of any row."""
    return list(dict.fromkeys(key for row in rows for key in row.numbers))


def terminal_table(title: str, rows: Sequence[ComparisonRow], samples: Mapping[str, int], blind: BlindScores) -> Table:
    """Return the table for the terminal: failed rows red, significant differences to the control green or yellow."""
    keys = columns_of(rows)
    names = [f">{column_name(on, metric, [key[0] for key in _first_of_each(keys)])}" for on, metric in keys]
    made = table(title, "row", ">samples", *names, "gate")
    made.columns[0].no_wrap = True
    for row in rows:
        cells = [_terminal_number(row.numbers[key]) if key in row.numbers else Text("") for key in keys]
        name = Text(row.name, "bold red" if row.failed or row.faults else "")
        made.add_row(name, _count(samples, row.name), *cells, _terminal_gate(row), end_section=row.name == CONTROL)
    if blind:
        made.add_section()
        made.add_row(BLIND_ROW, "-", *(_points(blind[key][1]) if key in blind else "" for key in keys), "")
    return made


def markdown_table(rows: Sequence[ComparisonRow], samples: Mapping[str, int], blind: BlindScores) -> str:
    """Return the table as Markdown, its legend below."""
    keys = columns_of(rows)
    names = [column_name(on, metric, [key[0] for key in _first_of_each(keys)]) for on, metric in keys]
    lines = [
        "| " + " | ".join(_cell(name) for name in ("row", "samples", *names, "gate")) + " |",
        "| --- | ---: |" + " ---: |" * len(keys) + " --- |",
    ]
    for row in rows:
        cells = [_number(row.numbers[key]) if key in row.numbers else "" for key in keys]
        name = f"**{row.name}**" if row.failed else row.name
        lines.append("| " + " | ".join([name, _count(samples, row.name), *cells, _cell(_gate(row))]) + " |")
    if blind:
        cells = [f"{_points(blind[key][1])} ({blind[key][0]})" if key in blind else "" for key in keys]
        lines.append("| " + " | ".join([f"*{BLIND_ROW}*", "-", *cells, ""]) + " |")
    return "\n".join([*lines, "", LEGEND])


def _first_of_each(keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return list({on: (on, metric) for on, metric in reversed(keys)}.values())


def _count(samples: Mapping[str, int], name: str) -> str:
    return f"{samples[name]:,}" if name in samples else "-"


def _number(number: HeadlineNumber) -> str:
    text = f"{_points(number.interval.value)} ({_points(number.interval.low)}-{_points(number.interval.high)})"
    return text if number.to_control is None else f"{text} {_difference(number)}"


def _terminal_number(number: HeadlineNumber) -> Text:
    text = Text(f"{_points(number.interval.value)}\n")
    text.append(f"{_points(number.interval.low)}-{_points(number.interval.high)}", "dim")
    if number.to_control is not None:
        significant = number.to_control.is_significant
        text.append(
            f"\n{_difference(number)}", ("green" if number.to_control.value > 0 else "yellow") if significant else ""
        )
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
        first = next(iter(row.faults.values())).splitlines()[0]
        return f"did not run: {first}"
    if row.failed:
        lost = ", ".join(
            f"{on.partition(':')[0].replace('_', '-')} {LABELS.get(metric, metric)} {points:+.1f}"
            for on, metric, points in row.lost
        )
        return f"**failed**: {lost}"
    return "" if row.name == PRETRAINED or not row.numbers else "passed"


def _terminal_gate(row: ComparisonRow) -> Text:
    text = _gate(row).replace("**", "")
    return Text(text, "bold red" if row.failed or row.faults else "green")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
