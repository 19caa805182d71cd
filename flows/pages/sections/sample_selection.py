"""Selects the samples of a page: drawn evenly until the page is full, with thumbnails and all their texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Any

from data_manifests.manifest import DatasetVersion
from data_manifests.negatives import NegativeFilter, blind_gaps, draw_negatives, edit_pieces, shorten_pieces
from data_manifests.sidecar_diff import Payload
from data_manifests.text_diff import DiffPiece, diff_words
from flows.pages.html import json_text, shorten
from flows.pages.index_rows import IndexRows, read_rows
from flows.pages.thumbnails import EDGE_PX, Thumbnails

MAX_SAMPLES = 2000
MAX_BYTES = 9_000_000
"""Most bytes of a page for samples; samples that do not fit are not shown."""
NUM_OF_KINDS = 120
"""Samples drawn so that every operation and type of negative is among them."""
MAX_TEXTS = 40
"""Most texts of a sample: captions, views, negatives."""

_PART = 128
_MAX_CHARS = 240
_MAX_NAME = 120
SIGNS = {"same": "=", "removed": "-", "added": "+"}
_EDGES = ((200, 224), (500, 176), (1400, EDGE_PX), (MAX_SAMPLES, 112))
"""Up to this many samples, thumbnails have this edge."""

Label = tuple[str, str, str, str]
"""What a text is: caption, negative or kind of view; operation or family; span class; type."""


@dataclass
class SampleSelection:
    """The samples of a page, in the form that its script reads.

    Attributes:
        total: Samples of the version.
        of_kinds: Samples that were drawn for their kinds of negatives.
        seed: Seed of the draw.
        labels: Number of each label; texts refer to it.
        entries: The samples, in an order whose every prefix is spread over the version.
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


def select_samples(
    version: DatasetVersion, rows: IndexRows, seed: int = 0, max_bytes: int = MAX_BYTES
) -> SampleSelection:
    """Draw samples evenly over the version until the page is full, starting with those with rare negatives.

    The first n of the order are spread evenly for every n, so it does not matter where the page is full.

    Args:
        version: The version.
        rows: Columns uid, shard, json_offset and json_bytes of its index, and cluster_id and difficulty if there are.
        seed: Rotates the order, and picks samples for their negatives.
        max_bytes: Most bytes of pictures and texts together.

    Raises:
        InputError: a shard or sidecar is missing, or does not hold what the index says.
    """
    total = len(rows["uid"])
    kinds = _of_each_kind(version, rows, seed)
    order = list(islice(_distinct(chain(kinds, _evenly(total, seed))), MAX_SAMPLES))
    found, used = SampleSelection(total, len(kinds), seed), 0
    edge = next(edge for most, edge in _EDGES if len(order) <= most)
    made: dict[int, Mapping[str, Any]] = {}
    with Thumbnails(version, [rows["uid"][row] for row in order], edge) as pictures:
        for row, sample in _read(version, rows, order):
            entry = _entry(found, sample, pictures)
            used += len(json_text(entry).encode()) + 1
            if used > max_bytes:
                break
            made[row] = entry
    of_kinds = [row for row in kinds if row in made]
    chosen = set(of_kinds)
    others = [row for row in made if row not in chosen]
    found.of_kinds = len(of_kinds)
    found.entries = [made[row] for row in _interleave(others, of_kinds)]
    return found


def _distinct(numbers: Iterable[int]) -> Iterator[int]:
    seen: set[int] = set()
    for number in numbers:
        if number not in seen:
            seen.add(number)
            yield number


def _interleave(many: Sequence[int], few: Sequence[int]) -> list[int]:
    """Return both in their orders, the few spread over the many."""
    step = max(len(many) / max(len(few), 1), 1.0)
    ranked = [(float(number), row) for number, row in enumerate(many)]
    ranked += [(number * step, row) for number, row in enumerate(few)]
    return [row for _, row in sorted(ranked)]


