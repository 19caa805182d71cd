"""How often judges that see no image prefer captions to negatives, as a manifest has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BLIND_TOTALS = frozenset({"num", "overall", "operations"})
"""Names in a judge's blind accuracy that are not kinds of negatives."""


def blind_rows(judges: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return rows of a table: overall, each operation with its 95 % interval, each kind; in %, one text for each judge.

    Args:
        judges: ``statistics.quality.blind_accuracy`` of a manifest; earlier versions have no operations in it.
    """
    operations = sorted({name for found in judges.values() for name in found.get("operations", {})})
    kinds = sorted({kind for found in judges.values() for kind in found} - BLIND_TOTALS)
    rows = [("overall", [_percent(found.get("overall")) for found in judges.values()])]
    for name in operations:
        parts = [found.get("operations", {}).get(name) for found in judges.values()]
        num = max(part["num"] for part in parts if part)
        rows.append((f"{name}, all {num:,}", [_with_interval(part) for part in parts]))
    return [*rows, *((kind, [_percent(found.get(kind)) for found in judges.values()]) for kind in kinds)]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _with_interval(part: Mapping[str, float] | None) -> str:
    return f"{_percent(part['accuracy'])} ({100 * part['low']:.0f}-{100 * part['high']:.0f})" if part else ""
