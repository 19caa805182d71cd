"""Sources that are one table whose rows name images: captions of one image are collected, whatever its rows' order."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

import orjson

from curation.sources import Note, Rejected, SourceRecord
from curation.sources.reading.csv_rows import csv_rows
from curation.sources.reading.encodings import notes_on
from curation.sources.reading.files import FileSource, clean_name, shown
from curation.sources.reading.query import COLUMN_OPTIONS
from curation.sources.reading.record_batches import MAX_SHOWN_CHARS
from curation.sources.reading.sorted_rows import SortedRows, merged
from curation.sources.reading.table_columns import find_columns
from curation.sources.reading.table_rows import (
    FILE_COLUMNS,
    BadRow,
    TableRow,
    jsonl_rows,
    parquet_columns,
    parquet_rows,
)
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef
from data_manifests.seeds import canonical

MAX_PROBLEMS = 100
"""Different problems of rows that are counted for an error message."""
MAX_KEY_LINES = 1000
"""Lines of JSON whose keys are looked at, since not every object has every key."""
MAX_NAME_CHARS = 4096
ROWS_PER_TABLE = 1024
"""Rows of the table that are Python objects at the same time."""

_IMAGE_NAME = re.compile(r"[^\s\"',;|:{}\[\]][^\t\"',;|:{}\[\]]{0,300}?\.(?:jpe?g|jpe|jfif|png|webp)\b", re.IGNORECASE)

TO_LINES = "jq -c '.[]' {0} > lines && mv lines captions.jsonl"
"""A command that writes the items of a JSON list one a line."""


@dataclass(frozen=True)
class _NotText:
    """A value among captions that is no text, as messages show it."""

    shown: str

    def __repr__(self) -> str:
        return self.shown


class _ImageRows:
    """The usable rows of a table, grouped by image and split with bounded memory.

    Args:
        pieces: Receives the rows; sorts by `KEYS`.
    """

    KEYS: ClassVar[tuple[str, ...]] = ("name", "split")

    def __init__(self, pieces: SortedRows) -> None:
        self._sorted = pieces
        self._rows: list[tuple[str, str, list[str | None], list[int], bytes]] = []

    def add(self, name: str, split: str | None, captions: Sequence[object], attributes: dict[str, Any]) -> None:
        """Add the contents of a row."""
        not_text = [place for place, item in enumerate(captions) if not (item is None or isinstance(item, str))]
        texts = [item if item is None or isinstance(item, str) else repr(item)[:MAX_SHOWN_CHARS] for item in captions]
        self._rows.append((name, split or "", texts, not_text, canonical(attributes)))
        if len(self._rows) >= ROWS_PER_TABLE:
            self._flush()

    def _flush(self) -> None:
        """Sort the rows in memory."""
        import pyarrow as pa

        schema = pa.schema(
            [
                ("name", pa.string()),
                ("split", pa.string()),
                ("captions", pa.list_(pa.string())),
                ("not_text", pa.list_(pa.int32())),
                ("attributes", pa.large_binary()),
            ]
        )
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * len(schema)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
        self._sorted.add(pa.Table.from_arrays(arrays, schema=schema))
        self._rows = []

    def grouped(self) -> Iterator[tuple[str, str | None, tuple[object, ...], dict[str, Any]]]:
        """Yield name, split, captions of all its rows and attributes of the first one, sorted by name and split."""
        self._flush()
        for table in merged(self._sorted.files(), self.KEYS):
            rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
            for (name, split), group in groupby(rows, itemgetter(0, 1)):
                captions: list[object] = []
                attributes = b""
                for _, _, texts, not_text, own in group:
                    attributes = attributes or own
                    captions += [_NotText(text) if place in not_text else text for place, text in enumerate(texts)]
                yield name, split or None, tuple(captions), orjson.loads(attributes)


class TableSource(FileSource):
    """What sources do that are one table of image names and captions: JSON Lines, Parquet or delimited text.

    A row has the image's file name and captions; optionally a split. Rows of one image and split are grouped; every
    other column is an attribute, taken from the first of them. ``?image=A&caption=B&caption=C&split=D`` names columns;
    what it does not name is found by its usual names.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = COLUMN_OPTIONS
    _table: Path

    def _open_table(self, table: Path) -> None:
        """Find the columns of the table.

        Raises:
            InputError: it has no usable row, or a column is missing.
        """
        self._table = table
        self._names = self._first_columns()
        self._columns = find_columns(table, self._names, self._query, FILE_COLUMNS, "the image's file name")
        if self._columns.split not in self._names and self._table.suffix != ".jsonl":
            self._check_split(has_split=False)

    def image_names(self) -> Iterator[tuple[Path, str]]:
        """Yield the table's folder with the name of each image, as the table has it."""
        for _, row in self._rows():
            name = None if isinstance(row, BadRow) else row.get(self._columns.image)
            if isinstance(name, str) and name:
                yield self._table.parent, name

    @abstractmethod
    def _image(self, name: str) -> ImageRef | Rejected:
        """Return where an image of the table is, or why it cannot be used."""

    def _public_name(self, name: str) -> str:
        """Return the name of an image that may be published; a table may have paths of the machine that wrote it."""
        return name

    def _similar(self, name: str) -> str | None:  # noqa: ARG002 - a folder looks among its files
        """Return the name of an image that is there and may be the missing one that is meant."""
        return None

    def _table_records(self, listed: set[str] | None) -> Iterator[SourceRecord | Rejected | Note]:
        """Yield the unusable rows, then one record per image and split, sorted by name.

        Args:
            listed: Receives the paths of the images that the table names.
        """
        yield from notes_on([self._table])
        with SortedRows(_ImageRows.KEYS) as pieces:
            rows = _ImageRows(pieces)
            yield from self._read(rows, listed)
            for name, split, captions, attributes in rows.grouped():
                image = self._image(name)
                if listed is not None:
                    listed.add(image.path if isinstance(image, ImageRef) else f"{self._root}/{name}")
                if self._split in (None, split):
                    yield self._record_of(name, image, captions, split, attributes)

    def _record_of(
        self,
        name: str,
        image: ImageRef | Rejected,
        captions: tuple[object, ...],
        split: str | None,
        attributes: dict[str, Any],
    ) -> SourceRecord | Rejected:
        """Return the record of an image, or why it has none."""
        if isinstance(image, Rejected):
            other = self._similar(name)
            return replace(image, detail=f"{image.detail}; is it {shown(other)}?") if other else image
        if not captions:
            detail = f"{self._table.name} has no caption for it: none of {', '.join(self._columns.captions)}, or an empty one"
            return Rejected(shown(self._public_name(name)), "no_captions", detail)
        return SourceRecord(self._public_name(name), image, captions, split, attributes)

    def _rows(self) -> Iterator[TableRow]:
        """Yield the rows of the table."""
        if self._table.suffix == ".jsonl":
            yield from jsonl_rows(self._table)
        elif self._table.suffix == ".parquet":
            yield from parquet_rows(self._table, self._names)
        else:
            named = [column for values in self._query.values() for column in values]
            yield from csv_rows(self._table, named, next(iter(self._query.get("image", ())), None))

    def _first_columns(self) -> list[str]:
        """Return the columns of the table; for JSON Lines, the keys of its first objects."""
        if self._table.suffix == ".parquet":
            return [name for name, content in parquet_columns(self._table).items() if content != "bytes"]
        problems: Counter[str] = Counter()
        examples: dict[str, str] = {}
        columns: dict[str, None] = {}
        for number, row in self._rows():
            if not isinstance(row, BadRow):
                columns |= dict.fromkeys(row)
                if self._table.suffix != ".jsonl" or number > MAX_KEY_LINES:
                    break
                continue
            problems[row.problem] += 1
            if row.problem not in examples and len(examples) < MAX_PROBLEMS:
                examples[row.problem] = f"line {number}: {shown(row.text, 80)}"
        if columns:
            return list(columns)
        common = next((item for item in problems.most_common() if item[0] in examples), None)
        detail = (
            f"; {common[1]} times: {common[0]}, for example {examples[common[0]]}" if common else ": it has no rows"
        )
        raise InputError(
            f"{self._table}: no usable row{detail}",
            allowed="one JSON object per line" if self._table.suffix == ".jsonl" else "a header line, then rows",
            fix=f"write each object on a line of its own: {TO_LINES.format(self._table.name)}"
            if self._is_one_document()
            else "write one row per caption with the columns file_name and caption",
        )

    def _is_one_document(self) -> bool:
        """Return whether the table ends in .jsonl and begins like a list that is written over many lines."""
        with self._table.open("rb") as file:
            return self._table.suffix == ".jsonl" and file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")

    def _read(self, rows: _ImageRows, listed: set[str] | None) -> Iterator[Rejected]:
        """Yield the rows that cannot be used; add the others to `rows`, and the images of unusable ones to `listed`."""
        has_split = False
        for number, row in self._rows():
            where = f"{self._table.name}:{number}"
            parsed = self._parse(row)
            if isinstance(parsed, str):
                found = self._named_image(row)
                name = shown(self._public_name(found[0])) if found else where
                yield Rejected(name, "malformed_line", f"{where}: {shown(parsed)}")
                if found and listed is not None:
                    listed.add(found[1].path)
            else:
                has_split = has_split or parsed[1] is not None
                rows.add(*parsed)
        self._check_split(has_split=has_split)

    def _named_image(self, row: Mapping[str, Any] | BadRow) -> tuple[str, ImageRef] | None:
        """Return the name and the location of the image that a malformed row seems to be about."""
        text = row.text if isinstance(row, BadRow) else str(row.get(self._columns.image))
        names = [text, *(match[0].strip() for match in _IMAGE_NAME.finditer(text[:MAX_NAME_CHARS]))]
        images = ((name, self._image(name)) for name in (names if text else []))
        return next(((name, image) for name, image in images if isinstance(image, ImageRef)), None)

    def _parse(
        self, row: Mapping[str, Any] | BadRow
    ) -> tuple[str, str | None, tuple[object, ...], dict[str, Any]] | str:
        """Return image name, split, captions and attributes of a row; or why it cannot be used."""
        if isinstance(row, BadRow):
            return row.problem
        name = row.get(self._columns.image)
        if not isinstance(name, str) or not name:
            return f"no file name in '{self._columns.image}'; it has {', '.join(map(shown, row))}"
        try:
            captions, used = self._columns.captions_of(row)
            attributes = self._columns.attributes_of(row, used)
            return clean_name(name) or name, self._columns.split_of(row), captions, attributes
        except ValueError as error:
            return str(error)

    def _check_split(self, *, has_split: bool) -> None:
        """Check that ``--split`` can be applied."""
        if self._split and not has_split:
            raise self._no_split(
                f"{self._table} has no column '{self._columns.split}'",
                allowed=f"a column '{self._columns.split}' with train, dev or test",
                fix=f"add the column, or name yours: --source {self.kind}:{self._path}?split=COLUMN",
            )
