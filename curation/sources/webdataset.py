"""WebDataset tars in img2dataset's layout: ``<key>.jpg``, ``<key>.txt`` and ``<key>.json``, adjacent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from curation.sources import Rejected, SourceRecord
from curation.sources.reading.files import (
    IMAGE_ENDINGS,
    base_name,
    clean_name,
    file_entry,
    list_files,
    our_split,
    scan,
    shown,
    signature_of,
)
from curation.sources.reading.table_rows import (
    CAPTION_COLUMNS,
    MAX_TEXT_BYTES,
    attributes_of,
    captions_of,
    json_object,
    split_of,
)
from curation.sources.reading.tar_walk import TarError, TarMember, walk
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef

UNSAFE_ENDINGS = ("pkl", "pickle", "pyd", "pth", "pt", "joblib", "dill", "npy", "npz", "ten")
"""Endings of members that some readers unpickle, or could."""

MAX_NAME_CHARS = 4096
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
"""First bytes of gzip, bzip2, xz, zstd and lz4 files."""

_MEASURED = ("key", "uid", "status", "error_message", "width", "height", "exif", "negatives", "attributes", "split")
"""JSON fields that are no attributes: told by other means, measured again, or made by a former curation."""

_LINKS_AND_DEVICES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
}
_KEY_AND_ENDING = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)


@dataclass
class _Group:
    """The adjacent members of one key: images, text and JSON by ending, and the endings of the others.

    Repeated: the key was there before, with members of another key between.
    """

    key: str
    repeated: bool
    images: dict[str, TarMember] = field(default_factory=dict)
    texts: dict[str, TarMember] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


class WebDatasetSource:
    """A tar, a folder of tars, ``{00000..00003}.tar``, or several of these joined by ``::``.

    Members are grouped by WebDataset's rule: the key is the path up to the first dot of the base name. Images are
    not copied: records point into the tar. Captions are those of the JSON (``captions``, else ``caption``), led by
    the ``.txt`` where its text is not among them. Records come in tar order and are named ``<tar>/<key>``, since keys
    may start anew in each tar. Members with other endings are not read.

    Raises:
        InputError: no such tar, or a compressed one.
    """

    kind: ClassVar[str] = "webdataset"

    def __init__(self, path: str, split: str | None = None) -> None:
        if re.match("pipe:|[a-z0-9]+://", path):
            got = f"--source {self.kind}:{path}: not a local path"
            raise InputError(got, allowed="local tars", fix="download them first")
        self._name = base_name(path)
        self._split = our_split(self.kind, split)
        self._check_folder(path)
        self._files = list_files(self.kind, path, ".tar")
        for file in self._files.values():
            with file.open("rb") as tar:
                start = tar.read(6)
            if start.startswith(_MAGIC) or file.name.endswith(COMPRESSED):
                raise self._compressed(file)

    def records(self) -> Iterator[SourceRecord | Rejected]:
        """Yield one record per key, and what cannot be used where it is met."""
        has_split, num_records = False, 0
        for label, path in self._files.items():
            with path.open("rb") as file:
                for item in _groups(file, label):
                    if isinstance(item, Rejected):
                        yield item
                        continue
                    made = _record(item, label, path, file)
                    if isinstance(made, SourceRecord):
                        num_records, has_split = num_records + 1, has_split or made.split is not None
                    if isinstance(made, Rejected) or self._split in (None, made.split):
                        yield made
        if self._split and num_records and not has_split:
            raise InputError(
                f"--split {self._split}: no JSON in {self._name} has a 'split'",
                allowed="JSON members with 'split': train, dev or test",
                fix="leave --split out, and name the tars of that split",
            )

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the tars."""
        files = [file_entry(path, label) for label, path in self._files.items()]
        return signature_of(self.kind, self._split, files)

    def describe(self) -> dict[str, Any]:
        """Return kind, name and split; licences are attributes of single images."""
        return {"kind": self.kind, "name": self._name, "licence": None, "split": self._split}

    def _check_folder(self, path: str) -> None:
        """Check that a folder holds no compressed tars, which would be passed over."""
        if Path(path).is_dir():
            for name in sorted(name for name, _, _ in scan(Path(path)) if name.endswith(COMPRESSED)):
                raise self._compressed(Path(path) / name)

    def _compressed(self, path: Path) -> InputError:
        """Return the error that a tar is compressed."""
        return InputError(
            f"--source {self.kind}: {path} is compressed",
            allowed="plain .tar: images are read from the middle of it",
            fix="decompress it first (images are compressed already: nothing is lost)",
        )


def _groups(file: BinaryIO, label: str) -> Iterator[_Group | Rejected]:
    """Yield the complete groups of adjacent members with one key, and what cannot be used.

    When an archive breaks off, its last group is left out, since nobody knows what it lacks.
    """
    group: _Group | None = None
    broken: TarError | None = None
    seen: set[str] = set()
    try:
        for member in walk(file):
            place = _place(member, label)
            if isinstance(place, Rejected):
                yield place
            if not isinstance(place, tuple):
                continue
            key, ending = place
            if group is None or key != group.key:
                if group:
                    yield group
                group = _Group(key, repeated=key in seen)
                seen.add(key)
            if not _add(group, ending, member):
                yield Rejected(shown(f"{label}/{key}.{ending}"), "duplicate_key", f"{label}: two members of that name")
    except TarError as error:
        broken = error
    complete = broken is None or broken.reason == "trailing_data"
    if group and complete:
        yield group
    if broken:
        lost = f"; {shown(group.key)} is left out with it" if group and not complete else ""
        yield Rejected(label, broken.reason, f"{label}: {broken.detail}{lost}")


