"""The section of a version's page on its quality: blind accuracy, balance before and after, and the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_manifests.nested import leaves
from flows.pages.charts import ChartValue, chart_grid, figure, interval_chart
from flows.pages.html import Html, join, table, tag

CHANCE = 0.5
_MAX_ROWS = 60
_WHEN = ("before", "after", "control")


def quality_section(statistics: Mapping[str, Any]) -> Html:
    """Return charts and tables of a manifest's ``quality``; nothing if it has none.

    Args:
        statistics: A manifest's statistics.
    """
    quality = statistics.get("quality", {})
    charts = [
        _blind(quality.get("blind_accuracy", {}), statistics.get("negatives", {})),
        _balance(quality.get("balance_attributes", {})),
    ]
    found = {name: value for name, value in quality.items() if name not in ("blind_accuracy", "balance_attributes")}
    rest = [(stage, name, _format(value)) for stage, value in found.items() for name, value in leaves(value, ", ")]
    parts = [chart_grid(charts)]
    if rest:
        summary = tag("summary", "What stages measured over all samples")
        parts.append(tag("details", summary, table(("stage", "name", ">value"), rest[:_MAX_ROWS])))
    return join(parts)


def _blind(judges: Mapping[str, Mapping[str, float]], counts: Mapping[str, int]) -> Html:
    """Return a chart for each judge: how often it recognises the caption without the image.

    Labels have the number of negatives of each kind: of a few, the number says little.
    """
    charts = []
    for judge, found in judges.items():
        kinds = sorted(found.keys() - {"num", "overall"}, key=lambda kind: (-found[kind], kind))
        named = {kind: f"{kind} ({counts[kind]:,})" if kind in counts else kind for kind in kinds}
        numbers = [ChartValue(named.get(kind, kind), found[kind]) for kind in ("overall", *kinds) if kind in found]
        title = f"Caption recognised without the image by “{judge}”, in % ({found.get('num', 0):,} negatives)"
        charts.append(figure(title, interval_chart(numbers, title, (CHANCE, "chance"))))
    return join(charts)


def _balance(found: Mapping[str, Any]) -> Html:
    """Return charts of attributes' shares and of the largest violations, before, after and in a random control."""
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
            for group, of_group in groups.items()
            for when in _WHEN
            if (number := of_group.get(when)) is not None
        ]
        mark = (CHANCE, "balanced") if name == "share" else (0.0, "none")
        charts.append(figure(title, interval_chart(numbers, title, mark if numbers else None)))
    rows = [
        (pair, *(f"{entry.get('gap', {}).get(when, 0):+.3f}" for when in _WHEN))
        for pair, entry in found.get("worst_associations", {}).items()
    ]
    worst = table(("associations that were worst", ">gap before", ">after", ">random control"), rows)
    return join([*charts, worst])


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
