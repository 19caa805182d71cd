"""Plain triples: a CSV of ``head,relation,tail``, with or without a header.

A header may name further columns: ``weight``, ``dataset``, ``license``. Without them an edge weighs 1.0, its data set
is named after the file and its licence is what `Keep.license` says.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from curation.knowledge.formats.lines import MAX_LINE_BYTES, read_rows
from curation.knowledge.formats.rows import (
    BuildProgress,
    EdgeRow,
    Keep,
    MalformedError,
    ReadCounts,
    checked_name,
    checked_weight,
    plain_words,
)

ALLOWED = "lines of head,relation,tail; a header may add weight, dataset and license"
_NEEDED = ("head", "relation", "tail")
_COLUMNS = (*_NEEDED, "weight", "dataset", "license")


def read_triples(path: Path, keep: Keep, tally: ReadCounts, progress: BuildProgress) -> Iterator[EdgeRow]:
    """Yield the edges of a CSV of triples; every line stands for itself (no line breaks inside quotes).

    Raises:
        InputError: a damaged gzip file, or nothing but malformed lines.
    """
    names: Sequence[str] = _NEEDED
    dataset = f"/d/triples/{path.name.split('.')[0]}"

    def read(number: int, line: bytes | None) -> EdgeRow | None:
        nonlocal names
        cells = _cells(line)
        if cells is None:
            return None
        if number == 1 and set(_NEEDED) <= {cell.lower() for cell in cells} <= set(_COLUMNS):
            names = [cell.lower() for cell in cells]
            return None
        return _row(names, cells, dataset, keep.license)

    yield from read_rows(path, keep, tally, progress, read)


def _cells(line: bytes | None) -> list[str] | None:
    if line is None:
        raise MalformedError(f"over {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode("utf-8-sig").rstrip("\r")
        return [cell.strip() for cell in next(csv.reader([text], strict=True))] if text.strip() else None
    except UnicodeDecodeError as error:
        raise MalformedError("not UTF-8") from error
    except csv.Error as error:
        raise MalformedError(f"not CSV: {error}") from error


def _row(names: Sequence[str], cells: Sequence[str], dataset: str, license_name: str) -> EdgeRow:
    if len(cells) != len(names):
        raise MalformedError(f"{len(cells)} columns, not {len(names)}")
    columns = dict(zip(names, cells, strict=True))
    try:
        weight = checked_weight(float(columns.get("weight", 1.0)))
    except ValueError as error:
        raise MalformedError("the weight is not a finite number") from error
    return (
        plain_words(columns["head"], "the head"),
        checked_name(columns["relation"], "the relation"),
        plain_words(columns["tail"], "the tail"),
        weight,
        checked_name(columns.get("dataset") or dataset, "the data set"),
        checked_name(columns.get("license") or license_name, "the licence"),
        "",
        "",
    )
