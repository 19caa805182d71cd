"""The sections of a page about training: losses, rate, scale, and how hard negatives were over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from flows.pages.charts import Points, figure, line_chart
from flows.pages.html import Html, tag

Log = Sequence[Mapping[str, Any]]

_CHARTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Loss", ("loss",)),
    ("Objectives", ("objective.",)),
    ("Learning rate", ("lr",)),
    ("Logit scale", ("logit_scale",)),
    ("Norm of the gradient", ("grad_norm",)),
    ("Seconds of a step", ("step_s", "wait_s")),
)
_HARDNESS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Margin of captions to their negatives, and to the nearest rival in the batch",
        ("hardness.margin", "hardness.rival_margin"),
    ),
    (
        "Negatives nearer to the image than the caption, and left out as likely true (shares)",
        ("hardness.fooled", "hardness.gated_share"),
    ),
    ("Mean weight of a negative", ("hardness.weight",)),
    ("Mean similarity of negatives and the gate", ("negatives.mean_similarity", "negatives.gate")),
    ("Band of hardness that is drawn from", ("negatives.band_low", "negatives.band_high")),
    ("Negatives that count for little, being hopeless", ("negatives.hopeless",)),
    ("Negatives by operation", ("negatives.operation.",)),
)


def training_curves(log: Log) -> Html:
    """Return a chart for each thing that a run's log tells of training; nothing of an empty log."""
    return _charts(_columns(log), _CHARTS)


def hardness_curves(log: Log) -> Html:
    """Return charts of how hard a run's negatives were, step by step; nothing when its log says nothing of it."""
    return _charts(_columns(log), _HARDNESS)


def overlaid(logs: Mapping[str, Log], column: str, title: str) -> Html:
    """Return one column of several runs' logs as lines of one chart."""
    series = {name: _columns(log).get(column, []) for name, log in logs.items()}
    return figure(title, line_chart(series, title))


def _charts(columns: Mapping[str, Points], wanted: Sequence[tuple[str, tuple[str, ...]]]) -> Html:
    charts = []
    for title, names in wanted:
        shown = {
            _short(name): points
            for name, points in columns.items()
            if any(name == one or (one.endswith(".") and name.startswith(one)) for one in names)
        }
        charts.append(figure(title, line_chart(shown, f"{title} by step")))
    made = [chart for chart in charts if chart]
    return tag("div", *made, class_="charts") if made else Html("")


def _short(name: str) -> str:
    for prefix in ("objective.", "negatives.operation.", "negatives.", "hardness."):
        name = name.removeprefix(prefix)
    return name.replace("_", " ")


def _columns(log: Log) -> dict[str, list[tuple[float, float]]]:
    """Return (step, value) by dotted name; what is no finite number is left out."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in log:
        for name, value in _numbers(line):
            found.setdefault(name, []).append((float(line["step"]), value))
    return found


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and isfinite(value) and not (name == "step" and not prefix):
            yield f"{prefix}{name}", float(value)
