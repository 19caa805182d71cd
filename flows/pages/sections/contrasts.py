"""The section of a version's page on contrasts: words that exclude each other, why, and a negative made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from data_manifests.negatives import edit_pieces, shorten_pieces
from flows.execution.learned_contrasts import LearnedClass, LearnedContrasts
from flows.pages.charts import group_rare
from flows.pages.glossary import word
from flows.pages.html import Html, details, diff_markup, join, note, tag

_MAX_OPEN, _MAX_FOLDED = 12, 60
_MAX_MEMBERS, _MAX_NUMBERS, _MAX_UNITS = 16, 12, 8
_MAX_CHARS = 120


def contrasts_section(found: LearnedContrasts | None) -> Html:
    """Return the classes that made the most negatives, the others folded; nothing without such a stage."""
    if found is None or not (found.classes or found.numbers):
        return Html("")
    groups = group_rare({one.name: one.num_negatives for one in found.classes})
    rare = {name for names in groups.values() if len(names) > 1 for name in names}
    common = [one for one in found.classes if one.name not in rare]
    parts = [
        note(
            f"{len(found.classes):,} classes of words that exclude each other, learned from {found.num_captions:,} captions. A ",
            word("negative"), " exchanges a word for another one of its class. A vocabulary file changes them: clipcurate "
            "vocabulary suggest writes one.",
        ),
        _cards(common[:_MAX_OPEN]),
    ]  # fmt: skip
    more = common[_MAX_OPEN : _MAX_OPEN + _MAX_FOLDED]
    if more:
        parts.append(details(f"{len(more):,} more classes", _cards(more)))
    if rare:
        title = f"other ({len(rare):,} classes with under 20 negatives each)"
        few = [one for one in found.classes if one.name in rare]
        parts.append(details(title, _cards(few[:_MAX_FOLDED])))
    hidden = len(common) - _MAX_OPEN - len(more) + max(len(rare) - _MAX_FOLDED, 0)
    if hidden > 0:
        parts.append(note(f"{hidden:,} more classes are not shown here; clipcurate show --contrasts --json has all."))
    return join([*parts, _numbers(found.numbers)])


def _cards(classes: Sequence[LearnedClass]) -> Html:
    return tag("div", *map(_card, classes), class_="cards")


def _card(one: LearnedClass) -> Html:
    words = list(one.members.items())
    listed = ", ".join(f"{name} {count:,}" for name, count in words[:_MAX_MEMBERS])
    more = f" and {len(words) - _MAX_MEMBERS:,} more" if len(words) > _MAX_MEMBERS else ""
    parts = [
        tag("h3", one.name, " ", tag("span", f"{one.type}, {one.num_negatives:,} negatives", class_="soft")),
        tag("p", listed + more),
    ]
    for first, other, evidence in one.evidence[:1]:
        parts.append(note(f"{first} / {other}: {evidence}"))
    if one.example is not None:
        pieces = edit_pieces(one.example.caption, one.example.record)
        parts.append(tag("p", diff_markup(shorten_pieces(pieces, _MAX_CHARS))))
    return tag("article", *parts, class_="contrast")


def _numbers(numbers: Mapping[str, Sequence[str]]) -> Html:
    units = list(numbers.items())[:_MAX_UNITS]
    lines = [tag("li", f"{unit}: ", ", ".join(found[:_MAX_NUMBERS])) for unit, found in units]
    return join([tag("h3", "Numbers before a unit"), tag("ul", *lines)]) if lines else Html("")
