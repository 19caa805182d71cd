"""WebDataset tars in img2dataset's layout: ``<key>.jpg``, ``<key>.txt`` and ``<key>.json``, in any order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from curation.sources import RecordSplit, Rejected, SourceRecord
from curation.sources.reading.encodings import decoded
from curation.sources.reading.files import FileSource, clean_name, scan, shown, stat_of
from curation.sources.reading.query import Query
from curation.sources.reading.table_columns import SPLIT_COLUMN, TableColumns
from curation.sources.reading.table_rows import (
    MAX_TEXT_BYTES,
    attributes_of,
    captions_of,
    json_object,
    numbered_columns,
    split_of,
)
from curation.sources.reading.tar_walk import TarError, TarMember, walk
from data_manifests.errors import InputError
from data_manifests.image_decoder import IMAGE_ENDINGS
from data_manifests.sample import ImageRef

UNSAFE_ENDINGS = ("pkl", "pickle", "pyd", "pth", "pt", "joblib", "dill", "npy", "npz", "ten")
"""Endings of members that some readers unpickle."""

MAX_NAME_CHARS = 4096
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
"""First bytes of gzip, bzip2, xz, zstd and lz4 files."""

_MEASURED = ("key", "uid", "status", "error_message", "width", "height", "exif", "negatives", "attributes", "split")
"""JSON fields that are not attributes: known already, measured again, or written by an earlier curation."""

_TEXTS = ("txt", "json")
_DOTTED = {*_TEXTS, *(name[1:] for name in IMAGE_ENDINGS)}
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
    """The members of one key, by ending.

    Images, texts (text or JSON), and dotted ones, whose ending has dots in it, such as ``05.jpg`` of ``22.05.jpg``; of
    other members only the endings. The last group of a damaged archive is cut.
    """

    key: str
    is_cut: bool = False
    images: dict[str, TarMember] = field(default_factory=dict)
    texts: dict[str, TarMember] = field(default_factory=dict)
    dotted: dict[str, TarMember] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)

    @property
    def members(self) -> dict[str, TarMember]:
        """Its members that may be read."""
        return self.images | self.texts | self.dotted

    @property
    def has_image(self) -> bool:
        """Whether a member's last ending is that of an image."""
        return bool(self.images) or any(f".{name.rpartition('.')[2]}" in IMAGE_ENDINGS for name in self.dotted)


class WebDatasetSource(FileSource):
    """A tar, a folder of tars, ``{00000..00003}.tar``, or several of these joined by ``::``.

    Members are grouped by WebDataset's rule: the key is the path up to the first dot of the base name;
    up to the last dot when only members with dotted endings (``22.05.jpg``) are images. They need not be adjacent: a tar's
    headers are read twice, first to learn which keys come again. Images are
    not copied: records point into the tar. Captions come from the JSON (``captions``, otherwise ``caption``), preceded
    by the text of the ``.txt`` unless it is one of them; ``TARS?caption=A&caption=B&split=C`` names keys of the JSON, and
    captions are then those alone. Records come in the order of their last members and are named
    ``<tar>/<key>``, since keys may repeat from tar to tar. Members with other endings are not read.

    Raises:
        InputError: no such tar, or a compressed one.
    """

    kind: ClassVar[str] = "webdataset"
    OPTIONS: ClassVar[tuple[str, ...]] = ("caption", "split")

    def __init__(self, path: str, split: str | None = None) -> None:
        super().__init__(path, split)
        if re.match("pipe:|[a-z0-9]+://", self._path):
            raise self._error(
                "neither a path nor a URL that can be read",
                allowed="tars on a local disk, s3://... or https://...",
                fix="download the tars first",
            )
        if Path(self._path).is_dir():  # compressed tars would be ignored
            for name in sorted(name for name, _, _ in scan(Path(self._path)) if name.endswith(COMPRESSED)):
                raise self._compressed(Path(self._path) / name)
        self._files = self._list_files(".tar")
        for file in self._files.values():
            with file.open("rb") as tar:
                start = tar.read(6)
            if start.startswith(_MAGIC) or file.name.endswith(COMPRESSED):
                raise self._compressed(file)

    def splits(self) -> list[RecordSplit]:
        """Return one split for each tar."""
        if self._split:
            self._check_split()
        return [
            RecordSplit(partial(_records, path, label, self._split, self._query)) for label, path in self._files.items()
        ]

    def signature(self) -> str:
        """Return a hash of the names, sizes and times of the tars."""
        return self._signature(stat_of(path, label) for label, path in self._files.items())

    def _check_split(self) -> None:
        """Check that a record has a split, unless there is no record at all."""
        records = (item for label, path in self._files.items() for item in _records(path, label, None, self._query))
        num_records = 0
        for record in records:
            if isinstance(record, SourceRecord):
                if record.split is not None:
                    return
                num_records += 1
        if num_records:
            raise self._no_split(
                f"no JSON in {self._name} has a split",
                allowed="JSON members with 'split', or what ?split=KEY names: train, dev or test",
                fix="give only the tars of that split",
            )

    def _compressed(self, path: Path) -> InputError:
        """Return the error that a tar is compressed."""
        return self._error(
            f"{path.name} is a compressed tar",
            allowed="uncompressed .tar files, because images are read by byte offset",
            fix="decompress it, for example with gunzip; images are compressed already, so it hardly grows",
        )


