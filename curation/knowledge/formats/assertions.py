"""ConceptNet 5.7's assertions: five columns between tabs, the last one JSON; plain or gzip.

``/a/[...]  /r/IsA  /c/en/bat/n/wn/animal  /c/en/mammal/n  {"dataset": ..., "license": ..., "weight": 2.0}``
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from curation.knowledge.formats.lines import MAX_LINE_BYTES, read_rows
from curation.knowledge.formats.rows import (
    BuildProgress,
    EdgeRow,
    Keep,
    MalformedError,
    ReadCounts,
    checked_name,
    concept_parts,
    provenance,
)

ALLOWED = "lines of five columns between tabs: address, /r/RELATION, /c/LANGUAGE/WORDS, /c/LANGUAGE/WORDS, JSON"


def read_assertions(path: Path, keep: Keep, tally: ReadCounts, progress: BuildProgress) -> Iterator[EdgeRow]:
    """Yield the edges of an assertions file whose two ends are of the language kept.

    The official file holds ten lines of other languages for one of English, so those are recognised by their first
    bytes, before anything is decoded.

    Raises:
        InputError: a damaged gzip file, or nothing but malformed lines.
    """
    language = f"/c/{keep.language}/".encode()
    relations = {f"/r/{name}".encode() for name in keep.relations}

    def read(_number: int, line: bytes | None) -> EdgeRow | None:
        columns = _columns(line)
        if columns is None:
            return None
        _, relation, head, tail, details = columns
        if not (head.startswith(language) and tail.startswith(language)):
            tally.num_skipped += 1
            return None
        if relations and relation.rstrip(b"/") not in relations:
            tally.skipped(relation[3:].decode(errors="replace").strip("/"))
            return None
        return _row(relation, head, tail, details)

    yield from read_rows(path, keep, tally, progress, read)


def _columns(line: bytes | None) -> list[bytes] | None:
    """Return the five columns, unread; None for an empty line."""
    if line is None:
        raise MalformedError(f"over {MAX_LINE_BYTES} bytes")
    columns = line.split(b"\t")
    if len(columns) != 5:
        if not line.strip():
            return None
        raise MalformedError(f"{len(columns)} columns, not 5")
    if not columns[1].startswith(b"/r/"):
        raise MalformedError("the second column is not /r/RELATION")
    # The far end of an ExternalURL assertion is an address on the web.
    if not columns[2].startswith(b"/c/") or not columns[3].startswith((b"/c/", b"http")):
        raise MalformedError("an end is not /c/LANGUAGE/WORDS")
    return columns


def _row(relation: bytes, head: bytes, tail: bytes, details: bytes) -> EdgeRow:
    try:
        name = checked_name(relation[3:].decode().strip("/"), "the relation")
        _, head_words, head_sense = concept_parts(head.decode())
        _, tail_words, tail_sense = concept_parts(tail.decode())
        weight, dataset, license_name = provenance(orjson.loads(details))
    except UnicodeDecodeError as error:
        raise MalformedError("not UTF-8") from error
    except orjson.JSONDecodeError as error:
        raise MalformedError("the fifth column is not JSON") from error
    return head_words, name, tail_words, weight, dataset, license_name, head_sense, tail_sense
