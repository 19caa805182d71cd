"""Parquet files with an image and its captions in each row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from curation.sources import Rejected, SourceRecord
from curation.sources.reading.files import (
    SPLITS,
    File,
    base_name,
    clean_name,
    file_entry,
    image_in,
    list_files,
    our_split,
    shown,
    signature_of,
)
from curation.sources.reading.table_rows import (
    CAPTION_COLUMNS,
    attributes_of,
    captions_of,
    parquet_columns,
    parquet_rows,
    split_of,
)
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef

_BYTES_COLUMNS = ("image", "image_bytes", "jpg", "jpeg", "png", "webp")
IMAGE_COLUMNS = (*_BYTES_COLUMNS, "file_name", "filename", "file", "image_path", "path")
"""Where the image is looked for, in this order: bytes, Hugging Face's struct of bytes and path, or a path."""

_SPLIT_IN_NAME = re.compile(rf"({'|'.join(SPLITS)})[-_.]")


class ParquetSource:
    """One Parquet file, a folder of them or a glob; records come in row order, files sorted by name.

    Columns: the image as bytes, as Hugging Face's ``{bytes, path}``, or as a path relative to the file; ``captions``
    (a list), ``caption`` or ``text``; optionally ``split`` (else the split that the file's name begins with). All
    others are attributes, apart from raw bytes. Embedded images are named ``<file>#<row>``; rows of one path are
    grouped when they are adjacent, because nothing but the names of paths is remembered.

    Raises:
        InputError: no such file, not Parquet, or a column is missing.
    """

    kind: ClassVar[str] = "parquet"

    def __init__(self, path: str, split: str | None = None) -> None:
        self._name = base_name(path)
        self._split = our_split(self.kind, split)
        self._files = list_files(self.kind, path, ".parquet")
        first = next(iter(self._files.values()))
        self._image_column(first, parquet_columns(first))
        if self._split and not any(self._has_split(file) for file in self._files.values()):
            raise InputError(
                f"--split {split}: no column 'split' in {self._name}, and no file is named after a split",
                allowed="a column 'split', or files like train-00000.parquet",
                fix="add the column, or leave --split out",
            )

    def records(self) -> Iterator[SourceRecord | Rejected]:
        """Yield one record per row, or per adjacent rows of one path."""
        seen: set[str] = set()
        for label, file in self._files.items():
            held: SourceRecord | None = None
            for item in self._items(label, file):
                if isinstance(item, SourceRecord) and held and (item.name, item.split) == (held.name, held.split):
                    held = SourceRecord(
                        held.name, held.image, held.captions + item.captions, held.split, held.attributes
                    )
                    continue
                if held:
                    yield _checked(held, seen)
                    held = None
                if isinstance(item, SourceRecord):
                    held = item
                else:
                    yield item
            if held:
                yield _checked(held, seen)

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the files, and of the images that they name."""
        files = {file_entry(path, label) for label, path in self._files.items()}
        for label, file in self._files.items():
            files.update(self._named_images(label, file))
        return signature_of(self.kind, self._split, files)

    def describe(self) -> dict[str, Any]:
        """Return kind, name and split; licences are attributes of single images."""
        return {"kind": self.kind, "name": self._name, "licence": None, "split": self._split}

    def _named_images(self, label: str, file: Path) -> Iterator[File]:
        """Yield the image files that the rows of one file name."""
        columns = parquet_columns(file)
        column = self._image_column(file, columns)
        if columns[column] == "bytes":
            return
        root = file.parent.resolve()
        paths = [f"{column}.path"] if columns[column] == "struct" else [column]
        for _, row in parquet_rows(file, paths):
            value = None if isinstance(row, str) else row.get(column)
            path = value.get("path") if isinstance(value, dict) else value
            if not isinstance(path, str) or not path:
                continue
            image = image_in(root, path)
            if isinstance(image, ImageRef):
                yield file_entry(Path(image.path), _beside(label, path))

    def _items(self, label: str, file: Path) -> Iterator[SourceRecord | Rejected]:
        """Yield every row of one file that is in the wanted split."""
        columns = parquet_columns(file)
        image_column = self._image_column(file, columns)
        wanted = [name for name, holds in columns.items() if holds != "bytes" or name == image_column]
        split_in_name = _SPLIT_IN_NAME.match(file.name)
        file_split = SPLITS[split_in_name[1]] if split_in_name else None
        leave_out = {image_column, "split", *CAPTION_COLUMNS, *(name for name in wanted if name.startswith("__index_"))}
        for number, row in parquet_rows(file, wanted):
            name = f"{label}#{number}"
            if isinstance(row, str):
                yield Rejected(name, "unreadable_rows", f"{label}: {row}")
                continue
            try:
                captions, split = captions_of(row), split_of(row) or file_split
                attributes = attributes_of(row, leave_out)
            except ValueError as error:
                yield Rejected(name, "malformed_line", f"{name}: {shown(str(error))}")
                continue
            if self._split not in (None, split):
                continue
            image, own_name, more = _image_of(row[image_column], label, file)
            if isinstance(image, Rejected):
                yield Rejected(image.name or name, image.reason, f"{name}: {image.detail}")
            elif not captions:
                yield Rejected(own_name or name, "no_captions", f"{name}: no text in {', '.join(CAPTION_COLUMNS)}")
            else:
                yield SourceRecord(own_name or name, image, captions, split, attributes | more)

    def _image_column(self, file: Path, columns: dict[str, str]) -> str:
        """Return the column with the image.

        Raises:
            InputError: there is none, or none with captions.
        """
        for names, what in ((IMAGE_COLUMNS, "the image"), (CAPTION_COLUMNS, "captions")):
            if not any(name in columns for name in names):
                raise InputError(
                    f"{file}: no column for {what}; it has: {', '.join(shown(name, 40) for name in columns)}",
                    allowed="one of " + ", ".join(names),
                    fix="rename the column",
                )
        return next(name for name in IMAGE_COLUMNS if name in columns)

    def _has_split(self, file: Path) -> bool:
        """Tell whether the rows of a file have a split."""
        return bool(_SPLIT_IN_NAME.match(file.name)) or "split" in parquet_columns(file)


def _image_of(value: Any, label: str, file: Path) -> tuple[ImageRef | bytes | Rejected, str, dict[str, str]]:
    """Return a row's image, its name when it has one of its own, and what else the value tells."""
    path = value.get("path") if isinstance(value, dict) else value
    data = value.get("bytes") if isinstance(value, dict) else value
    clean = clean_name(path) if isinstance(path, str) else None
    if isinstance(data, bytes) and data:
        return data, "", {"file_name": clean} if clean else {}
    if not isinstance(path, str) or not path:
        return Rejected("", "missing_image", "neither bytes nor a path"), "", {}
    image = image_in(file.parent.resolve(), path)
    return image, _beside(label, clean or shown(path)), {}


def _beside(label: str, name: str) -> str:
    """Return a name relative to the folder of a file, as one relative to the folder that all files share."""
    return str(PurePosixPath(label).parent / name)


def _checked(record: SourceRecord, seen: set[str]) -> SourceRecord | Rejected:
    """Return a record, or its rejection when its image file has been there before."""
    if isinstance(record.image, ImageRef):
        if record.name in seen:
            return Rejected(shown(record.name), "duplicate_key", "its rows are not adjacent, or differ in split")
        seen.add(record.name)
    return record
