"""A diff as printed in the terminal; `flows.pages.diff` makes its page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.text import Text

from data_manifests.diff import SampleDiff, SampleRef, VersionDiff
from data_manifests.drift import ValueChange
from data_manifests.text_diff import CaptionChange, DifficultyChange, TextChange
from flows.terminal.console import clean, edit_text, print_table

_MAX_CHARS = 300
MAX_EDITED, MAX_REFS, MAX_TEXTS = 20, 10, 8
"""Most samples of each kind, and most texts of a sample, that are printed."""


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
        f"{diff.num_edited:,} edited, {diff.num_followed:,} followed, {diff.num_moved:,} moved to another place in the shards",
        highlight=False,
    )
    _print_fields(diff, console)
    for sample in diff.edited[:MAX_EDITED]:
        _print_sample(sample, console)
    _more(diff.num_edited - MAX_EDITED, "edited", console)
    if diff.num_followed:
        console.print("\n" + format_followed(diff), highlight=False)
    _print_refs("added", "+", diff.added, diff.num_added, console)
    _print_refs("removed", "-", diff.removed, diff.num_removed, console)
    _print_numbers(diff, console)
    _print_stages(diff, console)


def format_followed(diff: VersionDiff) -> str:
    """Return a sentence on the samples that nobody edited and that differ."""
    fields = sorted({name for sample in diff.followed for name in sample.fields})
    return (
        f"{diff.num_followed:,} samples were not edited and differ in what stages computed: {', '.join(fields)} "
        "(refits, other settings, or neighbours of edited samples)"
    )


def _print_fields(diff: VersionDiff, console: Console) -> None:
    lines = [("fields that differ", ", ".join(f"{name} in {number:,}" for name, number in diff.edited_fields.items()))]
    lines += [("new fields", ", ".join(diff.added_fields)), ("fields gone", ", ".join(diff.removed_fields))]
    for label, names in lines:
        if names:
            console.print(Text.assemble((f"{label}: ", "dim"), names))


def _print_sample(sample: SampleDiff, console: Console) -> None:
    console.print(Text.assemble("\n", (clean(sample.name), "bold"), " ", (sample.uid, "dim")))
    texts: list[tuple[str, CaptionChange | TextChange]] = [(caption_label(item), item) for item in sample.captions]
    texts += [("negative " + record_label(item, "operation", "span_class"), item) for item in sample.negatives]
    texts += [(record_label(item, "kind", "family"), item) for item in sample.views]
    for label, item in texts[:MAX_TEXTS]:
        heading = (clean(f"{label}, {item.kind}: "), "dim")
        console.print(Text.assemble("  ", heading, edit_text(item.pieces, console)), soft_wrap=True)
    _more(len(texts) - MAX_TEXTS, "texts", console)
    if sample.regraded:
        console.print("  " + format_regraded(sample.regraded), highlight=False)
    if sample.num_rescored:
        console.print("  " + format_rescored(sample.num_rescored), highlight=False)
    for value in sample.values[:MAX_TEXTS]:
        console.print(_value(value), soft_wrap=True)
    _more(len(sample.values) - MAX_TEXTS, "values", console)


def caption_label(change: CaptionChange) -> str:
    """Return a caption's position, the new one if it has one."""
    return f"caption {change.old_position if change.new_position is None else change.new_position}"


def record_label(change: TextChange, *fields: str) -> str:
    """Return the values of some fields of a negative or view, of the new one if there is one."""
    record = change.new or change.old or {}
    return " ".join(str(record.get(name)) for name in fields)


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
    counts = [
        (_plain(item.name), f"{item.old:,}", f"{item.new:,}", f"{item.new - item.old:+,}") for item in diff.numbers
    ]
    _print_table("counts", ("what", ">before", ">after", ">change"), counts, console)
    negatives = []
    for row in diff.negatives:
        numbers = (f"{number:,}" for number in (row.added, row.removed, row.changed, row.regraded))
        negatives.append((_plain(row.operation), _plain(row.span_class), *numbers))
    heads = ("operation", "span class", ">added", ">removed", ">changed", ">regraded")
    _print_table("negatives in samples of both", heads, negatives, console)
    shifts = []
    for item in diff.distributions:
        means = ("none" if mean is None else f"{mean:.3f}" for mean in (item.old_mean, item.new_mean))
        shifts.append((item.name, *means, f"{item.total_variation:.4f}", f"{item.ks:.4f}"))
    columns = ("what", ">mean before", ">mean after", ">total variation", ">KS")
    _print_table("distributions", columns, shifts, console)
    clusters = diff.clusters
    if clusters and (clusters.num_moved or clusters.num_old != clusters.num_new):
        moved = f"{clusters.num_moved:,} samples moved"
        console.print(f"clusters: {clusters.num_old:,} → {clusters.num_new:,}, {moved}", highlight=False)
    for shift in diff.shifts:
        moved = f"{shift.num_changed:,} samples moved, mean absolute difference {shift.mean_abs:.4f}"
        console.print(f"{shift.name}: {moved}", highlight=False)


def _print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], console: Console) -> None:
    """Print a blank line and a table, or nothing if it has no rows."""
    if rows := list(rows):
        console.print()
        print_table(title, columns, rows, console)


def _print_stages(diff: VersionDiff, console: Console) -> None:
    rows = [
        (stage.name, stage.kind, item.name, *_sides(item))
        for stage in diff.stages
        for item in stage.details or (ValueChange("", "", ""),)
    ]
    rows += [(item.name, "changed", "", *_sides(item)) for item in diff.settings]
    _print_table("stages and settings", ("stage or setting", "", "what", "before", "after"), rows, console)


def _plain(text: str) -> Text:
    return Text(clean(text))


def _sides(value: ValueChange) -> tuple[Text, Text]:
    return _plain(format_value(value.old)), _plain(format_value(value.new))


def format_regraded(regraded: DifficultyChange) -> str:
    """Return a sentence with how many negatives changed difficulty, and their mean difficulty before and after."""
    return f"negatives regraded: {regraded.number:,}, mean difficulty {regraded.old:.2f} → {regraded.new:.2f}"


def format_rescored(number: int) -> str:
    """Return a sentence with how many negatives changed scores but neither text nor difficulty."""
    return f"negatives with other scores: {number:,}"


def format_value(value: Any) -> str:
    """Return a JSON value as text of bounded length; ``none`` for None, name and hash for a model or file."""
    if isinstance(value, dict) and value.keys() == {"name", "hash"}:
        value = f"{value['name']} ({value['hash'][:8]})"
    text = "none" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]} …"