def _records(path: Path, label: str, split: str | None, query: Query) -> Iterator[SourceRecord | Rejected]:
    """Yield one record or rejection per key of a tar, in its order, and the rejections of unusable members.

    Args:
        path: The tar.
        label: Its name in the source.
        split: Leave out the records of other splits.
        query: The keys of the JSON that the user named.
    """
    with path.open("rb") as file:
        for item in _groups(file, label):
            record = item if isinstance(item, Rejected) else _record(item, label, path, file, query)
            if isinstance(record, Rejected) or split in (None, record.split):
                yield record


def _groups(file: BinaryIO, label: str) -> Iterator[_Group | Rejected]:
    """Yield the groups of members with one key, and the rejections of unusable members.

    Kept meanwhile are names and offsets of the members of keys that come again later. A second image of a name begins
    a new sample. The last group of a truncated or damaged archive is left out, since it may be incomplete.
    """
    later = _num_later_runs(file, label)
    held: dict[str, _Group] = {}
    broken = None
    try:
        for run in _runs(file, label):
            if isinstance(run, Rejected):
                yield run
            elif run.is_cut:
                held.pop(run.key, None)
            else:
                yield from _joined(run, label, held, later)
    except TarError as error:
        broken = Rejected(label, error.reason, f"{label}: {error.detail}")
    for group in held.values():  # of a damaged archive: what should have come later did not
        yield from _by_last_dot(group)
    if broken:
        yield broken


def _runs(file: BinaryIO, label: str) -> Iterator[_Group | Rejected]:
    """Yield groups of adjacent members with one key, and the rejections of unusable members.

    Raises:
        TarError: the archive is truncated or damaged, or data follow its end mark.
    """
    run: _Group | None = None
    broken: TarError | None = None
    try:
        for item in _keyed_members(file, label):
            if isinstance(item, Rejected):
                yield item
                continue
            key, ending, member = item
            if run is None or key != run.key:
                if run:
                    yield run
                run = _Group(key)
            if not _add(run, ending, member):
                yield _second_member(label, key, ending)
    except TarError as error:
        broken = error
    if run:
        run.is_cut = broken is not None and broken.reason != "trailing_data"
        yield run
    if broken:
        lost = f"; {shown(run.key)} is left out with it" if run and run.is_cut else ""
        raise TarError(broken.reason, broken.detail + lost)


def _num_later_runs(file: BinaryIO, label: str) -> dict[str, int]:
    """Return for keys whose members are not all adjacent how many runs of adjacent members come after the first."""
    seen: set[str] = set()
    later: dict[str, int] = {}
    last = None
    with suppress(TarError):  # the second walk says it
        for item in _keyed_members(file, label):
            if not isinstance(item, Rejected) and item[0] != last:
                last = item[0]
                if last in seen:
                    later[last] = later.get(last, 0) + 1
                seen.add(last)
    return later


def _joined(run: _Group, label: str, held: dict[str, _Group], later: dict[str, int]) -> Iterator[_Group | Rejected]:
    """Join a run of adjacent members with the earlier ones of its key; yield what is complete, and hold the rest."""
    group = held.pop(run.key, None)
    if group is None or (run.has_image and group.members.keys() & run.members.keys()):
        if group:
            yield from _by_last_dot(group)
        group = run
    else:
        for ending, member in run.members.items():
            if not _add(group, ending, member):
                yield _second_member(label, run.key, ending)
        group.others |= run.others
    if later.get(run.key, 0):
        later[run.key] -= 1
        held[run.key] = group
    else:
        yield from _by_last_dot(group)


def _second_member(label: str, key: str, ending: str) -> Rejected:
    """Return the rejection of a member whose key and ending an earlier one has."""
    return Rejected(shown(f"{label}/{key}.{ending}"), "duplicate_key", f"{label}: two members of that name")


def _by_last_dot(group: _Group) -> Iterator[_Group]:
    """Yield a group, or one for each key up to the last dot.

    Beside members of the key itself, dotted ones are samples only where both image and text are there: ``1.seg.png``
    belongs to ``1.jpg``.
    """
    parts: dict[str, _Group] = {}
    for name, member in group.dotted.items():
        middle, _, ending = name.rpartition(".")
        key = f"{group.key}.{middle}"
        _add(parts.setdefault(key, _Group(key)), ending, member)
    own = bool(group.images or group.texts) or not any(part.images or part.texts for part in parts.values())
    if own:
        yield group
    yield from (part for part in parts.values() if not own or (part.images and part.texts))


