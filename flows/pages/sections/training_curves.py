"""The sections of a page on training: losses, learning rate, logit scale, and the hardness of negatives over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from data_manifests.nested import leaves
from flows.pages.charts import Points, chart_grid, figure, line_chart
from flows.pages.html import Html

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
    """Return charts of a run's log; nothing for an empty log."""
    return _charts(_columns(log), _CHARTS)


def hardness_curves(log: Log) -> Html:
    """Return charts of the hardness of a run's negatives; nothing if its log has no such numbers."""
    return _charts(_columns(log), _HARDNESS)


def overlay_curves(logs: Mapping[str, Log], column: str, title: str) -> Html:
    """Return one chart with a line for each run: a column of its log."""
    series = {name: _columns(log).get(column, []) for name, log in logs.items()}
    return figure(title, line_chart(series, title))


def _charts(columns: Mapping[str, Points], wanted: Sequence[tuple[str, tuple[str, ...]]]) -> Html:
    charts = []
    for title, prefixes in wanted:
        shown = {
            _short(name): points
            for name, points in columns.items()
            if any(name == prefix or (prefix.endswith(".") and name.startswith(prefix)) for prefix in prefixes)
        }
        charts.append(figure(title, line_chart(shown, f"{title} by step")))
    return chart_grid(charts)


def _short(name: str) -> str:
    for prefix in ("objective.", "negatives.operation.", "negatives.", "hardness."):
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
