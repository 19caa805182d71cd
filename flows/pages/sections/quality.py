"""The section of a version's page on its quality: blind accuracy, balance before and after, and the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_manifests.blind_accuracy import BLIND_TOTALS
from data_manifests.nested import leaves
from flows.pages.charts import ChartValue, chart_grid, figure, group_rare, interval_chart, wilson
from flows.pages.glossary import word
from flows.pages.html import Html, join, note, table, tag

CHANCE = 0.5
_MAX_ROWS = 60
_WHEN = ("before", "after", "control")


def quality_section(statistics: Mapping[str, Any]) -> Html:
    """Return charts and tables of a manifest's ``quality``; nothing if it has none.

    Args:
        statistics: A manifest's statistics.
    """
    quality = statistics.get("quality", {})
    found = {name: value for name, value in quality.items() if name not in ("blind_accuracy", "balance_attributes")}
    rest = [(stage, name, _format(value)) for stage, value in found.items() for name, value in leaves(value, ", ")]
    parts = [
        _blind(quality.get("blind_accuracy", {}), statistics.get("negatives", {})),
        _balance(quality.get("balance_attributes", {})),
    ]
    if rest:
        summary = tag("summary", "What stages measured over all samples")
        parts.append(tag("details", summary, table(("stage", "name", ">value"), rest[:_MAX_ROWS])))
    return join(parts)


def _blind(judges: Mapping[str, Mapping[str, Any]], counts: Mapping[str, int]) -> Html:
    """Return a chart for each judge: how often it recognises the caption without the image.

    Args:
        judges: By name the accuracy by kind of negative and ``overall``, and the ``num`` of pairs.
        counts: Negatives of the version by kind; of many, judges see a random part.
    """
    charts = []
    for judge, found in judges.items():
        names, total = found.keys() - BLIND_TOTALS, max(sum(counts.values()), 1)
        kinds = {kind: round(counts.get(kind, 0) * min(found.get("num", 0) / total, 1)) for kind in names}
        numbers = [
            _accuracy(name, [(found[kind], kinds[kind]) for kind in members])
            for name, members in group_rare(kinds).items()
        ]
        numbers.sort(key=lambda item: (-item.value, item.label))
        if "overall" in found:
            numbers.insert(0, _accuracy("overall", [(found["overall"], int(found["num"]))]))
        title = f"Caption recognised without the image by judge “{judge}”, in %"
        charts.append(figure(title, interval_chart(numbers, title, (CHANCE, "chance"))))
    if not charts:
        return Html("")
    remark = note(
        word("blind judge", "Blind judges"), " tell captions from negatives by the texts alone; a negative that they recognise teaches a model "
        "to do without the image. Whiskers: 95 % intervals (Wilson), as if all negatives were of different images.",
    )  # fmt: skip
    return join([remark, chart_grid(charts)])


def _accuracy(name: str, parts: Sequence[tuple[float, int]]) -> ChartValue:
    """Return the accuracy over some categories, (accuracy, cases) each, with its interval; none without cases."""
    num = sum(cases for _, cases in parts)
    if not num:
        return ChartValue(name, parts[0][0])
    accuracy = sum(value * cases for value, cases in parts) / num
    return ChartValue(f"{name} ({num:,})", accuracy, *wilson(accuracy, num))


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
    return join([chart_grid(charts), worst])


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
