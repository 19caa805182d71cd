"""The page of a diff of two versions, with pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from data_manifests.diff import SampleDiff, SampleRef, VersionDiff
from data_manifests.drift import ValueChange
from data_manifests.index_diff import NumberShift
from data_manifests.manifest import DatasetVersion
from data_manifests.text_diff import CaptionChange, TextChange, diff_captions, diff_words
from flows.pages.html import Html, Section, captioned, card, details, diff_markup, join, note, page, table, tag, tiles
from flows.pages.thumbnails import Thumbnails
from flows.terminal.diff import (
    caption_label,
    format_followed,
    format_regraded,
    format_rescored,
    format_value,
    record_label,
)


@dataclass(frozen=True)
class PictureLimits:
    """Most pictures of each kind of change."""

    edited: int
    added: int
    removed: int
    moved: int


PAGE_LIMITS = PictureLimits(80, 45, 45, 24)
"""On a page of its own: below 200 together."""
SECTION_LIMITS = PictureLimits(12, 12, 12, 0)
"""In a section of another page."""

_CHANGE_LABELS = {"changed": "changed", "added": "new", "removed": "gone", "moved": "moved"}

DrawPicture = Callable[[str, str], Html]


def diff_html(diff: VersionDiff, old: DatasetVersion, new: DatasetVersion) -> str:
    """Return one self-contained page: pictures embedded, no script, no network; everything is escaped.

    Args:
        diff: Result of `diff_versions`.
        old: The old version, for pictures of removed samples.
        new: The new version, for all other pictures.

    Raises:
        InputError: a shard is missing or shorter than its index says.
    """
    return page(f"{diff.old} → {diff.new}", diff_lead(diff), diff_sections(diff, old, new))


def diff_sections(
    diff: VersionDiff, old: DatasetVersion, new: DatasetVersion, limits: PictureLimits = PAGE_LIMITS
) -> list[Section]:
    """Return the sections of the page of a diff.

    Args:
        diff: Result of `diff_versions`.
        old: The old version.
        new: The new version.
        limits: How many pictures of each kind of change.

    Raises:
        InputError: a shard is missing or shorter than its index says.
    """
    moved = diff.clusters.moved[: limits.moved] if diff.clusters else ()
    shown = [item.uid for item in diff.edited[: limits.edited]] + [item.uid for item in diff.added[: limits.added]]
    shown += [item.uid for item in moved] + [item.uid for item in diff.followed[: limits.edited]]
    gone = [item.uid for item in diff.removed[: limits.removed]]
    with Thumbnails(new, shown) as now, Thumbnails(old, gone) as before:
        return [
            ("edited", "Edited samples", _edited(diff, limits.edited, now.picture)),
            ("followed", "Samples that followed", _followed(diff, limits.edited, now.picture)),
            ("added", "Added samples", _refs(diff.added, diff.num_added, limits.added, now.picture)),
            ("removed", "Removed samples", _refs(diff.removed, diff.num_removed, limits.removed, before.picture)),
            ("negatives", "Negatives", _negatives(diff)),
            ("clusters", "Clusters", _clusters(diff, limits.moved, now.picture)),
            ("scores", "Difficulty and scores", join(_shift(shift) for shift in diff.shifts)),
            ("numbers", "Counts", table(("what", ">before", ">after", ">change"), map(_number_row, diff.numbers))),
            ("distributions", "Distributions", _distributions(diff)),
            ("stages", "Stages and settings", _stages(diff)),
        ]


def diff_lead(diff: VersionDiff) -> Html:
    """Return the content above the sections: how many samples differ."""
    if diff.is_empty:
        return tag("p", "Nothing differs.")
    values: list[tuple[object, str]] = [
        (f"{diff.num_old:,} → {diff.num_new:,}", "samples"),
        (f"{diff.num_added:,}", "added"),
        (f"{diff.num_removed:,}", "removed"),
        (f"{diff.num_edited:,}", "edited"),
        (f"{diff.num_followed:,}", "followed"),
        (f"{diff.num_moved:,}", "moved in the shards"),
    ]
    if diff.clusters:
        values.append((f"{diff.clusters.num_moved:,}", "in another cluster"))
    return tiles(values)


def _edited(diff: VersionDiff, max_pictures: int, picture: DrawPicture) -> Html:
    fields = [f"{name} in {number:,}" for name, number in diff.edited_fields.items()]
    parts: list[Html] = [tag("p", "Fields that differ: ", ", ".join(fields), ".")] if fields else []
    for what, names in (("new", diff.added_fields), ("gone", diff.removed_fields)):
        if names:
            parts.append(tag("p", f"Fields that are {what} in all samples: ", ", ".join(names), "."))
    if diff.edited:
        parts.append(tag("div", *(_card(item, picture) for item in diff.edited[:max_pictures]), class_="cards"))
    return join([*parts, _more(diff.num_edited, min(len(diff.edited), max_pictures))])


def _followed(diff: VersionDiff, max_pictures: int, picture: DrawPicture) -> Html:
    """Return one line on the samples that nobody edited and that differ; it opens to show them."""
    if not diff.followed:
        return Html("")
    cards = tag("div", *(_card(item, picture) for item in diff.followed[:max_pictures]), class_="cards")
    more = _more(diff.num_followed, min(len(diff.followed), max_pictures))
    return details(format_followed(diff), join([cards, more]))


def _more(total: int, shown: int) -> Html:
    if total <= shown:
        return Html("")
    return note(f"{total - shown:,} more are not shown; clipcurate diff --json lists them.")


def _card(sample: SampleDiff, picture: DrawPicture) -> Html:
    kept = (piece.text for change in sample.captions[:1] for piece in change.pieces if piece.kind != "removed")
    alternative = "".join(kept) or sample.name
    content = [tag("h3", sample.name), tag("div", *(tag("span", name, class_="tag") for name in sample.fields))]
    if sample.captions:
        content.append(tag("ul", *(_change(caption_label(item), item) for item in sample.captions)))
    negatives = (_change(record_label(item, "operation", "span_class"), item) for item in sample.negatives)
    content += _details(f"{len(sample.negatives)} negative(s) differ", negatives)
    if sample.regraded:
        content.append(tag("p", format_regraded(sample.regraded)))
    if sample.num_rescored:
        content.append(tag("p", format_rescored(sample.num_rescored)))
    views = (_change(record_label(item, "kind", "family"), item) for item in sample.views)
    content += _details(f"{len(sample.views)} rewrite(s) and knowledge caption(s) differ", views)
    content += _details(f"{len(sample.values)} other value(s) differ", map(_value, sample.values))
    content.append(tag("code", sample.uid))
    return card(picture(sample.uid, alternative), *content)


def _details(summary: str, items: Iterable[Html]) -> list[Html]:
    """Return a list that opens on a click; nothing without items."""
    listed = list(items)
    return [details(summary, tag("ul", *listed))] if listed else []


def _change(label: str, change: CaptionChange | TextChange) -> Html:
    text = tag("span", f"{label}, {_CHANGE_LABELS[change.kind]}: ", class_="soft")
    return tag("li", text, diff_markup(change.pieces))


def _value(value: ValueChange) -> Html:
    """Return a value that differs; texts and lists of texts word by word."""
    name = tag("span", f"{value.name}: ", class_="soft")
    if isinstance(value.old, str) and isinstance(value.new, str):
        return tag("li", name, diff_markup(diff_words(value.old, value.new)))
    if _are_texts(value.old) and _are_texts(value.new):
        changes, _ = diff_captions(value.old, value.new)
        return tag("li", name, tag("ul", *(tag("li", diff_markup(change.pieces)) for change in changes)))
    return tag("li", name, tag("del", format_value(value.old)), " ", tag("ins", format_value(value.new)))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _refs(samples: Sequence[SampleRef], total: int, max_pictures: int, picture: DrawPicture) -> Html:
    if not samples:
        return Html("")
    figures = []
    for item in samples[:max_pictures]:
        caption = tag("span", item.caption, class_="text", dir="auto")
        figures.append(captioned(picture(item.uid, item.caption), caption, " ", tag("code", item.name)))
    return join([tag("div", *figures, class_="grid"), _more(total, len(figures))])


def _negatives(diff: VersionDiff) -> Html:
    rows = [
        (row.operation, row.span_class, row.added, row.removed, row.changed, row.regraded) for row in diff.negatives
    ]
    remark = note("In samples that both versions have.") if rows else Html("")
    return join([remark, table(("operation", "span class", ">added", ">removed", ">changed", ">graded anew"), rows)])


def _clusters(diff: VersionDiff, max_pictures: int, picture: DrawPicture) -> Html:
    found = diff.clusters
    if found is None or (not found.num_moved and found.num_old == found.num_new):
        return Html("")
    text = (
        f"{found.num_old:,} clusters became {found.num_new:,}; {len(found.matched):,} are matched by their common "
        f"samples, and {found.num_moved:,} samples are outside that match."
    )
    became = {before: f"became {after}" for before, after, _ in found.matched}
    figures = []
    for move in found.moved[:max_pictures]:
        old = tag("span", f"(old {move.old} {became.get(move.old, 'is gone')})", class_="soft")
        figures.append(captioned(picture(move.uid, f"sample {move.uid}"), f"old {move.old} → new {move.new} ", old))
    shown = tag("div", *figures, class_="grid") if figures else ""
    return join([tag("p", text), shown, _more(found.num_moved, len(figures))])


def _shift(shift: NumberShift) -> Html:
    text = f"{shift.num_changed:,} samples moved; mean absolute difference {shift.mean_abs:.4f}. The largest:"
    rows = [(tag("code", uid), f"{old:.4f}", f"{new:.4f}", f"{new - old:+.4f}") for uid, old, new in shift.largest]
    moved = table(("sample", ">before", ">after", ">change"), rows)
    return join([tag("h3", shift.name), tag("p", text), details(f"{len(rows)} samples", moved)])


def _number_row(value: ValueChange) -> tuple[object, ...]:
    change = value.new - value.old
    share = f" ({change / value.old:+.1%})" if value.old else ""
    return value.name, f"{value.old:,}", f"{value.new:,}", f"{change:+,}{share}"


def _distributions(diff: VersionDiff) -> Html:
    columns = ("distribution", ">mean before", ">mean after", ">total variation", ">Kolmogorov-Smirnov")
    rows = [
        (item.name, _mean(item.old_mean), _mean(item.new_mean), f"{item.total_variation:.4f}", f"{item.ks:.4f}")
        for item in diff.distributions
    ]
    return table(columns, rows)


def _mean(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _stages(diff: VersionDiff) -> Html:
    rows: list[tuple[object, ...]] = []
    for stage in diff.stages:
        rows += _detail_rows(stage.name, _CHANGE_LABELS[stage.kind], stage.details)
    for setting in diff.settings:
        rows += _detail_rows(setting.name.partition(".")[0], "changed", [setting])
    return table(("stage or setting", "", "what", "before", "after"), rows)


def _detail_rows(name: str, kind: str, details: Iterable[ValueChange]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [
        (name, kind, item.name, format_value(item.old), format_value(item.new)) for item in details
    ]
    return rows or [(name, kind, "", "", "")]
