"""A folder of images with one table of captions at its top, or with a text file beside each image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import ClassVar
from urllib.parse import unquote

from curation.sources import Note, RecordSplit, Rejected, SourceRecord
from curation.sources.reading.caption_files import ENDING, caption_file_records, has_caption_files
from curation.sources.reading.files import contents_of, has_image_ending, image_in, scan, shown, stat_of
from curation.sources.reading.table_source import TO_LINES, TableSource
from data_manifests.sample import ImageRef

TABLES = tuple(f"{stem}.{ending}" for stem in ("captions", "metadata") for ending in ("jsonl", "csv", "tsv", "parquet"))

OTHER_LAYOUTS: Mapping[str, str] = {
    "captions.txt": "flickr",
    "results.csv": "flickr",
    "annotations/*.json": "coco",
    "*.parquet": "parquet",
    "*.tar": "webdataset",
}
"""Files that a folder of images does not have -> the kind of source that has them."""

_WAYS_TO_A_TABLE: Mapping[str, str] = {
    **{f".{ending}": "if {0} has the captions: --source csv:{1}/{0}" for ending in ("csv", "tsv")},
    ".jsonl": "if {0} has the captions, rename it to captions.jsonl",
    ".json": f"if {{0}} is a list of objects with file_name and caption, write one a line: {TO_LINES}",
    ".gz": "if {0} has the captions, decompress it: gunzip {0}",
    ".xlsx": "if {0} has the captions, save it as captions.csv",
    ".zip": "{0} is an archive: unzip it, then give its folder",
}
"""Endings of files that may have the captions of a folder without a table -> what to do with such a file."""


class FolderSource(TableSource):
    """Images below a folder, with ``captions.jsonl``, ``.csv`` or ``.parquet`` (or ``metadata.*``) at its top.

    A row has a file column (``file_name``, ``filename``, ``file`` or ``image``, relative to the folder or to its
    ``images/``), and ``captions`` (a list), ``caption`` or ``text``; optionally ``split``. Rows of one image and split
    are grouped; every other column is an attribute, taken from the first of them. Other columns are named by
    ``DIR?image=A&caption=B&caption=C&split=D``. Records come sorted by name, then rejections of the images without a row
    (not with ``--split``: they are in no split).

    A folder without a table whose images have text files beside them (``7.jpg``, ``7.txt``) has its captions there, one a line.

    Raises:
        InputError: no such folder, no table, two tables, or a column is missing.
    """

    kind: ClassVar[str] = "folder"

    def __init__(self, path: str, split: str | None = None) -> None:
        super().__init__(path, split)
        self._take_linked()
        self._root = self._folder()
        tables = [name for name in TABLES if (self._root / name).is_file()]
        self._has_table = bool(tables) or not has_caption_files(self._root, self._linked)
        if not self._has_table:
            self._check_without_table()
            return
        if len(tables) != 1:
            problem = (
                f"{len(tables)} captions files: {', '.join(tables)}" if tables else "no captions file in this folder"
            )
            raise self._error(
                problem,
                allowed=f"exactly one of {', '.join(TABLES)}; {contents_of(self._root)}",
                fix="keep one of them" if tables else self._deeper(TABLES.__contains__) or self._without_table(),
            )
        self._open_table(self._inside(self._root, tables[0]))

    def splits(self) -> list[RecordSplit]:
        """Return one split: rows of one image may be anywhere in the table."""
        return [RecordSplit(self._records)]

    def _records(self) -> Iterator[SourceRecord | Rejected | Note]:
        """Yield the unusable rows, one record per image and split, and rejections of the images without a row."""
        if not self._has_table:
            yield from caption_file_records(self._root, self._linked)
            return
        listed: set[str] = set()
        yield from self._table_records(listed)
        if self._split is None:
            for name in self._image_names():
                path = f"{self._root}/{name}"
                if path not in listed and os.path.realpath(path) not in listed:
                    yield Rejected(shown(name), "no_captions", f"{self._table.name} does not name it")

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the table, or of the text files, and of all images."""
        endings = () if self._has_table else (ENDING,)
        files = [
            file for file in scan(self._root, self._linked) if has_image_ending(file[0]) or file[0].endswith(endings)
        ]
        table = [stat_of(self._table, self._table.name)] if self._has_table else []
        return self._signature([*table, *files])

    def _check_without_table(self) -> None:
        """Check that nothing is asked of a table, since captions are in text files beside the images."""
        if self._query:
            raise self._error(
                "options name columns, and this folder has no table but a .txt beside each image",
                allowed=f"a folder with one of {', '.join(TABLES)}, or no options",
                fix="leave the options out, or add the table",
            )
        if self._split:
            raise self._no_split(
                "text files beside images have no split",
                allowed="a table with a column 'split'",
                fix="give the folder of that split",
            )

    def _without_table(self) -> str:
        """Return what to do about a folder without a table."""
        for pattern, kind in OTHER_LAYOUTS.items():
            if found := next(self._root.glob(pattern), None):
                return f"{shown(found.name)} is what another kind reads: --source {kind}:{self._path}"
        files = [item.name for item in self._root.iterdir()]
        for ending, way in _WAYS_TO_A_TABLE.items():
            names = [name for name in files if name.lower().endswith(ending)]
            if len(names) == 1:
                return way.format(shown(names[0]), self._path)
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

    def _similar(self, name: str) -> str | None:
        """Return the name of an image of the folder that may be the missing one that is meant."""
        base = name.replace("\\", "/").rpartition("/")[2].lower()
        return self._by_base_name.get(base) or self._by_base_name.get(unquote(base))

    @cached_property
    def _by_base_name(self) -> dict[str, str]:
        """The last image of each base name in small letters, to say where a missing one may be."""
        return {name.rpartition("/")[2].lower(): name for name in self._image_names()}
