"""COCO captions: a JSON file per split, and its folder of photographs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from curation.sources import Rejected, SourceRecord
from curation.sources.reading.files import (
    SPLITS,
    base_name,
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
from curation.sources.reading.table_rows import load_json
from data_manifests.errors import InputError

_FILE_NAME = re.compile(r"captions_?(train|val|test)?_?([0-9]*)(?:_.*)?\.json")
_SPLIT_ORDER = ("train", "dev", "test", None)


@dataclass(frozen=True)
class _Part:
    """One captions file with the folder that its image names are relative to, both as real paths."""

    captions: Path
    images: Path
    split: str | None


class CocoSource:
    """``annotations/captions_<split><year>.json`` beside ``<split><year>/``, or one captions file.

    Records come split by split (train, dev, test), within one sorted by image name. Photographs may lie in
    ``<split><year>/``, ``images/<split><year>/``, ``images/`` or beside the file.

    Raises:
        InputError: no captions file or no photographs where they are looked for, two files for one split.
    """

    kind: ClassVar[str] = "coco"

    def __init__(self, path: str, split: str | None = None) -> None:
        self._name = base_name(path)
        self._split = our_split(self.kind, split)
        if Path(path).is_file():
            file = Path(path).resolve()
            self._root = file.parent.parent if file.parent.name == "annotations" else file.parent
            files = [file]
        else:
            self._root = open_folder(self.kind, path)
            files = [inside(self.kind, self._root, name) for name in self._caption_files()]
        by_split: dict[str | None, Path] = {}
        for file in files:
            found = _split_of_file(file)
            if found in by_split:
                raise InputError(
                    f"--source {self.kind}:{path}: two captions files for split {found}: "
                    f"{base_name(by_split[found])} and {base_name(file)}",
                    allowed="one file for each split",
                    fix=f"give the file: --source {self.kind}:{file}",
                )
            by_split[found] = file
        if self._split is not None:
            if self._split not in by_split:
                have = ", ".join(base_name(file) for file in files)
                raise InputError(
                    f"--split {split}: no captions file of that split",
                    allowed=f"captions_<train|val|test><year>.json; here: {have}",
                    fix="add the file, or leave --split out",
                )
            by_split = {self._split: by_split[self._split]}
        self._parts = [_Part(by_split[s], self._image_folder(by_split[s]), s) for s in _SPLIT_ORDER if s in by_split]

    def records(self) -> Iterator[SourceRecord | Rejected]:
        """Yield one record per photograph of each file, sorted by name, after what is wrong with its entries."""
        seen: set[str] = set()
        for part in self._parts:
            content = _load(part.captions)
            file, licences = base_name(part.captions), _licences(content)
            images, problems = _images(content["images"], file)
            captions, unusable = _captions(content["annotations"], images, file)
            yield from problems
            yield from unusable
            for image_id, entry in sorted(images.items(), key=lambda item: (item[1]["file_name"], item[0])):
                name = entry["file_name"]
                if name in seen:
                    yield Rejected(shown(name), "duplicate_key", f"{file}: a second image of that name")
                    continue
                seen.add(name)
                if image_id not in captions:
                    yield Rejected(shown(name), "no_captions", f"{file} has none for it")
                    continue
                image = image_in(part.images, name)
                if isinstance(image, Rejected):
                    yield image
                else:
                    yield SourceRecord(name, image, tuple(captions[image_id]), part.split, _attributes(entry, licences))

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the captions files and of all photographs."""
        files = [file_entry(part.captions, "captions/" + base_name(part.captions)) for part in self._parts]
        for folder in sorted({part.images for part in self._parts}):
            label = os.path.relpath(folder, self._root)
            files += [(f"{label}/{name}", size, mtime) for name, size, mtime in scan(folder) if has_image_ending(name)]
        return signature_of(self.kind, self._split, files)

    def describe(self) -> dict[str, Any]:
        """Return kind, name, split, and the licences that the photographs are under, as the files name them."""
        names: set[str] = set()
        for part in self._parts:
            content = _load(part.captions)
            licences = _licences(content)
            for entry in content["images"]:
                key = entry.get("license") if isinstance(entry, dict) else None
                names |= {licences[key]["licence"]} if isinstance(key, int) and key in licences else set()
        return {
            "kind": self.kind,
            "name": self._name,
            "licence": "; ".join(sorted(names)) or None,
            "split": self._split,
        }

    def _caption_files(self) -> list[str]:
        """Return the captions files of a folder, relative to it."""
        for folder in ("annotations", ""):
            found = sorted(item.name for item in (self._root / folder).glob("captions*.json"))
            if found:
                return [f"{folder}/{name}" if folder else name for name in found]
        raise InputError(
            f"--source {self.kind}:{self._root}: no captions file",
            allowed=f"annotations/captions_<split><year>.json or captions*.json; here are: {found_in(self._root)}",
            fix="check the path, or give the file itself",
        )

    def _image_folder(self, file: Path) -> Path:
        """Return the real path of the folder that the images of a captions file lie in."""
        match = _FILE_NAME.fullmatch(file.name)
        own = [match[1] + match[2]] if match and match[1] else []
        places = [*own, *(f"images/{name}" for name in own), "images"]
        for place in places:
            if (self._root / place).is_dir():
                return inside(self.kind, self._root, place)
        if any(has_image_ending(item.name) for item in self._root.iterdir()):
            return self._root
        raise InputError(
            f"--source {self.kind}:{self._root}: no folder with the images of {base_name(file)}",
            allowed=f"{', '.join(place + '/' for place in places)}, or images beside the file; "
            f"here are: {found_in(self._root)}",
            fix="add the images, or choose what is there with --split or by giving one captions file",
        )


