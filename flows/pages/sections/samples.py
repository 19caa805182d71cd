"""The section of a page in which samples are searched, filtered and opened, with pictures and all their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data_manifests.text_diff import DiffPiece
from flows.pages.html import Html, card, data_block, diff_markup, join, no_picture, note, tag
from flows.pages.sections.sample_selection import SIGNS, SampleSelection

NUM_STATIC = 12
"""Samples that are also shown without the script."""
CLUSTERS_LISTED = 150
"""With more clusters, their number is typed instead of picked from a list."""


def browser_section(found: SampleSelection) -> Html:
    """Return the controls (hidden until the script runs), some samples, and the data for the script."""
    labels = [list(label) for label in found.labels]
    data = data_block("samples-data", {"labels": labels, "samples": found.entries})
    static = [_static_card(entry, labels) for entry in found.entries[:NUM_STATIC]]
    grid = tag("div", *static, class_="cards", id="grid")
    more = tag("button", "Show more", type="button", id="more", class_="more", hidden="")
    return join([_note(found), _filters(found), grid, more, _dialog(), data])


def _note(found: SampleSelection) -> Html:
    shown = len(found.entries)
    if shown == found.total:
        text = f"All {shown:,} samples, in an order drawn with seed {found.seed}. "
    else:
        evenly = f"{shown - found.of_kinds:,} evenly over the version"
        kinds = f", {found.of_kinds:,} so that each kind of negative is there" if found.of_kinds else ""
        drawn = f"{shown:,} of {found.total:,} samples, drawn with seed {found.seed}: {evenly}{kinds}."
        text = f"{drawn} More would make the page too large to send. "
    marks = (
        tag("del", "Struck out"), " is what the caption says, ", tag("ins", "underlined"), " what a negative says; ",
        tag("mark", "marked"), " is what a rewrite or knowledge caption adds.",
    )  # fmt: skip
    keys = " Open a sample by click or Enter; arrow keys go on, Escape goes back."
    return note(text, *marks, tag("span", keys, class_="scripted", hidden=""))


def _filters(found: SampleSelection) -> Html:
    labels = list(found.labels)
    negatives = [label for label in labels if label[0] == "negative"]
    clusters = Counter(entry["c"] for entry in found.entries if entry["c"] is not None)
    fields = [tag("label", "Search ", tag("input", type="search", name="q", autocomplete="off", maxlength="200"))]
    fields += [_choice("text", "Texts", [label[0] for label in labels])]
    fields += [_choice("operation", "Operation", [label[1] for label in negatives])]
    fields += [_choice("type", "Type", [label[3] for label in negatives])]
    fields += [_choice("split", "Split", [entry["s"] for entry in found.entries])]
    if len(clusters) <= CLUSTERS_LISTED:
        fields += [_choice("cluster", "Cluster", sorted(clusters))]
    else:
        fields += [_number("cluster", "Cluster", {"step": "1", "placeholder": "any"})]
    if any(text[2] is not None for entry in found.entries for text in entry["t"]):
        limits = {"min": "0", "max": "1", "step": "any"}
        fields += [
            _number("min", "Difficulty from", {**limits, "placeholder": "0"}),
            _number("max", "to", {**limits, "placeholder": "1"}),
        ]
    fields += [tag("button", "Show all", type="button", id="filter-reset")]
    count = tag("output", id="filter-count", role="status", aria_live="polite")
    return tag("div", *fields, count, id="filters", class_="filters", role="search", aria_label="Samples", hidden="")


def _choice(name: str, label: str, values: Sequence[Any]) -> Html:
    """Return a drop-down list; nothing if there is only one value."""
    names = [str(value) for value in sorted({value for value in values if value != ""})]
    if len(names) < 2:
        return Html("")
    options = [tag("option", "any", value=""), *(tag("option", value, value=value) for value in names)]
    return tag("label", f"{label} ", tag("select", *options, name=name, autocomplete="off"))


def _number(name: str, label: str, limits: Mapping[str, str]) -> Html:
    field_ = tag("input", type="number", name=name, inputmode="decimal", autocomplete="off", **limits)
    return tag("label", f"{label} ", field_)


def _dialog() -> Html:
    steps = [
        tag("button", "←", type="button", id="step-back", aria_label="Previous sample", aria_keyshortcuts="ArrowLeft"),
        tag("button", "→", type="button", id="step-on", aria_label="Next sample", aria_keyshortcuts="ArrowRight"),
        tag("span", id="step-place", class_="soft", role="status"),
        tag("button", "Close", type="button", id="step-close", aria_keyshortcuts="Escape"),
    ]
    bar = tag("div", *steps, class_="steps")
    return tag("dialog", bar, tag("div", id="sample-body"), id="sample", aria_labelledby="sample-title")


def _static_card(entry: Mapping[str, Any], labels: Sequence[Sequence[str]]) -> Html:
    """Return a sample as it is shown without the script."""
    captions = [text for text in entry["t"] if labels[text[0]][0] == "caption"]
    others = [text for text in entry["t"] if labels[text[0]][0] != "caption"][:6]
    picture = tag("img", src=entry["p"], alt=_joined(captions[0]) or entry["n"]) if entry["p"] else no_picture()
    listed = [
        tag("li", _pieces(text, labels), " ", tag("span", " ".join(filter(None, labels[text[0]][:3])), class_="tag"))
        for text in others
    ]
    body = [tag("h3", entry["n"]), *(tag("p", _pieces(text, labels)) for text in captions[:2]), tag("ul", *listed)]
    return card(picture, *body)


def _joined(text: Sequence[Any]) -> str:
    return "".join(piece[1:] for piece in text[4:])


def _pieces(text: Sequence[Any], labels: Sequence[Sequence[str]]) -> Html:
    kinds: dict[str, Any] = {sign: kind for kind, sign in SIGNS.items()}
    pieces = [DiffPiece(kinds[piece[0]], piece[1:]) for piece in text[4:]]
    return diff_markup(pieces, added="ins" if labels[text[0]][0] == "negative" else "mark")
