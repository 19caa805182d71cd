"""The section of a page on training: losses, and the hardness of negatives over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from data_manifests.nested import leaves
from flows.pages.charts import Points, chart_grid, figure, line_chart
from flows.pages.glossary import word
from flows.pages.html import Html, details, join, note

Log = Sequence[Mapping[str, Any]]

Wanted = Sequence[tuple[str, tuple[str, ...]]]
"""Titles of charts, each with its columns; a name that ends with a dot means all below it."""

_MAIN: Wanted = (
    ("Loss and its terms", ("loss", "objective.")),
    ("Margin of captions to their negatives, and to the nearest rival in the batch", ("hardness.margin", "hardness.rival_margin")),
    (
        "Share of negatives nearer to the image than the caption, and left out as likely true",
        ("hardness.fooled", "hardness.gated_share"),
    ),
)  # fmt: skip
_MORE: Wanted = (
    ("Learning rate", ("lr",)),
    ("Logit scale", ("logit_scale",)),
    ("Norm of the gradient", ("grad_norm",)),
    ("Seconds of a step, and of waiting for data", ("step_s", "wait_s")),
    ("Mean weight of a negative", ("hardness.weight",)),
    ("Mean similarity of negatives to the image", ("negatives.mean_similarity",)),
    ("Mean gap of the chosen to their caption (cosine), and the gate", ("negatives.mean_gap", "negatives.gate")),
    (
        "Band of hardness, and the hardness of what was chosen",
        ("negatives.band_low", "negatives.band_high", "negatives.mean_hardness"),
    ),
    ("Candidates, and negatives chosen of them", ("negatives.candidates", "negatives.count")),
    ("Negatives that count for little, being hopeless", ("negatives.hopeless",)),
    ("Candidates by operation", ("negatives.operation_drawn.",)),
    ("Chosen negatives by operation", ("negatives.operation.",)),
)


def training_curves(log: Log) -> Html:
    """Return charts of a run's log over the same steps, those of the optimiser folded; nothing for an empty log."""
    columns = _columns(log)
    main, more = _charts(columns, _MAIN), _charts(columns, _MORE)
    if not main:
        return Html("")
    remark = note(
        "A ",
        word("margin"),
        " above 0 means that the caption wins; the ",
        word("gate"),
        " leaves out what is likely true.",
    )
    shown = [main, details("More curves", more) if more else ""]
    return join([remark, *shown] if "hardness.margin" in columns else shown)


def overlay_curves(logs: Mapping[str, Log], column: str, title: str) -> Html:
    """Return one chart with a line for each run: a column of its log."""
    series = {name: points for name, log in logs.items() if (points := _columns(log).get(column))}
    steps = [step for points in series.values() for step, _ in points]
    return figure(title, line_chart(series, title, (min(steps), max(steps)))) if steps else Html("")


def _charts(columns: Mapping[str, Points], wanted: Wanted) -> Html:
    steps = [step for points in columns.values() for step, _ in points]
    charts = []
    for title, prefixes in wanted:
        shown = {
            _short(name): points
            for name, points in columns.items()
            if any(name == prefix or (prefix.endswith(".") and name.startswith(prefix)) for prefix in prefixes)
        }
        charts.append(
            figure(title, line_chart(shown, f"{title} by step", (min(steps), max(steps)))) if shown else Html("")
        )
    return chart_grid(charts)


def _short(name: str) -> str:
    for prefix in ("objective.", "negatives.operation_drawn.", "negatives.operation.", "negatives.", "hardness."):
        name = name.removeprefix(prefix)
    return name.replace("_", " ")


def _columns(log: Log) -> dict[str, list[tuple[float, float]]]:
    """Return (step, value) by dotted name; everything but finite numbers is left out."""
    columns: dict[str, list[tuple[float, float]]] = {}
    for line in log:
        for name, value in leaves(line):
            if isinstance(value, int | float) and isfinite(value) and name != "step":
                columns.setdefault(name, []).append((float(line["step"]), float(value)))
    return columns
