"""A folder of images with one table of captions at its top."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any, ClassVar
from urllib.parse import unquote

import orjson

from curation.sources import Note, RecordSplit, Rejected, SourceRecord
from curation.sources.reading.csv_rows import csv_rows
from curation.sources.reading.encodings import notes_on
from curation.sources.reading.files import (
    FileSource,
    clean_name,
    contents_of,
    has_image_ending,
    image_in,
    scan,
    shown,
    stat_of,
)
from curation.sources.reading.record_batches import MAX_SHOWN_CHARS
from curation.sources.reading.sorted_rows import SortedRows, merged
from curation.sources.reading.table_rows import (
    FILE_COLUMNS,
    BadRow,
    TableRow,
    attributes_of,
    captions_of,
    find_caption_columns,
    find_column,
    jsonl_rows,
    numbered_columns,
    parquet_columns,
    parquet_rows,
    split_of,
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

TABLES = tuple(f"{stem}.{ending}" for stem in ("captions", "metadata") for ending in ("jsonl", "csv", "tsv", "parquet"))

OTHER_LAYOUTS: Mapping[str, str] = {
    "captions.txt": "flickr",
    "results.csv": "flickr",
    "annotations/*.json": "coco",
    "*.parquet": "parquet",
    "*.tar": "webdataset",
}
"""Files that a folder of images does not have -> the kind of source that has them."""

_TO_LINES = "jq -c '.[]' {0} > lines && mv lines captions.jsonl"
_WAYS_TO_A_TABLE: Mapping[str, str] = {
    **{
        f".{ending}": f"if {{0}} has the captions, rename it to captions.{ending}" for ending in ("csv", "tsv", "jsonl")
    },
    ".json": f"if {{0}} is a list of objects with file_name and caption, write one a line: {_TO_LINES}",
    ".gz": "if {0} has the captions, decompress it: gunzip {0}",
    ".xlsx": "if {0} has the captions, save it as captions.csv",
    ".zip": "{0} is an archive: unzip it, then give its folder",
}
"""Endings of files that may have the captions of a folder without a table -> what to do with such a file."""


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


class FolderSource(FileSource):
    """Images below a folder, with ``captions.jsonl``, ``.csv`` or ``.parquet`` (or ``metadata.*``) at its top.

    A row has a file column (``file_name``, ``filename``, ``file`` or ``image``, relative to the folder or to its
    ``images/``), and ``captions`` (a list), ``caption`` or ``text``; optionally ``split``. Rows of one image and split
    are grouped; every other column is an attribute, taken from the first of them. Records come sorted by name, then
    rejections of the images without a row (not with ``--split``: they are in no split).

    Raises:
        InputError: no such folder, no table, two tables, or a column is missing.
    """

    kind: ClassVar[str] = "folder"

    def __init__(self, path: str, split: str | None = None) -> None:
        super().__init__(path, split)
        self._take_linked()
        self._root = self._folder()
        tables = [name for name in TABLES if (self._root / name).is_file()]
        if len(tables) != 1:
            problem = (
                f"{len(tables)} captions files: {', '.join(tables)}" if tables else "no captions file in this folder"
            )
            raise self._error(
                problem,
                allowed=f"exactly one of {', '.join(TABLES)}; {contents_of(self._root)}",
                fix="keep one of them" if tables else self._deeper(TABLES.__contains__) or self._without_table(),
            )
        self._table = self._inside(self._root, tables[0])
        self._columns = self._first_columns()
        self._file_column = find_column(self._table, self._columns, FILE_COLUMNS, "the image's file name")
        self._caption_columns = find_caption_columns(self._table, self._columns)
        if "split" not in self._columns and self._table.suffix != ".jsonl":
            self._check_split(has_split=False)

    def splits(self) -> list[RecordSplit]:
        """Return one split: rows of one image may be anywhere in the table."""
        return [RecordSplit(self._records)]

    def _records(self) -> Iterator[SourceRecord | Rejected | Note]:
        """Yield the unusable rows, one record per image and split, and rejections of the images without a row."""
        listed: set[str] = set()
        yield from notes_on([self._table])
        with SortedRows(_ImageRows.KEYS) as pieces:
            rows = _ImageRows(pieces)
            yield from self._read(rows, listed)
            for name, split, captions, attributes in rows.grouped():
                image = self._image(name)
                listed.add(image.path if isinstance(image, ImageRef) else f"{self._root}/{name}")
                if self._split in (None, split):
                    yield self._record_of(name, image, captions, split, attributes)
        if self._split is None:
            for name in self._image_names():
                path = f"{self._root}/{name}"
                if path not in listed and os.path.realpath(path) not in listed:
                    yield Rejected(shown(name), "no_captions", f"{self._table.name} does not name it")

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the table and of all images."""
        images = [file for file in scan(self._root, self._linked) if has_image_ending(file[0])]
        return self._signature([stat_of(self._table, self._table.name), *images])

    def _without_table(self) -> str:
        """Return what to do about a folder without a table."""
        if any(item.suffix == ".txt" and item.with_suffix(".jpg").is_file() for item in self._root.iterdir()):
            return (
                f"a .txt beside each image is WebDataset's layout: tar --sort=name -cf 00000.tar -C {self._path} . "
                "and then --source webdataset:00000.tar"
            )
        for pattern, kind in OTHER_LAYOUTS.items():
            if found := next(self._root.glob(pattern), None):
                return f"{shown(found.name)} is what another kind reads: --source {kind}:{self._path}"
        files = [item.name for item in self._root.iterdir()]
        for ending, way in _WAYS_TO_A_TABLE.items():
            names = [name for name in files if name.lower().endswith(ending)]
            if len(names) == 1:
                return way.format(shown(names[0]))
        return "write captions.csv with the columns file_name,caption"

    def _image(self, name: str) -> ImageRef | Rejected:
        """Return where an image of the table is, in the folder or in its ``images/``, or why it cannot be used."""
        image = image_in(self._root, name, self._linked)
        if isinstance(image, Rejected) and image.reason == "missing_image":
            in_images = image_in(self._root, f"images/{name}", self._linked)
            return in_images if isinstance(in_images, ImageRef) else replace(in_images, name=image.name)
        return image

    def _image_names(self) -> list[str]:
        """Return the names of all images in the folder, sorted."""
        return sorted(name for name, _, _ in scan(self._root, self._linked) if has_image_ending(name))

    @cached_property
    def _by_base_name(self) -> dict[str, str]:
        """The last image of each base name in small letters, to say where a missing one may be."""
        return {name.rpartition("/")[2].lower(): name for name in self._image_names()}

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
            base = name.replace("\\", "/").rpartition("/")[2].lower()
            other = self._by_base_name.get(base) or self._by_base_name.get(unquote(base))
            return replace(image, detail=f"{image.detail}; is it {shown(other)}?") if other else image
        if not captions:
            detail = (
                f"{self._table.name} has no caption for it: none of {', '.join(self._caption_columns)}, or an empty one"
            )
            return Rejected(shown(name), "no_captions", detail)
        return SourceRecord(name, image, captions, split, attributes)

    def _rows(self) -> Iterator[TableRow]:
        """Yield the rows of the table."""
        if self._table.suffix == ".jsonl":
            yield from jsonl_rows(self._table)
        elif self._table.suffix == ".parquet":
            yield from parquet_rows(self._table, self._columns)
        else:
            yield from csv_rows(self._table)

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
            fix=f"write each object on a line of its own: {_TO_LINES.format(self._table.name)}"
            if self._is_one_document()
            else "write one row per caption with the columns file_name and caption",
        )

    def _is_one_document(self) -> bool:
        """Return whether the table ends in .jsonl and begins like a list that is written over many lines."""
        with self._table.open("rb") as file:
            return self._table.suffix == ".jsonl" and file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")

    def _read(self, rows: _ImageRows, listed: set[str]) -> Iterator[Rejected]:
        """Yield the rows that cannot be used; add the others to `rows`, and the images of unusable ones to `listed`."""
        has_split = False
        for number, row in self._rows():
            where = f"{self._table.name}:{number}"
            parsed = self._parse(row)
            if isinstance(parsed, str):
                found = self._named_image(row)
                yield Rejected(shown(found[0]) if found else where, "malformed_line", f"{where}: {shown(parsed)}")
                listed |= {found[1].path} if found else set()
            else:
                has_split = has_split or parsed[1] is not None
                rows.add(*parsed)
        self._check_split(has_split=has_split)

    def _named_image(self, row: Mapping[str, Any] | BadRow) -> tuple[str, ImageRef] | None:
        """Return the name and the location of the image that a malformed row seems to be about."""
        text = row.text if isinstance(row, BadRow) else str(row.get(self._file_column))
        names = [text, *(match[0].strip() for match in _IMAGE_NAME.finditer(text[:MAX_NAME_CHARS]))]
        images = ((name, self._image(name)) for name in (names if text else []))
        return next(((name, image) for name, image in images if isinstance(image, ImageRef)), None)

    def _parse(
        self, row: Mapping[str, Any] | BadRow
    ) -> tuple[str, str | None, tuple[object, ...], dict[str, Any]] | str:
        """Return image name, split, captions and attributes of a row; or why it cannot be used."""
        if isinstance(row, BadRow):
            return row.problem
        name = row.get(self._file_column)
        if not isinstance(name, str) or not name:
            return f"no file name in '{self._file_column}'; it has {', '.join(map(shown, row))}"
        try:
            captions, used = captions_of(row, self._caption_columns, numbered_columns(row))
            attributes = attributes_of(row, {self._file_column, "split", *used})
            return clean_name(name) or name, split_of(row), captions, attributes
        except ValueError as error:
            return str(error)

    def _check_split(self, *, has_split: bool) -> None:
        """Check that ``--split`` can be applied."""
        if self._split and not has_split:
            raise self._no_split(
                f"{self._table} has no column 'split'",
                allowed="a column 'split' with train, dev or test",
                fix="add the column",
            )
