"""The section of a version's page that shows pictures with captions and their negatives, edits marked, to be filtered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from data_manifests.manifest import DatasetVersion
from flows.filter_script import SCRIPT
from flows.negatives import Kind, Wanted, blind_gaps, draw_negatives, edit_pieces, read_samples, shortened
from flows.pages import Html, join, tag, words
from flows.thumbnails import Thumbnails

NUM_PICTURES = 120
MAX_NEGATIVES = 24
"""Most negatives of one picture."""

_MAX_TEXT = 240
"""Most characters of a caption, and of a run of words that an edit left as it was."""
_MAX_NAME = 120

__all__ = ["SCRIPT", "NegativeCards", "draw_cards", "negatives_section"]


@dataclass(frozen=True)
class NegativeCards:
    """What the section shows.

    Attributes:
        counts: All negatives of the version by operation and type.
        samples: The drawn samples as published, in the order of the version.
        seed: Of the draw.
    """

    counts: Mapping[Kind, int]
    samples: Sequence[Mapping[str, Any]]
    seed: int

    @property
    def uids(self) -> list[str]:
        """The pictures that are needed."""
        return [sample["uid"] for sample in self.samples]


def draw_cards(version: DatasetVersion, seed: int) -> NegativeCards:
    """Draw samples with negatives: one for each operation and type in turn, so that rare ones are among them.

    Raises:
        InputError: a shard or sidecar is missing, or does not hold what the index says.
    """
    if not version.manifest.body["counts"]["negatives"]:
        return NegativeCards({}, (), seed)
    drawn = draw_negatives(version, Wanted(), NUM_PICTURES, seed, of_each_kind=True)
    chosen: dict[tuple[int, int], None] = {}
    for turn in zip_longest(*drawn.places.values()):
        chosen |= {(place[0], place[1]): None for place in turn if place is not None}
    samples = read_samples(version, list(chosen)[:NUM_PICTURES])
    return NegativeCards(drawn.counts, [samples[place] for place in sorted(samples)], seed)


def negatives_section(cards: NegativeCards, pictures: Thumbnails) -> Html:
    """Return the filters and the cards; nothing when there are no negatives."""
    if not cards.samples:
        return Html("")
    total = sum(cards.counts.values())
    told = (
        f"{len(cards.samples):,} pictures, drawn with seed {cards.seed} over all operations and types, of a version with "
        f"{total:,} negatives. "
    )
    key = (
        tag("del", "Struck out"),
        " is what the caption says, ",
        tag("ins", "underlined"),
        " what the negative says.",
    )
    note = tag("p", told, *key, class_="soft")
    shown = [_card(sample, pictures) for sample in cards.samples]
    return join([note, _filters(cards.counts), tag("div", *shown, class_="cards")])


def _filters(kinds: Iterable[Kind]) -> Html:
    """Return the controls, hidden until the script finds them: without it they would do nothing."""
    pairs = list(kinds)
    fields = [
        _choice("operation", "Operation", sorted({operation for operation, _ in pairs})),
        _choice("type", "Type", sorted({kind for _, kind in pairs})),
        _number("min", "Difficulty from", "0"),
        _number("max", "to", "1"),
        tag("label", "Words ", tag("input", type="search", name="q", autocomplete="off", maxlength="200")),
        tag("button", "Show all", type="button", id="filter-reset"),
    ]
    count = tag("output", id="filter-count", role="status", aria_live="polite")
    return tag("div", *fields, count, id="filters", class_="filters", role="search", aria_label="Negatives", hidden="")


def _choice(name: str, label: str, values: Sequence[str]) -> Html:
    options = [tag("option", "any", value=""), *(tag("option", value, value=value) for value in values)]
    return tag("label", f"{label} ", tag("select", *options, name=name, autocomplete="off"))


def _number(name: str, label: str, empty: str) -> Html:
    limits = {
        "min": "0",
        "max": "1",
        "step": "any",
        "placeholder": empty,
        "inputmode": "decimal",
        "autocomplete": "off",
    }
    return tag("label", f"{label} ", tag("input", type="number", name=name, **limits))


def _card(sample: Mapping[str, Any], pictures: Thumbnails) -> Html:
    by_caption: dict[int, list[Html]] = {}
    for record in sample["negatives"][:MAX_NEGATIVES]:
        caption = sample["captions"][record["caption"]]
        by_caption.setdefault(record["caption"], []).append(_negative(caption, record))
    parts = [
        tag("div", tag("p", tag("span", _cut(sample["captions"][number], _MAX_TEXT), class_="text", dir="auto")),
            tag("ul", *listed), class_="said")
        for number, listed in sorted(by_caption.items())
    ]  # fmt: skip
    left = len(sample["negatives"]) - MAX_NEGATIVES
    more = tag("p", f"and {left:,} more negatives", class_="soft") if left > 0 else ""
    content = tag("div", tag("h3", _cut(sample["name"], _MAX_NAME)), *parts, more, tag("code", sample["uid"]))
    return tag("article", pictures.picture(sample["uid"], _cut(sample["caption"], _MAX_TEXT)), content, class_="card")


def _negative(caption: str, record: Mapping[str, Any]) -> Html:
    hard = record.get("difficulty")
    gaps = ", ".join(f"{name} {gap:+.2f}" for name, gap in blind_gaps(record).items())
    told = f"{record['rule']} · blind gaps {gaps}" if gaps else str(record["rule"])
    facts = [f"{record['operation']} {record['span_class']}", record["type"], "" if hard is None else f"{hard:.2f}"]
    tags = [tag("span", fact, class_="tag") for fact in facts if fact]
    return tag(
        "li",
        words(shortened(edit_pieces(caption, record), _MAX_TEXT)),
        tag("div", *tags, tag("span", _cut(told, _MAX_TEXT), class_="why", dir="auto")),
        class_="wrong",
        data_type=record["type"],
        data_operation=record["operation"],
        data_difficulty="" if hard is None else hard,
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} …"
