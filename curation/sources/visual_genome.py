"""Visual Genome: photographs with phrases for their regions, as pairs of a whole image, or of a region, and text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.knowledge.formats.json_items import read_items
from curation.sources import RecordSplit, Rejected, SourceRecord
from curation.sources.reading.files import FileSource, contents_of, has_image_ending, image_in, scan, stat_of
from data_manifests.image_decoder import UnusableImageError, decode_image
from data_manifests.sample import ImageRef

REGIONS_FILE, IMAGES_FILE = "region_descriptions.json", "image_data.json"
_FOLDERS = ("VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2", "images", "")
_PAIRS = ("images", "regions")
_MOST = 10
_LEAST_PX = 32
"""Sides of a region: a smaller one shows hardly what its phrase says."""

_QUALITY = 95


@dataclass(frozen=True)
class _Region:
    """A phrase and its box.

    Attributes:
        key: The region's own id, or its place in the list.
        phrase: As found; perhaps no text.
        box: Left, top, width and height in pixels.
    """

    key: int
    phrase: object
    box: tuple[int, int, int, int]


class VisualGenomeSource(FileSource):
    """``region_descriptions.json`` (with ``image_data.json``, if it is there) and the photographs of Visual Genome.

    Photographs may be in ``VG_100K/`` and ``VG_100K_2/``, also below ``images/``. ``?pairs=images`` gives each photograph
    with the phrases of its ten largest regions, ``?pairs=regions`` each of these regions as a picture of its own, cut out and
    encoded as JPEG; ``?most=NUMBER`` takes another number of regions.

    Raises:
        InputError: no such folder or file, a split (there are none), or an unusable option.
    """

    kind: ClassVar[str] = "visual_genome"
    OPTIONS: ClassVar[tuple[str, ...]] = ("pairs", "most")

    def __init__(self, path: str, split: str | None = None) -> None:
        super().__init__(path, split)
        self._take_linked()
        self._root = self._folder()
        (self._pairs,) = self._query.get("pairs", _PAIRS[:1])
        (most,) = self._query.get("most", (str(_MOST),))
        if self._pairs not in _PAIRS:
            raise self._error(f"pairs={self._pairs}", allowed=f"pairs={' or pairs='.join(_PAIRS)}", fix="choose one")
        if not (most.isascii() and most.isdigit() and int(most)):
            raise self._error(
                f"most={most}", allowed="a number of regions, 1 or more", fix=f"for example ?most={_MOST}"
            )
        self._most = int(most)
        if self._split is not None:
            raise self._no_split(
                "Visual Genome has no splits", allowed="none", fix="split by a list of uids afterwards"
            )
        if not (self._root / REGIONS_FILE).is_file():
            raise self._error(
                f"no {REGIONS_FILE} in this folder",
                allowed=f"a folder with {REGIONS_FILE}, unpacked; {contents_of(self._root)}",
                fix=self._deeper(lambda name: name == REGIONS_FILE) or f"unzip {REGIONS_FILE}.zip there",
            )
        self._regions = self._inside(self._root, REGIONS_FILE)

    def splits(self) -> list[RecordSplit]:
        """Return one split: the file is one list."""
        return [RecordSplit(self._records)]

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the files and of all photographs."""
        files = [item for item in scan(self._root, self._linked) if has_image_ending(item[0])]
        tables = [name for name in (REGIONS_FILE, IMAGES_FILE) if (self._root / name).is_file()]
        return self._signature([*files, *(stat_of(self._inside(self._root, name), name) for name in tables)])

    def _licence(self) -> str:
        return "annotations CC BY 4.0; photographs by their authors' licences (Flickr, by way of YFCC100M and COCO)"

    def _records(self) -> Iterator[SourceRecord | Rejected]:
        """Yield one record for each photograph, or for each of its regions, in the file's order."""
        urls = self._urls()
        for number, entry in enumerate(read_items(self._regions), 1):
            where, key = f"{REGIONS_FILE}: item {number}", _image_id(entry)
            if key is None or not isinstance(entry.get("regions"), list):
                yield Rejected(where, "malformed_entry", f"{where}: no 'id' with a list of 'regions'")
                continue
            regions, problems = _usable(entry["regions"], where)
            yield from problems
            largest = sorted(regions, key=lambda one: (-one.box[2] * one.box[3], one.key))[: self._most]
            yield from self._of_image(key, largest, {"image_id": key, **urls.get(key, {})})

    def _of_image(
        self, key: str, regions: list[_Region], attributes: Mapping[str, Any]
    ) -> Iterator[SourceRecord | Rejected]:
        name, image = self._image(f"{key}.jpg")
        if isinstance(image, Rejected):
            yield image
        elif not regions:
            yield Rejected(name, "no_captions", f"{REGIONS_FILE} has no region for it")
        elif self._pairs == "images":
            yield SourceRecord(name, image, _distinct(one.phrase for one in regions), None, attributes)
        else:
            yield from _cut_out(name, image, regions, attributes)

    def _image(self, file_name: str) -> tuple[str, ImageRef | Rejected]:
        """Return the name of a photograph relative to the folder, and where it is."""
        found: tuple[str, ImageRef | Rejected] = (
            file_name,
            Rejected(file_name, "missing_image", "in none of the folders"),
        )
        for folder in _FOLDERS:
            name = f"{folder}/{file_name}" if folder else file_name
            image = image_in(self._root, name, self._linked)
            if isinstance(image, ImageRef) or image.reason != "missing_image":
                return name, image
        return found

    def _urls(self) -> dict[str, dict[str, str]]:
        """Return image id -> its address, where the file of images says it."""
        if not (self._root / IMAGES_FILE).is_file():
            return {}
        entries = read_items(self._inside(self._root, IMAGES_FILE))
        return {
            key: {"url": entry["url"]}
            for entry in entries
            if (key := _image_id(entry)) is not None and isinstance(entry.get("url"), str)
        }


