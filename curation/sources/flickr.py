"""Flickr8k and Flickr30k: a folder of photographs, a table with five captions each, and lists per split."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

from curation.sources import SPLIT_PRIORITY, Note, RecordSplit, Rejected, SourceRecord
from curation.sources.reading.csv_rows import csv_rows
from curation.sources.reading.encodings import notes_on
from curation.sources.reading.files import (
    SPLITS,
    FileSource,
    base_name,
    contents_of,
    has_image_ending,
    record_in,
    scan,
    shown,
    stat_of,
    unwrapped,
)
from curation.sources.reading.table_rows import (
    FILE_COLUMNS,
    BadRow,
    captions_of,
    find_caption_columns,
    find_column,
    load_json,
    numbered_columns,
    text_lines,
)
from data_manifests.errors import InputError

IMAGE_FOLDERS = ("images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k_images", "flickr30k-images")
TEXT_FOLDERS = ("", "Flickr8k_text", "annotations", "flickr30k_images")
TOKEN_FILES = ("Flickr8k.token.txt", "results_20130124.token")
KAGGLE_FILES = ("captions.txt", "results.csv")
KARPATHY_FILES = ("dataset_flickr8k.json", "dataset_flickr30k.json")
SPLIT_FILES: Mapping[str, tuple[str, ...]] = {
    "train": ("Flickr_8k.trainImages.txt", "Flickr_30k.trainImages.txt", "train.txt"),
    "dev": ("Flickr_8k.devImages.txt", "Flickr_30k.devImages.txt", "dev.txt", "val.txt"),
    "test": ("Flickr_8k.testImages.txt", "Flickr_30k.testImages.txt", "test.txt"),
}
LICENCES: Mapping[str, str] = {
    "8k": "research use only (Hodosh et al. 2013)",
    "30k": "research use only (Young et al. 2014)",
    "": "research use only (Hodosh et al. 2013; Young et al. 2014)",
}

_TOKEN_LINE = re.compile(r"([^\t#]+)#([0-9]{1,6})\t(.*)", re.DOTALL)
_IMAGE_NAME = re.compile(r"[^\t#,]*?\.(?:jpe?g|png|webp)", re.IGNORECASE)

Caption = tuple[str, int, object, int]
"""Image name, number of the caption (-1: the next one), text, line."""


class FlickrSource(FileSource):
    """The layouts in which Flickr8k and Flickr30k are distributed; records come sorted by image name.

    Captions are read from ``Flickr8k.token.txt``, ``results_20130124.token``, Kaggle's ``captions.txt`` or
    ``results.csv``, or Karpathy's ``dataset_flickr8k.json``; splits from the official lists, otherwise from Karpathy's file. With splits,
    the data set is their union: photographs in no list are left out. Without splits, it is every photograph named in
    the captions file or found on disk.

    Raises:
        InputError: the folder does not have this layout, or lacks the split.
    """

    kind: ClassVar[str] = "flickr"

    def __init__(self, path: str, split: str | None = None) -> None:
        super().__init__(path, split)
        self._take_linked()
        self._root = self._folder()
        self._images = self._image_folder()
        files = {
            name: f"{folder}/{name}" if folder else name
            for folder in reversed(TEXT_FOLDERS)
            for name in _listed(self._root / folder)
        }
        table_names = (*TOKEN_FILES, KAGGLE_FILES[0], *KARPATHY_FILES, KAGGLE_FILES[1])
        table = self._first(files, table_names)
        if table is None:
            raise self._error(
                "no captions file in this folder",
                allowed=f"one of {', '.join(table_names)}; {contents_of(self._root)}",
                fix=self._deeper(table_names.__contains__) or "put the captions file next to the image folder",
            )
        self._table = table
        lists = {split: self._first(files, names) for split, names in SPLIT_FILES.items()}
        self._lists = {split: file for split, file in lists.items() if file}
        self._karpathy = self._first(files, KARPATHY_FILES)
        if self._split is not None:
            self._check_split(self._split)

    def splits(self) -> list[RecordSplit]:
        """Return one split: captions of one photograph may be anywhere in the table."""
        return [RecordSplit(self._records)]

    def _records(self) -> Iterator[SourceRecord | Rejected | Note]:
        """Yield the unusable entries of the tables, then one record per photograph, sorted by name."""
        yield from notes_on(self._paths()[1:])
        splits, listed_twice = self._read_splits()
        yield from listed_twice
        selected = None if splits is None else {name for name, split in splits.items() if self._split in (None, split)}
        table, malformed = self._read_captions(selected)
        yield from malformed
        listed = {item.name for item in malformed}
        for name in sorted(set(table) | self._on_disk() if selected is None else selected):
            captions = [text for _, text in sorted(table[name], key=itemgetter(0))] if name in table else None
            if captions is None and shown(name) in listed:
                continue
            split = None if splits is None else splits[name]
            yield record_in(self._images, name, captions, base_name(self._table), split, {}, self._linked)

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of all photographs, the table and the lists."""
        files = [stat_of(path, "text/" + base_name(path)) for path in self._paths()[1:]]
        return self._signature([*files, *scan(self._images)])

    def _licence(self) -> str:
        """Return the licence of the data set that the names of its files stand for."""
        names = " ".join(base_name(path) for path in self._paths())
        return LICENCES["30k" if re.search("30k|results_20130124", names) else "8k" if "8k" in names else ""]

    def _paths(self) -> list[Path]:
        """Return the image folder, then every text file that is read."""
        texts = (self._table, self._karpathy, *self._lists.values())
        return [self._images, *(path for path in texts if path)]

    def _on_disk(self) -> set[str]:
        """Return the names of all photographs in the image folder."""
        return {name for name, _, _ in scan(self._images) if has_image_ending(name)}

    def _first(self, files: Mapping[str, str], names: tuple[str, ...]) -> Path | None:
        """Return the real path of the first of these files that exists."""
        name = next((name for name in names if name in files), None)
        return None if name is None else self._inside(self._root, files[name])

    def _image_folder(self) -> Path:
        """Return the real path of the folder with the photographs."""
        name = next((name for name in IMAGE_FOLDERS if (self._root / name).is_dir()), None)
        if name is None:
            raise self._error(
                "no folder with the photographs",
                allowed=f"one of {', '.join(IMAGE_FOLDERS)}; {contents_of(self._root)}",
                fix=self._deeper((*TOKEN_FILES, *KAGGLE_FILES, *KARPATHY_FILES).__contains__)
                or "check the path, rename the folder with the photographs to 'images', or use --source folder:PATH",
            )
        return unwrapped(self._inside(self._root, name), has_image_ending)

    def _check_split(self, split: str) -> None:
        """Check that the samples of a split are listed."""
        if split in self._lists or (self._karpathy and not self._lists):
            return
        found = ", ".join(f"{base_name(path)} ({name})" for name, path in self._lists.items()) or "no list of any split"
        raise self._no_split(
            "no file lists the images of this split",
            allowed=f"one of {', '.join(SPLIT_FILES[split])}; found: {found}",
            fix="add the list",
        )

    def _read_splits(self) -> tuple[dict[str, str] | None, list[Rejected]]:
        """Return image name -> split (None without splits), and the names that are listed in several.

        An image in several lists belongs to the first of `SPLIT_PRIORITY`.
        """
        if not self._lists and not self._karpathy:
            return None, []
        splits: dict[str, str] = {}
        problems: list[Rejected] = []
        for name, split, where in self._listings():
            before = splits.setdefault(name, split)
            splits[name] = min(before, split, key=SPLIT_PRIORITY.index)
            if split != before and self._split in (None, before, split):
                detail = f"{where}: also in the list of {before}; it belongs to {splits[name]}"
                problems.append(Rejected(shown(name), "split_conflict", detail))
        return splits, problems

    def _listings(self) -> Iterator[tuple[str, str, str]]:
        """Yield name, split and location of every entry of the split lists."""
        for split, path in self._lists.items():
            file = base_name(path)
            for number, text in text_lines(path):
                if isinstance(text, BadRow):
                    raise InputError(
                        f"{path}:{number}: not UTF-8",
                        allowed="one image name per line, in UTF-8",
                        fix="save the list as UTF-8",
                    )
                name = text.strip()
                yield name if has_image_ending(name) else name + ".jpg", split, f"{file}:{number}"
        if not self._lists and self._karpathy:
            file = base_name(self._karpathy)
            for number, entry in _karpathy_images(self._karpathy)[0].items():
                yield entry["filename"], SPLITS[entry["split"]], f"{file}: images[{number}]"

    def _read_captions(self, selected: set[str] | None) -> tuple[dict[str, list[tuple[int, object]]], list[Rejected]]:
        """Return image name -> numbers and captions, and the unusable lines, of the selected images (or all)."""
        table: dict[str, list[tuple[int, object]]] = {}
        problems: list[Rejected] = []
        file = base_name(self._table)
        for entry in self._caption_entries():
            if isinstance(entry, Rejected):
                in_no_list = selected is not None and entry.name not in selected
                if not in_no_list or entry.reason == "malformed_entry" or entry.name.startswith(f"{file}:"):
                    problems.append(entry)
                continue
            name, number, text, line = entry
            if selected is not None and name not in selected:
                continue
            captions = table.setdefault(name, [])
            number = len(captions) if number < 0 else number
            if (number, text) in captions:
                problems.append(Rejected(shown(name), "duplicate_key", f"{file}:{line}: caption #{number} once more"))
            else:
                captions.append((number, text))
        return table, problems

    def _caption_entries(self) -> Iterator[Caption | Rejected]:
        """Yield every caption of the table, and every line that is not one."""
        if self._table == self._karpathy:
            entries, malformed = _karpathy_images(self._table)
            yield from malformed
            for number, entry in entries.items():
                for sentence in entry["sentences"]:
                    yield entry["filename"], -1, sentence.get("raw") if isinstance(sentence, dict) else sentence, number
        elif base_name(self._table) in KAGGLE_FILES:
            yield from self._kaggle_entries()
        else:
            for number, text in text_lines(self._table):
                match = None if isinstance(text, BadRow) else _TOKEN_LINE.fullmatch(text)
                if match and has_image_ending(match[1]):
                    yield match[1], int(match[2]), match[3], number
                elif isinstance(text, BadRow):
                    yield self._malformed(number, text.text, text.problem)
                else:
                    yield self._malformed(number, text)

    def _kaggle_entries(self) -> Iterator[Caption | Rejected]:
        """Yield the rows of ``image,caption`` or ``image_name| comment_number| comment``."""
        columns: tuple[str, ...] = ()
        for number, row in csv_rows(self._table):
            if isinstance(row, BadRow):
                yield self._malformed(number, row.text, row.problem)
                continue
            if not columns:
                image = find_column(self._table, row, FILE_COLUMNS, "the image's file name")
                columns = (image, *find_caption_columns(self._table, row))
            name = row[columns[0]].strip()
            if not has_image_ending(name):
                yield self._malformed(number, name)
                continue
            position = row.get("comment_number", "").strip()
            try:
                captions, _ = captions_of(row, columns[1:], numbered_columns(row))
            except ValueError as error:
                yield self._malformed(number, name, str(error))
                continue
            if len(captions) == 1 and position.isdecimal() and len(position) < 7:
                yield name, int(position), captions[0], number
            else:
                yield from ((name, -1, caption, number) for caption in captions)

    def _malformed(self, number: int, text: str, problem: str = "") -> Rejected:
        """Return the rejection of a line, under the name of the image that it seems to be about."""
        where, name = f"{base_name(self._table)}:{number}", _IMAGE_NAME.match(text)
        return Rejected(shown(name[0]) if name else where, "malformed_line", f"{where}: {shown(problem or text)}")


def _listed(folder: Path) -> list[str]:
    """Return the names of a folder's files; empty when there is no such folder."""
    return [item.name for item in folder.iterdir() if item.is_file()] if folder.is_dir() else []


def _karpathy_images(path: Path) -> tuple[dict[int, dict[str, Any]], list[Rejected]]:
    """Return position -> entry of a Karpathy split file, and its malformed entries.

    Raises:
        InputError: it has no list of images.
    """
    content = load_json(path)
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise InputError(
            f"{path}: no list 'images'", allowed="an object with the list 'images'", fix="use Karpathy's original file"
        )
    entries: dict[int, dict[str, Any]] = {}
    malformed: list[Rejected] = []
    for number, entry in enumerate(images):
        match entry:
            case {"filename": str(), "split": str(split), "sentences": list()} if split in SPLITS:
                entries[number] = entry
            case _:
                where = f"{base_name(path)}: images[{number}]"
                name = entry.get("filename") if isinstance(entry, dict) else None
                detail = f"{where}: not a filename, a split ({', '.join(SPLITS)}) and a list of sentences"
                malformed.append(Rejected(shown(name) if isinstance(name, str) else where, "malformed_entry", detail))
    return entries, malformed