def _split_of_file(path: Path) -> str | None:
    """Return the split that a captions file's name tells, in our words."""
    match = _FILE_NAME.fullmatch(path.name)
    return SPLITS[match[1]] if match and match[1] else None


def _load(path: Path) -> dict[str, Any]:
    """Return a captions file's content.

    Raises:
        InputError: it is not JSON, or not of COCO's captions.
    """
    content = load_json(path)
    match content:
        case {"images": list(), "annotations": list(notes)}:
            if notes and not any(isinstance(note, dict) and "caption" in note for note in notes):
                have = "no annotation has a 'caption'"
                raise InputError(f"{path}: {have}", allowed="captions_*.json", fix="give the captions file")
            return dict(content)
    have = ", ".join(map(shown, sorted(content))) if isinstance(content, dict) else type(content).__name__
    allowed = "an object with the lists 'images' and 'annotations'"
    raise InputError(f"{path}: has {have}", allowed=allowed, fix="check the file")


def _licences(content: Mapping[str, Any]) -> dict[int, dict[str, str]]:
    """Return licence id -> attributes of an image under it."""
    found: dict[int, dict[str, str]] = {}
    entries = content.get("licenses")
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("name"), str):
            found[entry["id"]] = {"licence": entry["name"]}
            if isinstance(entry.get("url"), str):
                found[entry["id"]]["licence_url"] = entry["url"]
    return found


def _images(entries: list[Any], file: str) -> tuple[dict[int, dict[str, Any]], list[Rejected]]:
    """Return image id -> entry, and the entries that are not usable."""
    images: dict[int, dict[str, Any]] = {}
    problems: list[Rejected] = []
    for number, entry in enumerate(entries):
        where = f"{file}: images[{number}]"
        match entry:
            case {"id": int(image_id), "file_name": str(name)}:
                if image_id in images:
                    problems.append(Rejected(shown(name), "duplicate_key", f"{where}: a second image {image_id}"))
                else:
                    images[image_id] = entry
            case _:
                problems.append(Rejected(where, "malformed_entry", f"{where}: no 'id' and 'file_name'"))
    return images, problems


def _captions(entries: list[Any], images: Mapping[int, Any], file: str) -> tuple[dict[int, list[str]], list[Rejected]]:
    """Return image id -> captions in the file's order, and the annotations that are not usable."""
    captions: dict[int, list[str]] = {}
    problems: list[Rejected] = []
    for number, entry in enumerate(entries):
        where = f"{file}: annotations[{number}]"
        match entry:
            case {"image_id": int(image_id), "caption": str(text)}:
                if image_id in images:
                    captions.setdefault(image_id, []).append(text)
                else:
                    problems.append(Rejected(where, "missing_image", f"{where}: no image {image_id} in the file"))
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
