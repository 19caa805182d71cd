"""A diff as people read it in the terminal; `flows.pages.diff` is its page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.text import Text

from data_manifests.diff import SampleDiff, SampleRef, VersionDiff
from data_manifests.drift import ValueChange
from data_manifests.text_diff import CaptionChange, DifficultyChange, DiffPiece, TextChange
from flows.terminal.console import clean, table, words

_MAX_CHARS = 300
MAX_EDITED, MAX_REFS, MAX_TEXTS = 20, 10, 8
"""Most samples of each sort, and most texts of a sample, in the terminal."""


def print_diff(diff: VersionDiff, console: Console) -> None:
    """Print how two versions differ; removed words red and struck out, added ones green and underlined.

    Without colours, words are marked as ``[-removed-]`` and ``{+added+}``.
    """
    console.print(Text.assemble((diff.old, "bold"), " → ", (diff.new, "bold")))
    if diff.is_empty:
        console.print("nothing differs")
        return
    console.print(
        f"{diff.num_old:,} → {diff.num_new:,} samples: {diff.num_added:,} added, {diff.num_removed:,} removed, "
        f"{diff.num_edited:,} edited, {diff.num_moved:,} at another place in the shards",
        highlight=False,
    )
    _print_fields(diff, console)
    for sample in diff.edited[:MAX_EDITED]:
        _print_sample(sample, console)
    _more(diff.num_edited - MAX_EDITED, "edited", console)
    _print_refs("added", "+", diff.added, diff.num_added, console)
    _print_refs("removed", "-", diff.removed, diff.num_removed, console)
    _print_numbers(diff, console)
    _print_stages(diff, console)


def _print_fields(diff: VersionDiff, console: Console) -> None:
    lines = [("fields that differ", ", ".join(f"{name} in {number:,}" for name, number in diff.edited_fields.items()))]
    lines += [("new fields", ", ".join(diff.added_fields)), ("fields gone", ", ".join(diff.removed_fields))]
    for label, told in lines:
        if told:
            console.print(Text.assemble((f"{label}: ", "dim"), told))


def _print_sample(sample: SampleDiff, console: Console) -> None:
    console.print(Text.assemble("\n", (clean(sample.name), "bold"), " ", (sample.uid, "dim")))
    texts: list[tuple[str, Iterable[DiffPiece]]] = [(_caption_label(item), item.pieces) for item in sample.captions]
    texts += [(_negative_label(item), item.pieces) for item in sample.negatives]
    texts += [(_view_label(item), item.pieces) for item in sample.views]
    for label, pieces in texts[:MAX_TEXTS]:
        console.print(Text.assemble("  ", (f"{label}: ", "dim"), words(pieces, console)), soft_wrap=True)
    _more(len(texts) - MAX_TEXTS, "texts", console)
    if sample.regraded:
        console.print("  " + format_regraded(sample.regraded), highlight=False)
    if sample.num_rescored:
        console.print("  " + format_rescored(sample.num_rescored), highlight=False)
    for value in sample.values[:MAX_TEXTS]:
        console.print(_value(value), soft_wrap=True)
    _more(len(sample.values) - MAX_TEXTS, "values", console)


def _caption_label(change: CaptionChange) -> str:
    position = change.old_position if change.new_position is None else change.new_position
    return f"caption {position}, {change.kind}"


def _negative_label(change: TextChange) -> str:
    record = change.new or change.old or {}
    return clean(f"negative {record.get('operation')} {record.get('span_class')}, {change.kind}")


def _view_label(change: TextChange) -> str:
    record = change.new or change.old or {}
    return clean(f"{record.get('kind')} {record.get('family')}, {change.kind}")


def _value(value: ValueChange) -> Text:
    return Text.assemble(
        "  ", (f"{value.name}: ", "dim"), clean(format_value(value.old)), " → ", clean(format_value(value.new))
    )


def _more(number: int, what: str, console: Console) -> None:
    if number > 0:
        console.print(f"  … and {number:,} more {what} (--html FILE shows pictures, --json lists them)", style="dim")


def _print_refs(word: str, sign: str, samples: Sequence[SampleRef], total: int, console: Console) -> None:
    if samples:
        console.print(f"\n{total:,} {word}", style="bold", highlight=False)
    for sample in samples[:MAX_REFS]:
        text = Text.assemble(f"  {sign} {clean(sample.name)} ", (sample.uid, "dim"), f"  {clean(sample.caption)}")
        console.print(text, soft_wrap=True)
    _more(total - MAX_REFS, word, console)


def _print_numbers(diff: VersionDiff, console: Console) -> None:
    numbers = table("counts", "what", ">before", ">after", ">change")
    for value in diff.numbers:
        numbers.add_row(Text(clean(value.name)), f"{value.old:,}", f"{value.new:,}", f"{value.new - value.old:+,}")
    columns = ("operation", "span class", ">added", ">removed", ">changed", ">graded anew")
    negatives = table("negatives in samples of both", *columns)
    for row in diff.negatives:
        counts = (f"{number:,}" for number in (row.added, row.removed, row.changed, row.regraded))
        negatives.add_row(Text(clean(row.operation)), Text(clean(row.span_class)), *counts)
    shifts = table("distributions", "what", ">mean before", ">mean after", ">total variation", ">KS")
    for item in diff.distributions:
        means = ("none" if mean is None else f"{mean:.3f}" for mean in (item.old_mean, item.new_mean))
        shifts.add_row(item.name, *means, f"{item.total_variation:.4f}", f"{item.ks:.4f}")
    for made in (numbers, negatives, shifts):
        if made.row_count:
            console.print()
            console.print(made)
    if diff.clusters and (diff.clusters.num_moved or diff.clusters.num_old != diff.clusters.num_new):
        found = diff.clusters
        told = f"{found.num_old:,} → {found.num_new:,}, {found.num_moved:,} samples moved"
        console.print(f"clusters: {told}", highlight=False)
    for shift in diff.shifts:
        told = f"{shift.num_changed:,} samples moved, mean absolute difference {shift.mean_abs:.4f}"
        console.print(f"{shift.name}: {told}", highlight=False)


def _print_stages(diff: VersionDiff, console: Console) -> None:
    made = table("stages and settings", "stage or setting", "", "what", "before", "after")
    for stage in diff.stages:
        for item in stage.details or (ValueChange("", "", ""),):
            made.add_row(stage.name, stage.kind, item.name, *_sides(item))
    for item in diff.settings:
        made.add_row(item.name, "changed", "", *_sides(item))
    if made.row_count:
        console.print()
        console.print(made)


def _sides(value: ValueChange) -> tuple[Text, Text]:
    return Text(clean(format_value(value.old))), Text(clean(format_value(value.new)))


def format_regraded(regraded: DifficultyChange) -> str:
    """Say how many negatives have another difficulty, and how it moved."""
    moved = f"{regraded.old:.2f} → {regraded.new:.2f}"
    return f"negatives graded anew: {regraded.number:,}, mean difficulty {moved}"


def format_rescored(number: int) -> str:
    """Say how many negatives kept text and difficulty and differ in something else."""
    return f"negatives with other scores: {number:,}"


def format_value(value: Any) -> str:
    """Return a JSON value as text of bounded length; ``none`` for what is not there."""
    text = "none" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} …"
