"""A folder of images with one table of captions at its top."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import orjson

from curation.sources import Rejected, SourceRecord
from curation.sources.reading.files import (
    base_name,
    clean_name,
    file_entry,
    found_in,
    has_image_ending,
    image_in,
    inside,
    open_folder,
    our_split,
    scan,
    shown,
    signature_of,
)
from curation.sources.reading.table_rows import (
    CAPTION_COLUMNS,
    FILE_COLUMNS,
    TableRow,
    attributes_of,
    captions_of,
    csv_rows,
    jsonl_rows,
    parquet_columns,
    parquet_rows,
    split_of,
)
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef

TABLES = tuple(f"{stem}.{ending}" for stem in ("captions", "metadata") for ending in ("jsonl", "csv", "parquet"))


@dataclass
class _Entry:
    """What the rows of one image say."""

    captions: list[str]
    split: str | None
    attributes: dict[str, Any]


class FolderSource:
    """Images below a folder, and ``captions.jsonl``, ``.csv`` or ``.parquet`` (or ``metadata.*``) at its top.

    A row has a file column (``file_name``, ``filename``, ``file`` or ``image``, relative to the folder or to its
    ``images/``), and ``captions`` (a list), ``caption`` or ``text``; optionally ``split``. Rows of one image are
    grouped; every other column is an attribute, taken from the image's first row. Records come sorted by name, then
    the images that no row names (not with ``--split``: they are in no split).

    Raises:
        InputError: no such folder, no table, two tables, or a column is missing.
    """

    kind: ClassVar[str] = "folder"

    def __init__(self, path: str, split: str | None = None) -> None:
        self._root = open_folder(self.kind, path)
        self._name = base_name(path)
        self._split = our_split(self.kind, split)
        tables = [name for name in TABLES if (self._root / name).is_file()]
        if len(tables) != 1:
            have = f"{len(tables)} tables: {', '.join(tables)}" if tables else "no table of captions"
            raise InputError(
                f"--source {self.kind}:{path}: {have}",
                allowed=f"one of {', '.join(TABLES)}; here are: {found_in(self._root)}",
                fix="keep one of them" if tables else "write one row per caption: file_name, caption",
            )
        self._table = inside(self.kind, self._root, tables[0])
        self._columns = self._first_columns()
        self._file_column = next((name for name in FILE_COLUMNS if name in self._columns), "")
        if not self._file_column or not any(name in self._columns for name in CAPTION_COLUMNS):
            raise self._no_column("the image's file" if not self._file_column else "captions")
        if self._split and "split" not in self._columns and self._table.suffix != ".jsonl":
            raise self._no_split()

    def records(self) -> Iterator[SourceRecord | Rejected]:
        """Yield what is wrong with rows, one record per image of the table, and the images without a row."""
        entries, problems, has_split = self._read()
        if self._split and not has_split:
            raise self._no_split()
        yield from problems
        used: set[str] = set()
        for name in sorted(entries):
            item, place = self._item(name, entries[name], used)
            used.add(place)
            if self._split in (None, entries[name].split):
                yield item
        if self._split is None:
            for name in sorted(name for name, _, _ in scan(self._root) if has_image_ending(name)):
                if name not in used and name not in entries:
                    yield Rejected(shown(name), "no_captions", f"{self._table.name} does not name it")

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the table and of all images."""
        files = [file for file in scan(self._root) if has_image_ending(file[0])]
        return signature_of(self.kind, self._split, [file_entry(self._table, self._table.name), *files])

    def describe(self) -> dict[str, Any]:
        """Return kind, name and split; licences are attributes of single images."""
        return {"kind": self.kind, "name": self._name, "licence": None, "split": self._split}

    def _item(self, name: str, entry: _Entry, used: set[str]) -> tuple[SourceRecord | Rejected, str]:
        """Return the record of an image, or what it lacks, and where it lies, relative to the folder."""
        image = image_in(self._root, name)
        if isinstance(image, Rejected) and image.reason == "missing_image":
            below = image_in(self._root, f"images/{name}")
            image = below if isinstance(below, ImageRef) else image
        if isinstance(image, Rejected):
            return image, name
        place = str(Path(image.path).relative_to(self._root))
        if place in used:
            detail = f"the table names {shown(place)} in another way as well"
            return Rejected(shown(name), "duplicate_key", detail), place
        if not entry.captions:
            return Rejected(shown(name), "no_captions", f"{self._table.name} has an empty list for it"), place
        return SourceRecord(name, image, tuple(entry.captions), entry.split, entry.attributes), place

    def _rows(self) -> Iterator[TableRow]:
        """Yield the rows of the table."""
        if self._table.suffix == ".jsonl":
            yield from jsonl_rows(self._table)
        elif self._table.suffix == ".csv":
            for number, row in csv_rows(self._table):
                yield number, row if isinstance(row, str) else _with_list(row)
        else:
            yield from parquet_rows(self._table, self._columns)

    def _first_columns(self) -> list[str]:
        """Return the columns of the table; of JSON Lines, the keys of its first object."""
        if self._table.suffix == ".parquet":
            return [name for name, holds in parquet_columns(self._table).items() if holds != "bytes"]
        for _, row in self._rows():
            if not isinstance(row, str):
                return list(row)
        raise InputError(
            f"{self._table}: no usable row",
            allowed="a JSON object a line" if self._table.suffix == ".jsonl" else "a header line, then rows",
            fix="write one row per caption: file_name, caption",
        )

    def _read(self) -> tuple[dict[str, _Entry], list[Rejected], bool]:
        """Return image name -> what its rows say, the rows that cannot be used, and whether any row has a split."""
        entries: dict[str, _Entry] = {}
        problems: list[Rejected] = []
        has_split = False
        for number, row in self._rows():
            where = f"{self._table.name}:{number}"
            if isinstance(row, str):
                problems.append(Rejected(where, "malformed_line", f"{where}: {shown(row)}"))
                continue
            try:
                name, new = self._parse(row)
            except ValueError as error:
                problems.append(Rejected(where, "malformed_line", f"{where}: {shown(str(error))}"))
                continue
            has_split = has_split or new.split is not None
            entry = entries.setdefault(name, new)
            if entry.split != new.split:
                problems.append(Rejected(shown(name), "duplicate_key", f"{where}: also in split {entry.split}"))
            elif entry is not new:
                entry.captions.extend(new.captions)
        return entries, problems, has_split

    def _parse(self, row: dict[str, Any]) -> tuple[str, _Entry]:
        """Return the image that a row names, and what it says of it.

        Raises:
            ValueError: a value is missing, or not what its column is for.
        """
        name = row.get(self._file_column)
        if not isinstance(name, str) or not name:
            raise ValueError(f"no file name in '{self._file_column}'; it has {', '.join(map(shown, row))}")
        attributes = attributes_of(row, {self._file_column, "split", *CAPTION_COLUMNS})
        return clean_name(name) or name, _Entry(list(captions_of(row)), split_of(row), attributes)

    def _no_column(self, what: str) -> InputError:
        """Return the error that a column is not there."""
        names = FILE_COLUMNS if not self._file_column else CAPTION_COLUMNS
        have = ", ".join(shown(name, 40) for name in self._columns)
        return InputError(
            f"{self._table}: no column for {what}; it has: {have}",
            allowed="one of " + ", ".join(names),
            fix="rename the column",
        )

    def _no_split(self) -> InputError:
        """Return the error that splits cannot be told apart."""
        return InputError(
            f"--split {self._split}: {self._table} has no column 'split'",
            allowed="a column 'split' with train, dev or test",
            fix="add the column, or leave --split out",
        )


def _with_list(row: dict[str, Any]) -> dict[str, Any] | str:
    """Return a CSV row with ``captions`` read as a JSON list where it is written as one."""
    text = row.get("captions", "")
    if not text.startswith("["):
        return row
    try:
        return {**row, "captions": orjson.loads(text)}
    except orjson.JSONDecodeError:
        return "'captions' begins like a JSON list and is none"