def _keyed_members(file: BinaryIO, label: str) -> Iterator[tuple[str, str, TarMember] | Rejected]:
    """Yield key, ending and position of every member that belongs to a sample, and why others must not be read."""
    for member in walk(file):
        problem = _member_problem(member)
        match = _KEY_AND_ENDING.fullmatch(clean_name(member.name) or "") if member.is_file else None
        if problem:
            yield Rejected(shown(f"{label}/{member.name}"), problem[0], f"{label}: the member {problem[1]}")
        elif match:
            yield match[1], match[2].lower(), member


def _member_problem(member: TarMember) -> tuple[str, str] | None:
    """Return the reason and the detail of why a member must not be read; None when it may be."""
    unsafe = clean_name(member.name) is None
    if unsafe and not (member.is_folder and re.fullmatch(r"(\./?)?", member.name)):  # "./" is the folder packed
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
    """Add a member to its group; return False when the group already has one with that ending."""
    if f".{ending}" in IMAGE_ENDINGS:
        members = group.images
    elif ending in _TEXTS:
        members = group.texts
    elif ending.rpartition(".")[2] in _DOTTED and "." in ending:
        members = group.dotted
    else:
        group.others.add(ending)
        return True
    return members.setdefault(ending, member) is member


def _record(group: _Group, label: str, path: Path, file: BinaryIO, query: Query) -> SourceRecord | Rejected:
    """Return the record of a group, or why it has none."""
    name = f"{label}/{group.key}"
    problem = _group_problem(group)
    if problem:
        return Rejected(name, problem[0], f"{label}: {problem[1]}")
    contents: dict[str, bytes] = {}
    for ending, member in group.texts.items():
        file.seek(member.offset)
        contents[ending] = file.read(member.size_bytes)
    try:
        captions, split, attributes = _read_texts(contents, query)
    except ValueError as error:
        return Rejected(name, "malformed_text", f"{label}: {shown(str(error))}")
    if not captions:
        others = (
            f"; it has .{', .'.join(shown(ending, 20) for ending in sorted(group.others)[:8])}" if group.others else ""
        )
        where = (
            f"no text in {', '.join(query['caption'])} of .json"
            if "caption" in query
            else "neither .txt nor a caption in .json"
        )
        return Rejected(name, "no_captions", f"{label}: {where}{others}")
    image = next(iter(group.images.values()))
    return SourceRecord(name, ImageRef(str(path), image.offset, image.size_bytes), captions, split, attributes)


def _group_problem(group: _Group) -> tuple[str, str] | None:
    """Return the reason and the detail of why a group has no record; None when its texts can be read."""
    key = shown(group.key)
    if not group.images:
        endings = [*group.texts, *group.dotted, *sorted(group.others)][:8]
        return "missing_image", f"{key} has only {', '.join(f'.{shown(ending, 20)}' for ending in endings)}"
    if len(group.images) > 1:
        return "ambiguous_image", f"{key} has .{' and .'.join(group.images)}"
    for ending, member in group.texts.items():
        if member.size_bytes > MAX_TEXT_BYTES:
            return "oversized_member", f"{key}.{ending} has {member.size_bytes:,} bytes, more than 16 MiB"
    return None


def _read_texts(contents: dict[str, bytes], query: Query) -> tuple[tuple[object, ...], str | None, dict[str, Any]]:
    """Return captions, split and attributes from the ``.txt`` and ``.json`` of a group.

    Raises:
        ValueError: one of them does not have the format of its ending.
    """
    try:
        text = decoded(contents["txt"]).rstrip("\r\n") if "txt" in contents else None
    except UnicodeDecodeError:
        raise ValueError(".txt is not UTF-8") from None
    match json_object(contents.get("json", b"{}")):
        case str(problem):
            raise ValueError(f".json is {problem}")
        case row:
            numbered = numbered_columns(row)
    split = next(iter(query.get("split", ())), SPLIT_COLUMN)
    if "caption" in query:
        columns = TableColumns("", query["caption"], split, are_named=True)
        captions, used = columns.captions_of(row)
        return captions, columns.split_of(row), columns.attributes_of(row, {*_MEASURED, *used})
    captions, used = captions_of(row, numbered=() if row.get("captions") else numbered)
    known = {"", *(caption.strip() for caption in captions if isinstance(caption, str))}
    if text is not None and (not captions or text.strip() not in known):
        captions = (text, *captions)
    nested = row.get("attributes")
    if isinstance(nested, str):  # our own shards store attributes as JSON text
        nested = json_object(nested)
    attributes = attributes_of(row, {*_MEASURED, split, *used, *numbered})
    return captions, split_of(row, split), (attributes_of(nested, ()) if isinstance(nested, dict) else {}) | attributes
