"""Rows of delimited text tables: the separator is found from the header, and no quote can take in other rows."""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from curation.sources.reading.files import OTHER_IMAGE_ENDINGS, has_image_ending
from curation.sources.reading.table_rows import (
    CAPTION_COLUMNS,
    CAPTION_SYNONYMS,
    FILE_COLUMNS,
    MAX_TEXT_BYTES,
    BadRow,
    TableRow,
    text_lines,
)

_SEPARATORS = (",", ";", "\t", "|")
_MAX_LINES = 1000
"""Maximum lines of one quoted field."""

_Line = tuple[int, str | BadRow]


@dataclass(frozen=True)
class _TableFormat:
    """How a table is written, and its columns.

    Attributes:
        separator: Character between two fields.
        spaced: Whether a space follows each separator and does not belong to the field.
        columns: Names, made unique: ``caption``, ``caption.1``, ``caption.2`` for three columns ``caption``.
        file_index: Index of the column with the image's file name.
    """

    separator: str
    spaced: bool
    columns: list[str]
    file_index: int

    def cells(self, lines: list[str], strict: bool = True) -> list[str]:
        """Return the fields of one row, which may have several lines.

        Raises:
            csv.Error: the lines are not one row.
        """
        ended = (line + "\n" for line in lines)
        reader = csv.reader(ended, delimiter=self.separator, skipinitialspace=self.spaced, strict=strict)
        rows = [row for row in reader if row]
        if len(rows) > 1:
            raise csv.Error("a line break without quotes around it")
        cells = rows[0] if rows else []
        extra = cells[len(self.columns) :]
        return cells if any(cell.strip() for cell in extra) else cells[: len(self.columns)]

    def begins_row(self, line: str) -> bool:
        """Return whether a line has an image's file name where a row has it."""
        try:
            cells = self.cells([line], strict=False)
        except csv.Error:
            return False
        name = cells[self.file_index].strip() if len(cells) > self.file_index else ""
        return has_image_ending(name) or name.lower().endswith(OTHER_IMAGE_ENDINGS)


def csv_rows(path: Path, named: Collection[str] = (), image: str | None = None) -> Iterator[TableRow]:
    """Yield the rows below the header of a delimited table, numbered by the line on which each begins.

    Separated by comma, semicolon, tab or ``|``; in UTF-8 or UTF-16. A quoted field may have line breaks, but a line
    that begins like a row of its own is never part of it: then the row with the quote is malformed. So is the header
    where it comes again, as in tables that were joined.

    Args:
        path: The table.
        named: Columns that the user named, by which the separator is found as well.
        image: The column with the image's file name, if the user named it.
    """
    waiting: deque[_Line] = deque()
    rest = text_lines(path, keep_blank=True)
    layout: _TableFormat | None = None
    separator = None
    while (item := waiting.popleft() if waiting else next(rest, None)) is not None:
        number, text = item
        if isinstance(text, BadRow):
            yield number, text
        elif not text.strip():
            continue
        elif layout is None:
            declared = re.fullmatch(r"sep=(.)", text)  # Excel's first line
            if declared and separator is None:
                separator = declared[1]
            else:
                layout = _format_of(text, separator, named, image)
        else:
            yield number, _row(text, layout, waiting, rest)


def _format_of(header: str, separator: str | None, named: Collection[str], image: str | None) -> _TableFormat:
    """Return the format that a table's first line stands for."""
    separator = separator or max(_SEPARATORS, key=lambda one: _rank(_names(header, one), named))
    cells = header.split(separator)
    names = _names(header, separator)
    lower = [name.lower() for name in names]
    index = next((lower.index(name) for name in FILE_COLUMNS if name in lower), 0)
    index = names.index(image) if image in names else index
    spaced = len(cells) > 1 and all(cell.startswith(" ") for cell in cells[1:])
    return _TableFormat(separator, spaced, _unique(names), index)


def _names(header: str, separator: str) -> list[str]:
    """Return the column names of a header line."""
    cells = next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
    return [cell.strip() for cell in cells]


def _rank(names: list[str], named: Collection[str]) -> tuple[int, int, int]:
    """Return how well names fit a caption table: named columns, known ones; without any, the number of columns."""
    lower = {re.sub(r"[_.\- ]?\d+$", "", name.lower()) for name in names}
    known = sum(bool(lower & set(group)) for group in (FILE_COLUMNS, (*CAPTION_COLUMNS, *CAPTION_SYNONYMS)))
    return len(set(named).intersection(_unique(names))), known, 0 if known else len(names)


def _unique(names: list[str]) -> list[str]:
    """Return column names in which repeated ones have ``.1``, ``.2`` appended, as pandas names them."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        unique.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return unique


def _row(text: str, layout: _TableFormat, waiting: deque[_Line], rest: Iterator[_Line]) -> dict[str, str] | BadRow:
    """Return the row that begins with a line; lines that turn out not to be part of it are put into `waiting`."""
    try:
        cells = layout.cells([text])
    except csv.Error as error:
        if "unexpected end" not in str(error):
            return BadRow(f"not CSV: {error}", text)
        lines = _quoted_lines(text, layout, waiting, rest)
        if isinstance(lines, str):
            return BadRow(lines, text)
        cells = layout.cells(lines)
    if len(cells) != len(layout.columns):
        separators = {"\t": "tab"}
        name = separators.get(layout.separator, repr(layout.separator))
        return BadRow(f"{len(cells)} fields where the header has {len(layout.columns)} (separator: {name})", text)
    if _unique([cell.strip() for cell in cells]) == layout.columns:
        return BadRow("the header again", text)
    return dict(zip(layout.columns, cells, strict=True))


def _quoted_lines(text: str, layout: _TableFormat, waiting: deque[_Line], rest: Iterator[_Line]) -> list[str] | str:
    """Return the lines of a row whose quoted field goes on after its first line, or why it is malformed."""
    lines, taken, size = [text], list[_Line](), len(text)
    problem = "a quote is opened and not closed"
    while len(lines) < _MAX_LINES and size <= MAX_TEXT_BYTES:
        item = waiting.popleft() if waiting else next(rest, None)
        if item is None:
            break
        taken.append(item)
        line = item[1]
        if isinstance(line, BadRow) or layout.begins_row(line):
            break
        lines.append(line)
        size += len(line)
        if '"' not in line:
            continue
        try:
            layout.cells(lines)
        except csv.Error as error:
            if "unexpected end" in str(error):
                continue
            problem = f"not CSV: {error}"
            break
        return lines
    waiting.extendleft(reversed(taken))
    return problem
