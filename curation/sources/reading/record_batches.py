"""Record batches of entries: what a split of a source yields, and how records become such batches."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from curation.sources import Note, Rejected, SourceRecord
from data_manifests.sample import ImageRef
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_BATCH_ROWS = 16
"""Rows of a split's first batch; each has twice as many as the one before, so that a few records are there quickly."""
MAX_BATCH_ROWS = 1024
MAX_BATCH_BYTES = 16 << 20
"""A batch ends at the row with which it has as many bytes of images, captions and attributes."""

MAX_SHOWN_CHARS = 60
"""Characters that a message shows of a value among captions that is no text."""

_BLANK_CATEGORIES = ("Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Me", "Cn")
_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\u2800"
"""Hangul fillers and the empty Braille pattern, which Unicode counts as letters and symbols."""

_Row = tuple[Any, ...]


@cache
def record_schema() -> pa.Schema:
    """Return the columns of a source's batches.

    A row is a record (``path`` or ``data`` is there), an entry that could not become one (neither is, and ``problems``
    say why), or a note for the reader (only ``note`` is there).

    Returns:
        ``name`` (the source's own name for the entry); ``path``, ``offset``, ``size_bytes`` (where the encoded image is;
        -1 bytes: to the end of the file) or ``data`` (its bytes, when no file has them); ``captions`` (texts as
        `usable_captions` returns them); ``split`` (``train``, ``dev``, ``test`` or null); ``attributes`` (a JSON object
        with sorted keys); ``problems`` (reason and detail of each caption that was left out, or of why there is no
        record); ``note`` (a sentence).
    """
    import pyarrow as pa

    problem = pa.struct([("reason", pa.string()), ("detail", pa.string())])
    return pa.schema(
        [
            ("name", pa.string()),
            ("path", pa.string()),
            ("offset", pa.int64()),
            ("size_bytes", pa.int64()),
            ("data", pa.large_binary()),
            ("captions", pa.list_(pa.string())),
            ("split", pa.string()),
            ("attributes", pa.large_binary()),
            ("problems", pa.list_(problem)),
            ("note", pa.string()),
        ]
    )


def record_batches(entries: Iterable[SourceRecord | Rejected | Note]) -> Iterator[pa.RecordBatch]:
    """Yield entries as batches, limited in rows and in bytes.

    Args:
        entries: What a source read, in its order.
    """
    rows: list[_Row] = []
    num_bytes, max_rows = 0, FIRST_BATCH_ROWS
    for entry in entries:
        row, size = _row(entry)
        rows.append(row)
        num_bytes += size
        if len(rows) >= max_rows or num_bytes >= MAX_BATCH_BYTES:
            yield _batch(rows)
            rows, num_bytes, max_rows = [], 0, min(2 * max_rows, MAX_BATCH_ROWS)
    if rows:
        yield _batch(rows)


def _batch(rows: list[_Row]) -> pa.RecordBatch:
    """Return rows as one batch."""
    import pyarrow as pa

    schema = record_schema()
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _row(entry: SourceRecord | Rejected | Note) -> tuple[_Row, int]:
    """Return an entry's values in the order of `record_schema`, and how many bytes they have."""
    if isinstance(entry, Note):
        return ("", None, None, None, None, None, None, None, None, entry.text), len(entry.text)
    if isinstance(entry, Rejected):
        return _rejected(entry.name, [(entry.reason, entry.detail)])
    captions, problems = usable_captions(entry.captions)
    if not captions:
        return _rejected(entry.name, [*problems, ("no_captions", "no caption with text in it")])
    attributes = canonical(dict(entry.attributes))
    size = len(attributes) + sum(map(len, captions))
    rest = (captions, entry.split, attributes, _structs(problems) if problems else None, None)
    image = entry.image
    if isinstance(image, ImageRef):
        return (entry.name, image.path, image.offset, image.size_bytes, None, *rest), size
    return (entry.name, None, None, None, image, *rest), size + len(image)


def _rejected(name: str, problems: list[tuple[str, str]]) -> tuple[_Row, int]:
    """Return the values of an entry that is no record, and how many bytes they have."""
    size = sum(len(detail) for _, detail in problems)
    return (name, None, None, None, None, None, None, None, _structs(problems), None), size


def _structs(problems: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"reason": reason, "detail": detail} for reason, detail in problems]


_WRITTEN_MISSING = frozenset({"nan", "null", "none", "n/a", "#n/a", "<na>"})
"""What pandas, databases and spreadsheets write for a value that is missing, in small letters; no caption is one of these."""


def usable_captions(captions: tuple[object, ...]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the captions with text in them, without superfluous spaces, and reason and detail of the others."""
    usable, problems = [], []
    for position, caption in enumerate(captions, 1):
        text = " ".join(caption.split()) if isinstance(caption, str) else ""
        is_missing = text.lower() in _WRITTEN_MISSING
        if is_visible(text) and not is_missing:
            usable.append(text)
            continue
        reason = "empty_caption" if caption is None or isinstance(caption, str) else "malformed_caption"
        what = (
            "null"
            if caption is None
            else f"{text!r}, as programs write an empty cell"
            if is_missing
            else "blank"
            if isinstance(caption, str)
            else f"{caption!r:.{MAX_SHOWN_CHARS}}, not text"
        )
        problems.append((reason, f"caption {position} of {len(captions)} is {what}"))
    return usable, problems


def is_visible(text: str) -> bool:
    """Return whether a text has a character that is seen: no space, control, zero-width or combining one."""
    return any(char not in _BLANK_LETTERS and unicodedata.category(char) not in _BLANK_CATEGORIES for char in text)
