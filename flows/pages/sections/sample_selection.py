"""Which samples a page shows, and what of each: drawn evenly until the page is full, with pictures and all texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Any

from data_manifests.manifest import DatasetVersion
from data_manifests.negatives import NegativeFilter, blind_gaps, draw_negatives, edit_pieces, shorten_pieces
from data_manifests.sidecar_diff import read_payloads
from data_manifests.text_diff import DiffPiece, diff_words
from flows.pages.html import json_text
from flows.pages.thumbnails import EDGE_PX, Thumbnails

MAX_SAMPLES = 2000
MAX_BYTES = 9_000_000
"""Most bytes of a page that samples take; what does not fit is not drawn."""
NUM_OF_KINDS = 120
"""Samples drawn so that every operation and type of negative is among them."""
MAX_TEXTS = 40
"""Most texts of a sample: captions, what was made of them, negatives."""

_PART = 128
_MAX_CHARS = 240
_MAX_NAME = 120
SIGNS = {"same": "=", "removed": "-", "added": "+"}
_EDGES = ((200, 224), (500, 176), (1400, EDGE_PX), (MAX_SAMPLES, 112))
"""So many samples have room for pictures of this edge."""

Rows = Mapping[str, list[Any]]
Sample = Mapping[str, Any]
Label = tuple[str, str, str, str]
"""Of a text: caption, negative or what kind of view; operation or family; class of words; type."""


@dataclass
class SampleSelection:
    """The drawn samples as the page's script takes them.

    Attributes:
        total: Samples of the version.
        of_kinds: How many were drawn for their kinds of negatives.
        seed: Of the draw.
        labels: What texts can be, in the order that texts refer to.
        entries: The samples, in an order whose every beginning is spread over the version.
    """

    total: int
    of_kinds: int
    seed: int = 0
    labels: dict[Label, int] = field(default_factory=dict)
    entries: list[Mapping[str, Any]] = field(default_factory=list)

    def label(self, *parts: str) -> int:
        """Return the number of a label."""
        kind, operation, words_of, type_ = parts
        return self.labels.setdefault((kind, operation, words_of, type_), len(self.labels))


def select_samples(version: DatasetVersion, rows: Rows, seed: int = 0, room: int = MAX_BYTES) -> SampleSelection:
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
    found, used = SampleSelection(total, len(kinds), seed), 0
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
    drawn = draw_negatives(version, NegativeFilter(), NUM_OF_KINDS, seed, of_each_kind=True)
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


def _entry(found: SampleSelection, sample: Sample, pictures: Thumbnails) -> dict[str, Any]:
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


def _caption(found: SampleSelection, number: int, text: str) -> list[Any]:
    return [found.label("caption", "", "", ""), number, None, "", f"={_cut(text)}"]


def _view(found: SampleSelection, sample: Sample, record: Mapping[str, Any]) -> list[Any]:
    caption = sample["captions"][record["caption"]]
    pieces = [piece for piece in diff_words(caption, str(record["text"])) if piece.kind != "removed"]
    label = found.label(str(record["kind"]), str(record["family"]), "", "")
    return [label, record["caption"], None, _cut(str(record.get("rule", ""))), *_signed(pieces)]


def _negative(found: SampleSelection, sample: Sample, record: Mapping[str, Any]) -> list[Any]:
    caption = record.get("against") or sample["captions"][record["caption"]]
    gaps = ", ".join(f"{name} {gap:+.2f}" for name, gap in blind_gaps(record).items())
    why = f"{record['rule']} · blind gaps {gaps}" if gaps else str(record["rule"])
    hard = record.get("difficulty")
    label = found.label("negative", record["operation"], record["span_class"], record["type"])
    pieces = shorten_pieces(edit_pieces(caption, record), _MAX_CHARS)
    return [label, record["caption"], None if hard is None else round(hard, 2), _cut(why), *_signed(pieces)]


def _signed(pieces: Sequence[DiffPiece]) -> list[str]:
    return [f"{SIGNS[piece.kind]}{piece.text}" for piece in shorten_pieces(pieces, _MAX_CHARS)]


def _cut(text: str, most: int = _MAX_CHARS) -> str:
    return text if len(text) <= most else f"{text[:most]} …"
