"""COCO captions: a JSON file per split, and its folder of photographs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from curation.sources import Note, RecordSplit, Rejected, SourceRecord
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
from curation.sources.reading.table_rows import load_json
from data_manifests.errors import InputError

_FILE_NAME = re.compile(r"captions_?(train|val|test)?_?([0-9]*)(?:_.*)?\.json")
_SPLIT_ORDER = ("train", "dev", "test", None)


@dataclass(frozen=True)
class _Part:
    """The real paths of a captions file and of the folder that its image names are relative to."""

    captions: Path
    images: Path
    split: str | None


class CocoSource(FileSource):
    """``annotations/captions_<split><year>.json`` next to ``<split><year>/``, or one captions file.

    Records come split by split (train, dev, test), and within a split sorted by image name. Photographs may be in
    ``<split><year>/``, ``images/<split><year>/``, ``images/`` or next to the captions file; ``FILE?images=DIR`` names their
    folder.

    Raises:
        InputError: no captions file, no photographs where they are looked for, or two files for one split.
    """

    kind: ClassVar[str] = "coco"
    OPTIONS: ClassVar[tuple[str, ...]] = ("images",)

    def __init__(self, path: str, split: str | None = None) -> None:
        super().__init__(path, split)
        self._take_linked()
        if Path(self._path).is_file():
            file = Path(self._path).resolve()
            self._root = file.parent.parent if file.parent.name == "annotations" else file.parent
            files = [file]
        else:
            self._root = self._folder("FOLDER, or the captions file")
            files = [self._inside(self._root, name) for name in self._caption_files()]
        by_split: dict[str | None, Path] = {}
        for file in files:
            found = _split_of_file(file)
            if found in by_split:
                raise self._error(
                    f"two captions files for split {found}: {base_name(by_split[found])} and {base_name(file)}",
                    allowed="one captions file per split",
                    fix=f"choose one of them: --source {self.kind}:{file}",
                )
            by_split[found] = file
        if self._split is not None:
            if self._split not in by_split:
                raise self._no_split(
                    "no captions file for this split",
                    allowed="captions_<train|val|test><year>.json; found: " + ", ".join(map(base_name, files)),
                    fix="add the captions file",
                )
            by_split = {self._split: by_split[self._split]}
        self._parts = [_Part(by_split[s], self._image_folder(by_split[s]), s) for s in _SPLIT_ORDER if s in by_split]

    def splits(self) -> list[RecordSplit]:
        """Return one split for each captions file."""
        return [RecordSplit(partial(_records, part, self._linked)) for part in self._parts]

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the captions files and of all photographs."""
        files = [stat_of(part.captions, "captions/" + base_name(part.captions)) for part in self._parts]
        for folder in sorted({part.images for part in self._parts}):
            label = os.path.relpath(folder, self._root)
            files += [(f"{label}/{name}", size, mtime) for name, size, mtime in scan(folder) if has_image_ending(name)]
        return self._signature(files)

    def _licence(self) -> str | None:
        """Return the licences of the photographs, as the captions files name them."""
        names: set[str] = set()
        for part in self._parts:
            content = _load(part.captions)
            licences = _licences(content)
            for entry in content["images"]:
                key = entry.get("license") if isinstance(entry, dict) else None
                names |= {licences[key]["licence"]} if isinstance(key, int) and key in licences else set()
        return "; ".join(sorted(names)) or None

    def _caption_files(self) -> list[str]:
        """Return the captions files of the folder, relative to it."""
        for folder in ("annotations", ""):
            found = sorted(item.name for item in (self._root / folder).glob("captions*.json"))
            if found:
                return [f"{folder}/{name}" if folder else name for name in found]
        raise self._error(
            "no captions file in this folder",
            allowed=f"annotations/captions_<split><year>.json or captions*.json; {contents_of(self._root)}",
            fix=self._deeper(lambda name: name.startswith("captions") and name.endswith(".json"))
            or "check the path, or give the captions file itself",
        )

    def _image_folder(self, file: Path) -> Path:
        """Return the real path of the folder that contains the images of a captions file."""
        if "images" in self._query:
            given = Path(self._query["images"][0])
            if not given.is_dir():
                raise self._error(
                    f"images={given}: no such folder", allowed=f"{self.kind}:FILE?images=DIR", fix="check the path"
                )
            return self._as_text(given.resolve())
        match = _FILE_NAME.fullmatch(file.name)
        own = [match[1] + match[2]] if match and match[1] else []
        candidates = [*own, *(f"images/{name}" for name in own), "images"]
        for candidate in candidates:
            if (self._root / candidate).is_dir():
                return unwrapped(self._inside(self._root, candidate), has_image_ending)
        if any(has_image_ending(item.name) for item in self._root.iterdir()):
            return self._root
        raise self._error(
            f"no folder with the images of {base_name(file)}",
            allowed=f"{', '.join(name + '/' for name in candidates)}, or images next to the file; "
            f"{contents_of(self._root)}",
            fix=f"name their folder: --source {self.kind}:{self._path}?images=DIR; or select what is there with --split",
        )


