"""One sample as a page shows it: picture, captions, and what was made from each caption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.pages import Html, marked, tag
from flows.thumbnails import Thumbnails

_MAX_OPEN = 2
"""Captions of an example that are shown without unfolding."""

_MAX_RECORDS = 6
"""Views, and negatives, shown of a caption."""

_MAX_TEXT = 600


def sample_card(sample: Mapping[str, Any], pictures: Thumbnails) -> Html:
    """Return a sample's picture with its captions, and below each what was made from it: views first."""
    facts = [
        f"{sample['width']} x {sample['height']} px",
        sample["split"],
        *(
            f"{label} {sample[name]}"
            for name, label in (("cluster_id", "cluster"), ("difficulty", "difficulty"))
            if name in sample
        ),
    ]
    items = []
    for number, caption in enumerate(sample["captions"]):
        views = _listed([_view(record) for record in sample.get("views", []) if record["caption"] == number])
        wrong = _listed([_negative(record) for record in sample["negatives"] if record["caption"] == number])
        items.append(tag("li", tag("span", _cut(caption), class_="text", dir="auto"), views, wrong))
    rest = items[_MAX_OPEN:]
    more = tag("details", tag("summary", f"{len(rest)} more caption(s)"), tag("ol", *rest, start=_MAX_OPEN))
    content = [
        tag("h3", sample["name"]),
        tag("div", *(tag("span", fact, class_="tag") for fact in facts if fact)),
        tag("ol", *items[:_MAX_OPEN], start=0),
        more if rest else "",
        tag("code", sample["uid"]),
    ]
    return tag("article", pictures.picture(sample["uid"], sample["caption"]), tag("div", *content), class_="card")


def _listed(items: list[Html]) -> Html:
    shown = items[:_MAX_RECORDS]
    if len(items) > _MAX_RECORDS:
        shown.append(tag("li", f"and {len(items) - _MAX_RECORDS} more", class_="soft"))
    return tag("ul", *shown) if shown else Html("")


def _view(record: Mapping[str, Any]) -> Html:
    kind = tag("span", f" {record['kind']} {record['family']}", class_="tag")
    return tag("li", tag("span", _cut(record["text"]), class_="text", dir="auto"), kind)


def _negative(record: Mapping[str, Any]) -> Html:
    spans = [(edit[2], edit[3]) for edit in record["edits"]]
    kind = tag("span", f" {record['operation']} {record['span_class']}", class_="tag")
    return tag("li", marked(_cut(record["text"]), spans), kind, class_="wrong")


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} …"
