"""Parquet files with an image and its captions in each row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from curation.sources import RecordSplit, Rejected, SourceRecord
from curation.sources.reading.files import (
    SPLITS,
    FileSource,
    FileStat,
    clean_name,
    image_in,
    shown,
    stat_of,
)
from curation.sources.reading.query import COLUMN_OPTIONS
from curation.sources.reading.table_columns import TableColumns, find_columns
from curation.sources.reading.table_rows import BadRow, parquet_columns, parquet_rows
from data_manifests.sample import ImageRef

_BYTES_COLUMNS = ("image", "image_bytes", "jpg", "jpeg", "png", "webp")
IMAGE_COLUMNS = (*_BYTES_COLUMNS, "file_name", "filename", "file", "image_path", "path")
"""Columns in which the image is looked for, in this order: bytes, Hugging Face's struct of bytes and path, or a path."""

_SPLIT_IN_NAME = re.compile(rf"({'|'.join(SPLITS)})[-_.]")


class ParquetSource(FileSource):
    """One Parquet file, a folder of them or a glob; records come in row order, files sorted by name.

    Columns: the image as bytes, as Hugging Face's ``{bytes, path}``, or as a path relative to the file; ``captions``
    (a list), ``caption`` or ``text``; optionally ``split`` (otherwise the split that the file's name begins with).
    ``?image=A&caption=B&caption=C&split=D`` names other columns. The rest are attributes, except raw bytes. Embedded images are named ``<file>#<row>``. Adjacent rows of one
    image are one record; the intake unites the others.

    Raises:
        InputError: no such file, not Parquet, or a column is missing.
    """

    kind: ClassVar[str] = "parquet"
    OPTIONS: ClassVar[tuple[str, ...]] = COLUMN_OPTIONS

    def __init__(self, path: str, split: str | None = None) -> None:
        super().__init__(path, split)
        self._files = self._list_files(".parquet")
        first = next(iter(self._files.values()))
        split = self._columns(first)[1].split
        if self._split and not any(_has_split(file, split) for file in self._files.values()):
            raise self._no_split(
                f"{self._name} has no column '{split}', and no file's name begins with a split",
                allowed=f"a column '{split}' with train, dev or test, or files like train-00000.parquet",
                fix=f"add the column, or name yours: --source {self.kind}:{self._path}?split=COLUMN",
            )

    def splits(self) -> list[RecordSplit]:
        """Return one split for each file."""
        return [RecordSplit(partial(self._records, label, file)) for label, file in self._files.items()]

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the files, and of the images that they name."""
        files = {stat_of(path, label) for label, path in self._files.items()}
        for label, file in self._files.items():
            files.update(self._named_images(label, file))
        return self._signature(files)

    def _columns(self, file: Path) -> tuple[dict[str, str], TableColumns]:
        """Return the columns of a file with their types, and which of them are which.

        Raises:
            InputError: a column is missing.
        """
        columns = parquet_columns(file)
        return columns, find_columns(file, columns, self._query, IMAGE_COLUMNS, "the image")

    def image_names(self) -> Iterator[tuple[Path, str]]:
        """Yield for each row that names an image file the folder of its table, and the name."""
        for file in self._files.values():
            yield from ((file.parent, name) for name in self._names_in(file))

    def _named_images(self, label: str, file: Path) -> Iterator[FileStat]:
        """Yield the image files that the rows of one file name."""
        root = file.parent.resolve()
        for path in self._names_in(file):
            image = image_in(root, path)
            if isinstance(image, ImageRef):
                yield stat_of(Path(image.path), _relative_to_source(label, path))

    def _names_in(self, file: Path) -> Iterator[str]:
        """Yield the names of image files in the rows of one file."""
        columns, found = self._columns(file)
        column = found.image
        if columns[column] == "bytes":
            return
        for _, row in parquet_rows(file, [f"{column}.path"] if columns[column] == "struct" else [column]):
            value = None if isinstance(row, BadRow) else row.get(column)
            path = value.get("path") if isinstance(value, dict) else value
            if isinstance(path, str) and path:
                yield path

    def _records(self, label: str, file: Path) -> Iterator[SourceRecord | Rejected]:
        """Yield one record per row of a file, or per adjacent rows of one image."""
        for key, items in groupby(self._items(label, file), _group_key):
            if key is None:
                yield from items
                continue
            rows = (item for item in items if isinstance(item, SourceRecord))
            first = next(rows)
            captions = [*first.captions, *(caption for row in rows for caption in row.captions)]
            yield replace(first, captions=tuple(captions))

    def _items(self, label: str, file: Path) -> Iterator[SourceRecord | Rejected]:
        """Yield every row of one file that is in the selected split."""
        types, columns = self._columns(file)
        used = [name for name, content in types.items() if content != "bytes" or name == columns.image]
        split_in_name = _SPLIT_IN_NAME.match(file.name)
        file_split = SPLITS[split_in_name[1]] if split_in_name else None
        no_attributes = {name for name in used if name.startswith("__index_")}
        for number, row in parquet_rows(file, used):
            name = f"{label}#{number}"
            if isinstance(row, BadRow):
                yield Rejected(name, "unreadable_rows", f"{label}: {row.problem}")
                continue
            try:
                captions, used_columns = columns.captions_of(row)
                split = columns.split_of(row) or file_split
                attributes = columns.attributes_of(row, no_attributes | used_columns)
            except ValueError as error:
                yield Rejected(name, "malformed_line", f"{name}: {shown(str(error))}")
                continue
            if self._split not in (None, split):
                continue
            image, own_name, more = _image_of(row[columns.image], label, file)
            if isinstance(image, Rejected):
                yield Rejected(image.name or name, image.reason, f"{name}: {image.detail}")
            elif not captions:
                yield Rejected(own_name or name, "no_captions", f"{name}: no text in {', '.join(columns.captions)}")
            else:
                yield SourceRecord(own_name or name, image, captions, split, attributes | more)


def _has_split(file: Path, column: str) -> bool:
    """Return whether the rows of a file have a split."""
    return bool(_SPLIT_IN_NAME.match(file.name)) or column in parquet_columns(file)


def _image_of(value: Any, label: str, file: Path) -> tuple[ImageRef | bytes | Rejected, str, dict[str, str]]:
    """Return a row's image, its own name if it has one, and further attributes."""
    path = value.get("path") if isinstance(value, dict) else value
    data = value.get("bytes") if isinstance(value, dict) else value
    clean = clean_name(path) if isinstance(path, str) else None
    if isinstance(data, bytes) and data:
        return data, "", {"file_name": clean} if clean else {}
    if not isinstance(path, str) or not path:
        return Rejected("", "missing_image", "neither bytes nor a path"), "", {}
    image = image_in(file.parent.resolve(), path)
    return image, _relative_to_source(label, clean or shown(path)), {}


def _group_key(item: SourceRecord | Rejected) -> tuple[str | bytes, str | None] | None:
    """Return what rows of one image have in common; None for rejected rows."""
    if isinstance(item, Rejected):
        return None
    return item.name if isinstance(item.image, ImageRef) else item.image, item.split


def _relative_to_source(label: str, name: str) -> str:
    """Return a name relative to a file's folder as one relative to the files' common folder."""
    return str(PurePosixPath(label).parent / name)