def _evenly(total: int, seed: int) -> Iterator[int]:
    """Yield 0 .. total - 1 so that every prefix is spread evenly (van der Corput 1935, base 2); some come twice."""
    bits = max(total - 1, 1).bit_length()
    rotation = (seed * 0.6180339887498949) % 1.0
    for number in range(1 << bits):
        share = int(f"{number:0{bits}b}"[::-1], 2) / (1 << bits)
        yield int((share + rotation) % 1.0 * total)


def _of_each_kind(version: DatasetVersion, rows: IndexRows, seed: int) -> list[int]:
    """Return the rows of samples whose negatives cover the operations and types in turn."""
    if not version.manifest.body["counts"]["negatives"]:
        return []
    drawn = draw_negatives(version, NegativeFilter(), NUM_OF_KINDS, seed, of_each_kind=True)
    starts: dict[int, int] = {}
    for row, shard in enumerate(rows["shard"]):
        starts.setdefault(shard, row)
    in_turn = (position for turn in zip_longest(*drawn.positions.values()) for position in turn if position is not None)
    return list(dict.fromkeys(starts[shard] + row for shard, row, _ in in_turn))[:NUM_OF_KINDS]


def _read(version: DatasetVersion, rows: IndexRows, order: Sequence[int]) -> Iterator[tuple[int, Payload]]:
    """Yield rows with their samples, some in memory at a time."""
    for first in range(0, len(order), _PART):
        part = order[first : first + _PART]
        yield from zip(part, read_rows(version, rows, part), strict=True)


def _entry(found: SampleSelection, sample: Payload, pictures: Thumbnails) -> dict[str, Any]:
    texts = [_caption(found, number, text) for number, text in enumerate(sample["captions"])]
    # in turn, so that many texts of one kind do not crowd out the others
    views = [_view(found, sample, record) for record in sample.get("views", [])]
    negatives = [_negative(found, sample, record) for record in sample["negatives"]]
    made = [text for pair in zip_longest(negatives, views) for text in pair if text is not None]
    room = max(MAX_TEXTS - len(texts), 0)
    return {
        "u": sample["uid"],
        "n": shorten(sample["name"], _MAX_NAME),
        "s": sample["split"] or "none",
        "c": sample.get("cluster_id"),
        "d": None if sample.get("difficulty") is None else round(float(sample["difficulty"]), 3),
        "w": f"{sample['width']} x {sample['height']} px",
        "p": pictures.address(sample["uid"]),
        "t": texts[:MAX_TEXTS] + made[:room],
        "m": max(len(texts) - MAX_TEXTS, 0) + max(len(made) - room, 0),
    }


def _caption(found: SampleSelection, number: int, text: str) -> list[Any]:
    return [found.label("caption", "", "", ""), number, None, "", f"={shorten(text, _MAX_CHARS)}"]


def _view(found: SampleSelection, sample: Payload, record: Mapping[str, Any]) -> list[Any]:
    caption = sample["captions"][record["caption"]]
    pieces = [piece for piece in diff_words(caption, str(record["text"])) if piece.kind != "removed"]
    label = found.label(str(record["kind"]), str(record["family"]), "", "")
    return [label, record["caption"], None, shorten(str(record.get("rule", "")), _MAX_CHARS), *_signed(pieces)]


def _negative(found: SampleSelection, sample: Payload, record: Mapping[str, Any]) -> list[Any]:
    caption = record.get("against") or sample["captions"][record["caption"]]
    gaps = ", ".join(f"{name} {gap:+.2f}" for name, gap in blind_gaps(record).items())
    why = f"{record['rule']} · blind gaps {gaps}" if gaps else str(record["rule"])
    hard = record.get("difficulty")
    label = found.label("negative", record["operation"], record["span_class"], record["type"])
    pieces = shorten_pieces(edit_pieces(caption, record), _MAX_CHARS)
    return [
        label,
        record["caption"],
        None if hard is None else round(hard, 2),
        shorten(why, _MAX_CHARS),
        *_signed(pieces),
    ]


def _signed(pieces: Sequence[DiffPiece]) -> list[str]:
    return [f"{SIGNS[piece.kind]}{piece.text}" for piece in shorten_pieces(pieces, _MAX_CHARS)]
