"""The section of a version's page about its quality: blind accuracy beside chance, balance before and after, the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flows.pages.charts import ChartValue, figure, interval_chart
from flows.pages.html import Html, join, table, tag

CHANCE = 0.5
_MAX_ROWS = 60
_WHEN = ("before", "after", "control")


def quality_section(statistics: Mapping[str, Any]) -> Html:
    """Return charts and tables of what a manifest says under ``quality``; nothing when it says nothing.

    Args:
        statistics: A manifest's statistics.
    """
    quality = statistics.get("quality", {})
    charts = [
        _blind(quality.get("blind_accuracy", {}), statistics.get("negatives", {})),
        _balance(quality.get("balance_attributes", {})),
    ]
    shown = [chart for chart in charts if chart]
    found = {name: value for name, value in quality.items() if name not in ("blind_accuracy", "balance_attributes")}
    rest = [(stage, name, _told(value)) for stage, value in found.items() for name, value in _leaves(value)]
    parts = [tag("div", *shown, class_="charts") if shown else Html("")]
    if rest:
        summary = tag("summary", "What stages found out of the whole")
        parts.append(tag("details", summary, table(("stage", "what", ">value"), rest[:_MAX_ROWS])))
    return join(parts)


def _blind(judges: Mapping[str, Mapping[str, float]], counts: Mapping[str, int]) -> Html:
    """Return a chart for each judge: how often it tells a caption from its negative without the image.

    Behind each kind stands how many there are: of a few, nothing can be told.
    """
    charts = []
    for judge, found in judges.items():
        kinds = sorted(
            (kind for kind in found if kind not in ("num", "overall")), key=lambda kind: (-found[kind], kind)
        )
        named = {kind: f"{kind} ({counts[kind]:,})" if kind in counts else kind for kind in kinds}
        numbers = [ChartValue(named.get(kind, kind), found[kind]) for kind in ("overall", *kinds) if kind in found]
        title = (
            f"Told from its caption without the image by the judge “{judge}”, in % ({found.get('num', 0):,} negatives)"
        )
        charts.append(figure(title, interval_chart(numbers, title, (CHANCE, "chance"))))
    return join(charts)


def _balance(found: Mapping[str, Any]) -> Html:
    """Return charts of attributes' shares and of the largest violations: before, after, and in a random control."""
    charts = []
    for name, title in (
        ("share", "Share among samples that tell the attribute, in %"),
        ("max_violation", "Largest violation of balance, in %"),
        ("max_gap", "Largest gap of an association, in %"),
    ):
        values = found.get(name, {})
        groups = values if name == "share" else {"": values}
        numbers = [
            ChartValue(f"{group} {when}".strip(), float(number))
            for group, told in groups.items()
            for when in _WHEN
            if (number := told.get(when)) is not None
        ]
        mark = (CHANCE, "balanced") if name == "share" else (0.0, "none")
        charts.append(figure(title, interval_chart(numbers, title, mark if numbers else None)))
    rows = [
        (pair, *(f"{told.get('gap', {}).get(when, 0):+.3f}" for when in _WHEN))
        for pair, told in found.get("worst_associations", {}).items()
    ]
    worst = table(("associations that were worst", ">gap before", ">after", ">random control"), rows)
    return join([*charts, worst])


def _leaves(found: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(found, Mapping):
        yield prefix, found
        return
    for name, value in found.items():
        yield from _leaves(value, f"{prefix}, {name}" if prefix else str(name))


def _told(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