def _image_id(entry: Any) -> str | None:
    """Return the id of an image's entry as text; None if it has none, or is no entry."""
    found = entry.get("id", entry.get("image_id")) if isinstance(entry, dict) else None
    return str(found) if isinstance(found, int | str) and not isinstance(found, bool) and found != "" else None


def _distinct(phrases: Iterable[object]) -> tuple[object, ...]:
    """Return phrases, equal texts once."""
    texts: set[object] = set()
    kept = []
    for phrase in phrases:
        if not isinstance(phrase, str) or phrase not in texts:
            kept.append(phrase)
            texts.update([phrase] if isinstance(phrase, str) else [])
    return tuple(kept)


def _usable(listed: list[Any], where: str) -> tuple[list[_Region], list[Rejected]]:
    """Return an image's regions, and its entries that are none."""
    regions, problems = [], []
    for number, entry in enumerate(listed):
        match entry:
            case {"phrase": phrase, "x": int(x), "y": int(y), "width": int(width), "height": int(height)}:
                key = entry.get("region_id", entry.get("id", number))
                regions.append(_Region(key if isinstance(key, int) else number, phrase, (x, y, width, height)))
            case _:
                problem = f"{where}, regions[{number}]: no 'phrase' with x, y, width and height in whole pixels"
                problems.append(Rejected(where, "malformed_entry", problem))
    return regions, problems


def _cut_out(
    name: str, image: ImageRef, regions: list[_Region], attributes: Mapping[str, Any]
) -> Iterator[SourceRecord | Rejected]:
    """Yield regions as pictures of their own; a region outside the picture, or too small, is rejected."""
    try:
        picture = decode_image(image.read(), name)
    except (UnusableImageError, OSError) as error:
        yield Rejected(name, getattr(error, "reason", "unreadable_image"), getattr(error, "detail", "") or str(error))
        return
    for region in regions:
        x, y, width, height = region.box
        box = (max(x, 0), max(y, 0), min(x + width, picture.width), min(y + height, picture.height))
        label = f"{name}#{region.key}"
        if min(box[2] - box[0], box[3] - box[1]) < _LEAST_PX:
            detail = (
                f"{width}x{height} at ({x}, {y}) of {picture.width}x{picture.height}: a side under {_LEAST_PX} pixels"
            )
            yield Rejected(label, "small_region", detail)
            continue
        picture.crop(box).save(file := io.BytesIO(), "JPEG", quality=_QUALITY)
        yield SourceRecord(label, file.getvalue(), (region.phrase,), None, {**attributes, "box": list(region.box)})
