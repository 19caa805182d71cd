"""Differences of two manifests: counts, distributions, stages and settings. Reads no data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from data_manifests.caption_negatives import NEGATIVES_PER_CAPTION

_NEGATIVES = "negatives per caption"


@dataclass(frozen=True, slots=True)
class ValueChange:
    """One named value that differs; None on a side that lacks it."""

    name: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class DistributionShift:
    """How far a distribution of integers moved.

    Attributes:
        name: The distribution.
        old_mean: Old mean; None without counts.
        new_mean: New mean; None without counts.
        total_variation: Half the summed difference of the shares: 0 (same) .. 1 (nothing in common).
        ks: Kolmogorov-Smirnov statistic, the largest difference of the cumulated shares: 0 .. 1.
    """

    name: str
    old_mean: float | None
    new_mean: float | None
    total_variation: float
    ks: float


@dataclass(frozen=True, slots=True)
class StageChange:
    """A stage that was added, removed, or has another fingerprint.

    Attributes:
        name: The stage's name.
        kind: The kind of change.
        details: Differences of its version, settings (``config.x``), models (``resources.x``), word lists (``word_lists.x``) and
            image decoder.
    """

    name: str
    kind: Literal["added", "removed", "changed"]
    details: tuple[ValueChange, ...]


def changed_numbers(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[ValueChange, ...]:
    """Return the counts and statistics of two manifest bodies that differ; a missing count is 0.

    Distributions of integers (caption lengths, cluster sizes) are compared by `changed_distributions`.
    """
    before, after = dict(_numbers(old)), dict(_numbers(new))
    names = [*before, *(name for name in after if name not in before)]
    values = [ValueChange(name, before.get(name, 0), after.get(name, 0)) for name in names]
    return tuple(value for value in values if value.old != value.new)


def _numbers(body: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    counts, statistics = body["counts"], body["statistics"]
    for name in ("records", "samples", "captions", "negatives", "views"):
        yield name, counts.get(name, 0)
    yield from _nested("dropped by ", counts["dropped"])
    yield from _nested("texts refused by ", counts.get("rejected", {}))
    yield from _nested("", statistics.get("usage", {}))
    for role in ("negatives", "views"):
        for kind, number in sorted(statistics.get(role, {}).items()):
            yield f"{role}: {kind}", number
    for split, number in sorted(statistics.get("splits", {}).items()):
        yield f"split {split}", number
    yield "image bytes", statistics["image_bytes"]


def _nested(label: str, by_stage: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, int]]:
    for stage, numbers in sorted(by_stage.items()):
        for what, number in sorted(numbers.items()):
            yield f"{label}{stage}: {what}", number


def changed_distributions(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[DistributionShift, ...]:
    """Return the distributions of two manifest bodies that differ."""
    before, after = _histograms(old["statistics"]), _histograms(new["statistics"])
    if not (before[_NEGATIVES] and after[_NEGATIVES]):  # versions made earlier do not record it
        del before[_NEGATIVES]
    shifts = (distribution_shift(name, before[name], after[name]) for name in before)
    return tuple(shift for shift in shifts if shift.total_variation)


def _histograms(statistics: Mapping[str, Any]) -> dict[str, Mapping[int, int]]:
    return {
        "words per caption": _counts(statistics["caption_words"]),
        _NEGATIVES: _counts(statistics.get(NEGATIVES_PER_CAPTION, {}).get("captions", {})),
        "captions per sample": _counts(statistics.get("captions_per_sample", {})),
        # clusters have other numbers in another version, so only their sizes compare
        "cluster sizes": Counter(statistics.get("cluster_sizes", {}).values()),
    }


def _counts(table: Mapping[str, int]) -> dict[int, int]:
    return {int(value): number for value, number in table.items()}


def distribution_shift(name: str, old: Mapping[int, int], new: Mapping[int, int]) -> DistributionShift:
    """Compare two histograms (value -> count); an empty one is at distance 1 from any other."""
    totals = sum(old.values()), sum(new.values())
    means = [
        sum(value * number for value, number in table.items()) / total if total else None
        for table, total in zip((old, new), totals, strict=True)
    ]
    if not all(totals):
        distance = float(any(totals))
        return DistributionShift(name, means[0], means[1], distance, distance)
    cumulated = variation = largest = 0.0
    for value in sorted({*old, *new}):
        step = new.get(value, 0) / totals[1] - old.get(value, 0) / totals[0]
        variation += abs(step) / 2
        cumulated += step
        largest = max(largest, abs(cumulated))
    return DistributionShift(name, means[0], means[1], variation, largest)


def changed_stages(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> tuple[StageChange, ...]:
    """Return the stages that were added, removed, or have another fingerprint or origin, in running order."""
    before = {stage["name"]: stage for stage in old}
    after = {stage["name"]: stage for stage in new}
    changes = [StageChange(name, "removed", ()) for name in before if name not in after]
    for name, stage in after.items():
        if name not in before:
            changes.append(StageChange(name, "added", ()))
        elif any(before[name].get(part) != stage.get(part) for part in ("fingerprint", "origin")):
            changes.append(StageChange(name, "changed", differences(_identity(before[name]), _identity(stage))))
    return tuple(changes)


def _identity(stage: Mapping[str, Any]) -> dict[str, Any]:
    # manifests of older versions name neither word lists nor the image decoder
    return {name: stage[name] for name in ("version", "config", "resources")} | {
        "word_lists": stage.get("word_lists", {}),
        "image_decoder": stage.get("image_decoder"),
        "origin": stage.get("origin", {}),
    }


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[ValueChange, ...]:
    """Return the differences of recipe, source and the order of common stages."""
    orders = [[stage["name"] for stage in body["stages"]] for body in (old, new)]
    common = set(orders[0]) & set(orders[1])
    before, after = (
        {
            "recipe": body["recipe"],
            "source": body["source"],
            "origins": body.get("origins", {}),
            "stage order": [name for name in order if name in common],
        }
        for body, order in zip((old, new), orders, strict=True)
    )
    return differences(before, after)


def differences(old: Any, new: Any, path: str = "") -> tuple[ValueChange, ...]:
    """Return the leaves of two JSON values that differ, named by their dotted path."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return () if old == new else (ValueChange(path, old, new),)
    found: list[ValueChange] = []
    for name in [*old, *(name for name in new if name not in old)]:
        found += differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    return tuple(found)
