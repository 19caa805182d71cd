"""The section of a page in which samples are browsed: pictures with all their texts, searched, filtered and opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Any

from data_manifests.manifest import DatasetVersion
from data_manifests.sidecar_diff import read_payloads
from data_manifests.text_diff import Piece, diff_words
from flows.negatives import Wanted, blind_gaps, draw_negatives, edit_pieces, shortened
from flows.pages import Html, data_block, join, json_text, tag, words
from flows.thumbnails import EDGE_PX, Thumbnails

MAX_SAMPLES = 2000
MAX_BYTES = 9_000_000
"""Most bytes of a page that samples take; what does not fit is not drawn."""
NUM_OF_KINDS = 120
"""Samples drawn so that every operation and type of negative is among them."""
MAX_TEXTS = 40
"""Most texts of a sample: captions, what was made of them, negatives."""
NUM_STATIC = 12
"""Samples that are there without the script as well."""
CLUSTERS_LISTED = 150
"""More clusters than this are typed, not picked."""

_PART = 128
_MAX_CHARS = 240
_MAX_NAME = 120
_SIGNS = {"same": "=", "removed": "-", "added": "+"}
_EDGES = ((200, 224), (500, 176), (1400, EDGE_PX), (MAX_SAMPLES, 112))
"""So many samples have room for pictures of this edge."""

Rows = Mapping[str, list[Any]]
Sample = Mapping[str, Any]
Label = tuple[str, str, str, str]
"""Of a text: caption, negative or what kind of view; operation or family; class of words; type."""


@dataclass
class Browsed:
    """The drawn samples as the page's script takes them.

    Attributes:
        total: Samples of the version.
        of_kinds: How many were drawn for their kinds of negatives.
        labels: What texts can be, in the order that texts refer to.
        entries: The samples, in an order whose every beginning is spread over the version.
    """

    total: int
    of_kinds: int
    labels: dict[Label, int] = field(default_factory=dict)
    entries: list[Mapping[str, Any]] = field(default_factory=list)

    def label(self, *parts: str) -> int:
        """Return the number of a label."""
        kind, operation, words_of, type_ = parts
        return self.labels.setdefault((kind, operation, words_of, type_), len(self.labels))


def browse(version: DatasetVersion, rows: Rows, seed: int = 0, room: int = MAX_BYTES) -> Browsed:
    """Draw samples evenly over the version until the page is full, those with rare negatives first.

    The first n of the order are spread evenly whatever n is, so where the page is full does not matter.

    Args:
        version: The version.
        rows: Columns uid, shard, json_offset and json_bytes of its index, and cluster_id and difficulty if there are.
        seed: Turns the order, and picks samples for their negatives.
        room: Most bytes of the page that they may take, pictures and texts together.

    Raises:
        InputError: a shard or sidecar is missing, or does not hold what the index says.
    """
    total = len(rows["uid"])
    kinds = _of_each_kind(version, rows, seed)
    order = list(islice(_once(chain(kinds, _evenly(total, seed))), MAX_SAMPLES))
    found, used = Browsed(total, len(kinds)), 0
    edge = next(edge for most, edge in _EDGES if len(order) <= most)
    made: dict[int, Mapping[str, Any]] = {}
    with Thumbnails(version, [rows["uid"][place] for place in order], edge) as pictures:
        for place, sample in _read(version, rows, order):
            entry = _entry(found, sample, pictures)
            used += len(json_text(entry).encode()) + 1
            if used > room:
                break
            made[place] = entry
    shown = [place for place in kinds if place in made]
    found.of_kinds = len(shown)
    found.entries = [made[place] for place in _mixed([place for place in made if place not in set(kinds)], shown)]
    return found


def _once(places: Iterable[int]) -> Iterator[int]:
    seen: set[int] = set()
    for place in places:
        if place not in seen:
            seen.add(place)
            yield place


def _mixed(many: Sequence[int], few: Sequence[int]) -> list[int]:
    """Return both in their orders, the few spread over the many: neighbours in a version look alike, these do not."""
    step = max(len(many) / max(len(few), 1), 1.0)
    ranked = [(float(number), place) for number, place in enumerate(many)]
    ranked += [(number * step, place) for number, place in enumerate(few)]
    return [place for _, place in sorted(ranked)]


def _evenly(total: int, seed: int) -> Iterator[int]:
    """Yield all places of 0 .. total - 1, every beginning of the order spread evenly (van der Corput 1935, base 2)."""
    bits = max(total - 1, 1).bit_length()
    turn = (seed * 0.6180339887498949) % 1.0
    for number in range(1 << bits):
        share = int(f"{number:0{bits}b}"[::-1], 2) / (1 << bits)
        yield int((share + turn) % 1.0 * total)


def _of_each_kind(version: DatasetVersion, rows: Rows, seed: int) -> list[int]:
    """Return places of samples whose negatives show each operation and type in turn."""
    if not version.manifest.body["counts"]["negatives"]:
        return []
    drawn = draw_negatives(version, Wanted(), NUM_OF_KINDS, seed, of_each_kind=True)
    starts = _shard_starts(rows)
    chosen: dict[int, None] = {}
    for turn in zip_longest(*drawn.places.values()):
        chosen |= {starts[place[0]] + place[1]: None for place in turn if place is not None}
    return list(chosen)[:NUM_OF_KINDS]


def _shard_starts(rows: Rows) -> dict[int, int]:
    starts: dict[int, int] = {}
    for place, shard in enumerate(rows["shard"]):
        starts.setdefault(shard, place)
    return starts


def _read(version: DatasetVersion, rows: Rows, order: Sequence[int]) -> Iterator[tuple[int, Sample]]:
    """Yield places with their samples, a part in memory at a time."""
    import polars as pl

    names = ("uid", "shard", "json_offset", "json_bytes")
    for first in range(0, len(order), _PART):
        part = order[first : first + _PART]
        frame = pl.DataFrame({name: [rows[name][place] for place in part] for name in names})
        payloads = read_payloads(version, frame)
        yield from ((place, payloads[rows["uid"][place]]) for place in part)


def _entry(found: Browsed, sample: Sample, pictures: Thumbnails) -> dict[str, Any]:
    texts = [_caption(found, number, text) for number, text in enumerate(sample["captions"])]
    # in turn, so that many texts of one sort do not push out the others
    views = [_view(found, sample, record) for record in sample.get("views", [])]
    negatives = [_negative(found, sample, record) for record in sample["negatives"]]
    made = [text for pair in zip_longest(negatives, views) for text in pair if text is not None]
    room = max(MAX_TEXTS - len(texts), 0)
    return {
        "u": sample["uid"],
        "n": _cut(sample["name"], _MAX_NAME),
        "s": sample["split"] or "none",
        "c": sample.get("cluster_id"),
        "d": None if sample.get("difficulty") is None else round(float(sample["difficulty"]), 3),
        "w": f"{sample['width']} x {sample['height']} px",
        "p": pictures.address(sample["uid"]),
        "t": texts[:MAX_TEXTS] + made[:room],
        "m": max(len(texts) - MAX_TEXTS, 0) + max(len(made) - room, 0),
    }


def _caption(found: Browsed, number: int, text: str) -> list[Any]:
    return [found.label("caption", "", "", ""), number, None, "", f"={_cut(text)}"]


def _view(found: Browsed, sample: Sample, record: Mapping[str, Any]) -> list[Any]:
    caption = sample["captions"][record["caption"]]
    pieces = [piece for piece in diff_words(caption, str(record["text"])) if piece.kind != "removed"]
    label = found.label(str(record["kind"]), str(record["family"]), "", "")
    return [label, record["caption"], None, _cut(str(record.get("rule", ""))), *_signed(pieces)]


def _negative(found: Browsed, sample: Sample, record: Mapping[str, Any]) -> list[Any]:
    caption = record.get("against") or sample["captions"][record["caption"]]
    gaps = ", ".join(f"{name} {gap:+.2f}" for name, gap in blind_gaps(record).items())
    why = f"{record['rule']} · blind gaps {gaps}" if gaps else str(record["rule"])
    hard = record.get("difficulty")
    label = found.label("negative", record["operation"], record["span_class"], record["type"])
    pieces = shortened(edit_pieces(caption, record), _MAX_CHARS)
    return [label, record["caption"], None if hard is None else round(hard, 2), _cut(why), *_signed(pieces)]


def _signed(pieces: Sequence[Piece]) -> list[str]:
    return [f"{_SIGNS[piece.kind]}{piece.text}" for piece in shortened(pieces, _MAX_CHARS)]


def _cut(text: str, most: int = _MAX_CHARS) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def browser_section(found: Browsed) -> Html:
    """Return the controls (hidden until the script finds them), some samples, and the data that the script shows."""
    labels = [list(label) for label in found.labels]
    data = data_block("samples-data", {"labels": labels, "samples": found.entries})
    static = [_static_card(entry, labels) for entry in found.entries[:NUM_STATIC]]
    grid = tag("div", *static, class_="cards", id="grid")
    more = tag("button", "Show more", type="button", id="more", class_="more", hidden="")
    return join([_note(found), _filters(found), grid, more, _dialog(), data])


def _note(found: Browsed) -> Html:
    shown = len(found.entries)
    if shown == found.total:
        told = f"All {shown:,} samples. "
    else:
        evenly = f"{shown - found.of_kinds:,} evenly over the version"
        kinds = f", {found.of_kinds:,} so that each kind of negative is there" if found.of_kinds else ""
        told = f"{shown:,} of {found.total:,} samples: {evenly}{kinds}. More would make the page too large to send. "
    marks = (
        tag("del", "Struck out"), " is what the caption says, ", tag("ins", "underlined"), " what a negative says; ",
        tag("mark", "marked"), " is what a rewrite or knowledge caption adds.",
    )  # fmt: skip
    keys = " Open a sample by click or Enter; arrow keys go on, Escape goes back."
    return tag("p", told, *marks, tag("span", keys, class_="scripted", hidden=""), class_="soft")


def _filters(found: Browsed) -> Html:
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
    """Return a list to pick from; with nothing to choose between, nothing."""
    listed = [str(value) for value in sorted({value for value in values if value != ""})]
    if len(listed) < 2:
        return Html("")
    options = [tag("option", "any", value=""), *(tag("option", value, value=value) for value in listed)]
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
    """Return a sample as it is shown where no script runs."""
    captions = [text for text in entry["t"] if labels[text[0]][0] == "caption"]
    made = [text for text in entry["t"] if labels[text[0]][0] != "caption"][:6]
    picture = (
        tag("img", src=entry["p"], alt=_joined(captions[0]) or entry["n"])
        if entry["p"]
        else tag("span", "no picture", class_="lost")
    )
    listed = [
        tag("li", _pieces(text, labels), " ", tag("span", " ".join(filter(None, labels[text[0]][:3])), class_="tag"))
        for text in made
    ]
    body = [tag("h3", entry["n"]), *(tag("p", _pieces(text, labels)) for text in captions[:2]), tag("ul", *listed)]
    return tag("article", picture, tag("div", *body), class_="card")


def _joined(text: Sequence[Any]) -> str:
    return "".join(piece[1:] for piece in text[4:])


def _pieces(text: Sequence[Any], labels: Sequence[Sequence[str]]) -> Html:
    kinds: dict[str, Any] = {sign: kind for kind, sign in _SIGNS.items()}
    pieces = [Piece(kinds[piece[0]], piece[1:]) for piece in text[4:]]
    return words(pieces, added="ins" if labels[text[0]][0] == "negative" else "mark")
