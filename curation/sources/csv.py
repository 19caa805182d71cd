"""One delimited text file that names images, such as the csv files that open_clip is trained with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from curation.sources import Note, RecordSplit, Rejected, SourceRecord
from curation.sources.reading.files import FileStat, contents_of, image_in, shown, stat_of
from curation.sources.reading.table_rows import BadRow
from curation.sources.reading.table_source import TableSource
from data_manifests.sample import ImageRef

_OTHER_KINDS = {
    ".parquet": "--source parquet:{0}",
    ".tar": "--source webdataset:{0}",
    ".json": "--source coco:{0}, if these are captions as COCO has them",
    ".jsonl": "name it captions.jsonl and give its folder: --source folder:{1}",
    ".xlsx": "save it as CSV in UTF-8",
    ".gz": "decompress it: gunzip {0}",
    ".zip": "unzip {0}",
}
"""Endings of files that are no delimited text -> what to do with such a file."""


class CsvSource(TableSource):
    """A csv or tsv file: a header, then rows with an image's file name and captions.

    ``filepath`` and ``title``, as open_clip calls them, are found like the columns of `folder`; others are named by
    ``FILE?image=A&caption=B&caption=C&split=D``. Names are relative to the file's folder. ``FILE::FOLDER`` names a
    further folder with images: names may be relative to it, too, absolute ones may lead into it, and so may links.
    Records come sorted by name. Images that the file does not name are not looked for.

    Raises:
        InputError: no such file or folder, not a table, or a column is missing.
    """

    kind: ClassVar[str] = "csv"

    def __init__(self, path: str, split: str | None = None) -> None:
        super().__init__(path, split)
        self._take_linked()
        given = Path(self._path)
        if not given.is_file():
            raise self._no_file(given)
        for ending, way in _OTHER_KINDS.items():
            if given.name.lower().endswith(ending):
                raise self._error(
                    f"a {ending} file is no delimited text",
                    allowed="a csv or tsv file with a header",
                    fix=way.format(given, given.parent),
                )
        above = Path(os.path.normpath(given.absolute())).parent
        self._root = self._as_text(above.resolve())
        self._folders = ((above, self._root), *zip(self._targets, self._linked, strict=True))
        self._open_table(self._as_text(given.absolute()))

    def splits(self) -> list[RecordSplit]:
        """Return one split: rows of one image may be anywhere in the table."""
        return [RecordSplit(self._records)]

    def _records(self) -> Iterator[SourceRecord | Rejected | Note]:
        """Yield the unusable rows, then one record per image and split."""
        return self._table_records(None)

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the table and of the images that it names."""
        return self._signature([stat_of(self._table, self._table.name), *self._named_images()])

    def _named_images(self) -> Iterator[FileStat]:
        """Yield each image that the table names."""
        seen = set[str]()
        for _, row in self._rows():
            name = None if isinstance(row, BadRow) else row.get(self._columns.image)
            if isinstance(name, str) and name not in seen:
                seen.add(name)
                if isinstance(image := self._image(name), ImageRef):
                    yield stat_of(Path(image.path), self._public_name(name))

    def _image(self, name: str) -> ImageRef | Rejected:
        """Return where an image of the table is, in the file's folder or in one that the user named."""
        if below := self._below(name):
            return image_in(below[0], below[1], self._linked)
        found = image_in(self._root, name, self._linked)
        if isinstance(found, Rejected) and name.startswith("/"):
            detail = "the path leads out of the table's folder; if it is yours, name the images' folder as well"
            return Rejected(shown(self._public_name(name)), "unsafe_path", f"{detail}: --source csv:FILE::FOLDER")
        for folder in self._linked:
            if not isinstance(found, Rejected) or found.reason not in ("missing_image", "unsupported_image"):
                break
            other = image_in(folder, name, self._linked)
            found = other if isinstance(other, ImageRef) else replace(other, name=found.name)
        return found

    def _public_name(self, name: str) -> str:
        """Return a name without the folders of the machine that an absolute path goes through."""
        if name.startswith("/"):
            below = self._below(name)
            return below[1] if below else Path(name).name
        return name

    def _below(self, name: str) -> tuple[Path, str] | None:
        """Return the folder that an absolute path leads into, and the path relative to it; None when there is none."""
        if not name.startswith("/"):
            return None
        path = os.path.normpath(name)
        for folders in self._folders:
            for folder in folders:
                if path.startswith(f"{str(folder).rstrip('/')}/"):
                    return folders[1], path[len(str(folder).rstrip("/")) + 1 :]
        return None

    def _no_file(self, given: Path) -> Exception:
        """Return the error that there is no such file."""
        if not given.is_dir():
            return self._error(
                "no such file", allowed="csv:FILE, or csv:FILE?image=A&caption=B&split=C", fix="check the path"
            )
        tables = sorted(item.name for item in given.iterdir() if item.suffix.lower() in (".csv", ".tsv"))
        return self._error(
            "this is a folder",
            allowed=f"csv:FILE; {contents_of(given)}",
            fix=f"--source csv:{given / tables[0]}" if tables else f"--source folder:{self._path}",
        )