def _place(member: TarMember, label: str) -> tuple[str, str] | Rejected | None:
    """Return a member's key and ending, None when it belongs to no sample, or why it may not be used."""
    refused = _refusal(member)
    if refused:
        return Rejected(shown(f"{label}/{member.name}"), refused[0], f"{label}: the member {refused[1]}")
    match = _KEY_AND_ENDING.fullmatch(clean_name(member.name) or "") if member.is_file else None
    return (match[1], match[2].lower()) if match else None


def _refusal(member: TarMember) -> tuple[str, str] | None:
    """Return the reason why a member may not be used, and what it is; None when it may."""
    climbs = clean_name(member.name) is None
    if climbs and not (member.is_folder and re.fullmatch(r"(\./?)?", member.name)):  # "./" is the folder packed
        return "unsafe_path", "has a name that is absolute or climbs out with .."
    if len(member.name) > MAX_NAME_CHARS:
        return "unsafe_path", f"has a name of {len(member.name):,} characters"
    if not member.is_file and not member.is_folder:
        link = _LINKS_AND_DEVICES.get(member.type)
        return ("unsafe_path", f"is {link}") if link else ("unsafe_member", "is not an ordinary file")
    if member.is_file and member.name.lower().rpartition(".")[2] in UNSAFE_ENDINGS:
        return "unsafe_member", "may hold a pickle; it was not read"
    return None


def _add(group: _Group, ending: str, member: TarMember) -> bool:
    """Put a member into its group; False when one with that ending is there."""
    place = group.images if f".{ending}" in IMAGE_ENDINGS else group.texts if ending in ("txt", "json") else None
    if place is None:
        group.others.append(ending)
        return True
    if ending in place:
        return False
    place[ending] = member
    return True


def _record(group: _Group, label: str, path: Path, file: BinaryIO) -> SourceRecord | Rejected:
    """Return the record of a group, or what it lacks."""
    name = f"{label}/{group.key}"
    lack = _lack(group)
    if lack:
        return Rejected(name, lack[0], f"{label}: {lack[1]}")
    contents: dict[str, bytes] = {}
    for ending, member in group.texts.items():
        file.seek(member.offset)
        contents[ending] = file.read(member.size_bytes)
    try:
        captions, split, attributes = _read_texts(contents)
    except ValueError as error:
        return Rejected(name, "malformed_text", f"{label}: {shown(str(error))}")
    if not captions:
        return Rejected(name, "no_captions", f"{label}: neither .txt nor a caption in .json")
    image = next(iter(group.images.values()))
    return SourceRecord(name, ImageRef(str(path), image.offset, image.size_bytes), captions, split, attributes)


def _lack(group: _Group) -> tuple[str, str] | None:
    """Return the reason why a group makes no record, and what was seen; None when its texts may be read."""
    key = shown(group.key)
    if group.repeated:
        return "duplicate_key", f"{key} comes again, and not adjacent"
    if not group.images:
        endings = [*group.texts, *group.others][:8]
        return "missing_image", f"{key} has only {', '.join(f'.{shown(ending, 20)}' for ending in endings)}"
    if len(group.images) > 1:
        return "ambiguous_image", f"{key} has .{' and .'.join(group.images)}"
    for ending, member in group.texts.items():
        if member.size_bytes > MAX_TEXT_BYTES:
            return "oversized_member", f"{key}.{ending} has {member.size_bytes:,} bytes, more than 16 MiB"
    return None


def _read_texts(contents: dict[str, bytes]) -> tuple[tuple[str, ...], str | None, dict[str, Any]]:
    """Return captions, split and attributes from the ``.txt`` and ``.json`` of a group.

    Raises:
        ValueError: one of them is not what its ending says.
    """
    try:
        text = contents["txt"].decode("utf-8-sig").rstrip("\r\n") if "txt" in contents else None
    except UnicodeDecodeError:
        raise ValueError(".txt is not UTF-8") from None
    match json_object(contents.get("json", b"{}")):
        case str(problem):
            raise ValueError(f".json is {problem}")
        case row:
            captions = captions_of(row)
    if text is not None and (not captions or text.strip() not in ["", *(caption.strip() for caption in captions)]):
        captions = (text, *captions)
    views = {name for name in row if re.fullmatch("caption_[0-9]+", name)}
    nested = row.get("attributes")
    if isinstance(nested, str):  # our own shards hold them as text
        nested = json_object(nested)
    attributes = attributes_of(row, {*_MEASURED, *CAPTION_COLUMNS, *views})
    return captions, split_of(row), (attributes_of(nested, ()) if isinstance(nested, dict) else {}) | attributes