def _records(part: _Part, linked: tuple[Path, ...]) -> Iterator[SourceRecord | Rejected | Note]:
    """Yield the unusable entries of a captions file, then one record per photograph, sorted by name."""
    yield from notes_on([part.captions])
    content = _load(part.captions)
    file, licences = base_name(part.captions), _licences(content)
    images, unusable_images = _images(content["images"], file)
    captions, unusable_captions = _captions(content["annotations"], images, file)
    yield from unusable_images
    yield from unusable_captions
    by_name = sorted(images.items(), key=lambda item: (item[1]["file_name"], len(item[0]), item[0]))
    for name, group in groupby(by_name, lambda item: item[1]["file_name"]):
        entries = list(group)
        texts = [text for image_id, _ in entries for text in captions.get(image_id, [])]
        attributes = _attributes(entries[0][1], licences)
        yield record_in(part.images, name, texts or None, file, part.split, attributes, linked)


def _split_of_file(path: Path) -> str | None:
    """Return the split that the name of a captions file stands for."""
    match = _FILE_NAME.fullmatch(path.name)
    return SPLITS[match[1]] if match and match[1] else None


def _load(path: Path) -> dict[str, Any]:
    """Return a captions file's content.

    Raises:
        InputError: it is not JSON, or not a file of COCO captions.
    """
    content = load_json(path)
    match content:
        case {"images": list(), "annotations": list(notes)}:
            if notes and not any(isinstance(note, dict) and "caption" in note for note in notes):
                raise InputError(
                    f"{path}: no annotation has a 'caption'",
                    allowed="a captions file, not one of instances or keypoints",
                    fix="give captions_<split><year>.json",
                )
            return dict(content)
    found = ", ".join(map(shown, sorted(content))) if isinstance(content, dict) else type(content).__name__
    raise InputError(
        f"{path}: not COCO captions; it has: {found}",
        allowed="an object with the lists 'images' and 'annotations'",
        fix="give captions_<split><year>.json",
    )


def _licences(content: Mapping[str, Any]) -> dict[int, dict[str, str]]:
    """Return licence id -> attributes of an image with that licence."""
    found: dict[int, dict[str, str]] = {}
    entries = content.get("licenses")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str):
            found[entry["id"]] = {"licence": entry["name"]}
            if isinstance(entry.get("url"), str):
                found[entry["id"]]["licence_url"] = entry["url"]
    return found


def _images(entries: list[Any], file: str) -> tuple[dict[str, dict[str, Any]], list[Rejected]]:
    """Return image id as text -> entry, and the unusable entries."""
    images: dict[str, dict[str, Any]] = {}
    problems: list[Rejected] = []
    for number, entry in enumerate(entries):
        where = f"{file}: images[{number}]"
        match entry:
            case {"id": image_id, "file_name": str(name)} if key := _id_text(image_id):
                if key in images:
                    problems.append(Rejected(shown(name), "duplicate_key", f"{where}: a second image {shown(key)}"))
                else:
                    images[key] = entry
            case _:
                problems.append(Rejected(where, "malformed_entry", f"{where}: no 'id' and 'file_name'"))
    return images, problems


def _id_text(value: Any) -> str:
    """Return an id as text, so that 7, 7.0 and "7" are one image; empty when it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""


def _captions(entries: list[Any], images: Mapping[str, Any], file: str) -> tuple[dict[str, list[Any]], list[Rejected]]:
    """Return image id as text -> captions as found, in the file's order, and the unusable annotations."""
    captions: dict[str, list[Any]] = {}
    problems: list[Rejected] = []
    for number, entry in enumerate(entries):
        where = f"{file}: annotations[{number}]"
        match entry:
            case {"image_id": image_id, "caption": caption} if key := _id_text(image_id):
                if key in images:
                    captions.setdefault(key, []).extend(caption if isinstance(caption, list) else [caption])
                else:
                    problem = f"{where}: no image {shown(key)} in the file"
                    problems.append(Rejected(where, "missing_image", problem))
            case _:
                problems.append(Rejected(where, "malformed_entry", f"{where}: no 'image_id' and 'caption'"))
    return captions, problems


def _attributes(entry: Mapping[str, Any], licences: Mapping[int, Mapping[str, str]]) -> dict[str, Any]:
    """Return image id, url and licence of an image."""
    url = next((entry[key] for key in ("coco_url", "flickr_url", "url") if isinstance(entry.get(key), str)), None)
    licence = entry.get("license")
    return {
        "image_id": entry["id"],
        **({"url": url} if url else {}),
        **(licences.get(licence, {}) if isinstance(licence, int) else {}),
    }
