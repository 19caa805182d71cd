"""What the file-based sources share: safe names, listings, signatures, splits and the base class `FileSource`.

Names in caption tables come from strangers. Every one of them passes `image_in`, which never leads out of the
folder that the user gave.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from errno import ENOENT
from pathlib import Path
from typing import Any, ClassVar

from blake3 import blake3

from curation.sources import Rejected, SourceRecord, SourceSplit
from curation.sources.reading.query import Query, take_query, written_query
from data_manifests.errors import InputError, nearest
from data_manifests.image_decoder import IMAGE_ENDINGS
from data_manifests.sample import ImageRef

READER_VERSION = 4
"""Increased whenever a file source would yield different records for the same files; part of every signature."""

OTHER_IMAGE_ENDINGS = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jp2", ".jxl")
"""Endings of formats that are rejected by name, unless the content is a JPEG, PNG or WebP."""
_UNSUPPORTED = "supported are JPEG, PNG and WebP"
_FIRST_BYTES: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"%PDF": "PDF",
    b"<svg": "SVG",
}

_BASE64_IMAGE = re.compile(r"(data:image/[a-z+.]+;base64,)?(/9j/|iVBORw0KGgo|UklGR|R0lGOD)")
_MIN_BASE64_CHARS = 200

_PLAIN_NAME = re.compile(r"[^./\\:\0][^/\\:\0]*(?:/[^./\\:\0][^/\\:\0]*)*")
"""Most names: parts that do not begin with a dot, with single slashes between them."""

SPLITS: Mapping[str, str] = {
    "train": "train",
    "restval": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
"""Split names in published data sets -> ours. ``restval`` is Karpathy's name for the rest of COCO's validation set."""

_LINK_FIX = "if it is yours, name what it points to as well (--source KIND:FOLDER::TARGET), or copy it into the folder"
_MAX_NAMES = 8
"""Names of a folder that an error message lists."""
MAX_FILES = 1_000_000
"""Maximum number of names that one brace expression may expand to."""

FileStat = tuple[str, int, int]
"""Relative name, size in bytes, mtime in nanoseconds."""


def shown(text: str, num_chars: int = 120) -> str:
    """Return a text fit for messages and published tables: printable Unicode of at most `num_chars` characters."""
    if len(text) <= num_chars and text.isprintable():
        return text
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: num_chars + 1])
    return clean if len(clean) <= num_chars else clean[: num_chars - 3] + "..."


def check_split(split: str | None, known: Collection[str]) -> None:
    """Check the value of ``--split``.

    Raises:
        InputError: it is none of the known splits.
    """
    if split is not None and split not in known:
        fix = nearest(split, known) or "use one of these"
        raise InputError(f"--split {split!r}: unknown split", allowed=", ".join(known), fix=fix)


def has_image_ending(name: str) -> bool:
    """Return whether a name has the extension of a supported image format."""
    return name.lower().endswith(IMAGE_ENDINGS)


def clean_name(name: str) -> str | None:
    """Return a relative name with ``/`` as separator, or None when it is absolute, empty or contains ``..``."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    slashed = name.replace("\\", "/")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in name or slashed.startswith("/") or re.match("[A-Za-z]:/", slashed):
        return None
    return "/".join(parts)


def unwrapped(folder: Path, keep: Callable[[str], bool]) -> Path:
    """Return the only folder in a folder, and so on, as when an archive was unpacked into a folder of its own.

    Args:
        folder: Where to begin.
        keep: Whether a file of this name shows that a folder is the one that is meant.
    """
    while True:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]
        folders = [entry for entry in visible if entry.is_dir(follow_symlinks=False)]
        if len(folders) != 1 or any(keep(entry.name) for entry in visible if entry is not folders[0]):
            return folder
        folder = Path(folders[0].path)


def image_in(root: Path, name: str, linked: Sequence[Path] = ()) -> ImageRef | Rejected:
    """Return the location of the image `name` in a folder, or why it cannot be used.

    A name that begins with the last parts of the folder's own path (``train2017/1.jpg`` in ``coco/train2017``) is
    found as well, and so is one whose accented letters are composed in another way than the file's (NFC, NFD).

    Args:
        root: Real path of the folder.
        name: Name from a table, relative to the folder. Links are followed while they stay inside it.
        linked: Real paths of other folders that links may lead into, because the user named them.
    """
    label, clean = shown(name), clean_name(name)
    if len(name) > _MIN_BASE64_CHARS and _BASE64_IMAGE.match(name):
        return Rejected(
            shown(name, 30), "unsupported_image", "the image itself as base64 text: store its bytes, or a file's name"
        )
    if clean is None:
        return Rejected(label, "unsafe_path", "the name is absolute or climbs out of the folder")
    parts = clean.split("/")
    found = _image_at(root, parts, label, linked)
    for num_parts in range(1, len(parts)):
        if not isinstance(found, Rejected) or found.reason != "missing_image":
            break
        if tuple(parts[:num_parts]) == root.parts[-num_parts:]:
            below = _image_at(root, parts[num_parts:], label, linked)
            found = found if isinstance(below, Rejected) and below.reason == "missing_image" else below
    return found


def _image_at(root: Path, parts: Sequence[str], label: str, linked: Sequence[Path]) -> ImageRef | Rejected:
    """Return the location of the image that lies at these parts of a path below a folder, or why it cannot be used."""
    path = str(root).rstrip("/")
    try:
        for part in parts:
            path, found = _stat_part(path, part)
            if stat.S_ISLNK(found.st_mode):
                real = Path(path).resolve()
                if not real.exists():
                    raise FileNotFoundError(ENOENT, f"{shown(part, 60)} is a link to something that is not there")
                if not any(real.is_relative_to(folder) for folder in (root, *linked)):
                    return Rejected(label, "unsafe_path", f"{shown(part, 60)} is a link out of the folder; {_LINK_FIX}")
                path, found = str(real), real.stat()
        if not stat.S_ISREG(found.st_mode):
            return Rejected(label, "missing_image", "there is something of that name, but it is not a file")
        content = None if has_image_ending(parts[-1]) else format_of(Path(path))
    except (OSError, RuntimeError, UnicodeEncodeError) as error:  # a loop of links is a RuntimeError
        if isinstance(error, FileNotFoundError) and not has_image_ending(parts[-1]):
            return Rejected(label, "unsupported_image", f"no such file, and {_UNSUPPORTED}")
        return Rejected(label, "missing_image", getattr(error, "strerror", "") or type(error).__name__)
    if content not in (None, "JPEG", "PNG", "WebP"):
        return Rejected(label, "unsupported_image", f"its content is {content}; {_UNSUPPORTED}")
    return ImageRef(path, 0, found.st_size)


def _stat_part(folder: str, part: str) -> tuple[str, os.stat_result]:
    """Return path and status of a name in a folder, whichever way its accented letters are composed."""
    try:
        return f"{folder}/{part}", os.lstat(f"{folder}/{part}")
    except FileNotFoundError:
        for form in ("NFC", "NFD") if not part.isascii() else ():
            path = f"{folder}/{unicodedata.normalize(form, part)}"
            if os.path.lexists(path):
                return path, os.lstat(path)
        raise


def format_of(path: Path) -> str:
    """Return the image format that a file's first bytes show: ``JPEG``, ``PNG``, ``WebP``, ``GIF`` ... or ``unknown``.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(16)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[4:8] == b"ftyp":
        return "AVIF or HEIC"
    return next((name for magic, name in _FIRST_BYTES.items() if start.startswith(magic)), "unknown")


def record_in(
    root: Path,
    name: str,
    captions: Sequence[object] | None,
    table: str,
    split: str | None,
    attributes: Mapping[str, Any],
    linked: Sequence[Path],
) -> SourceRecord | Rejected:
    """Return the record of an image that the table `table` names, or its rejection when captions or file are missing."""
    if captions is None:
        return Rejected(shown(name), "no_captions", f"{table} has none for it")
    image = image_in(root, name, linked)
    return image if isinstance(image, Rejected) else SourceRecord(name, image, tuple(captions), split, attributes)


def scan(root: Path, linked: Sequence[Path] = ()) -> Iterator[FileStat]:
    """Yield every file below a folder, in no fixed order, without hidden names and linked folders.

    A linked folder is either inside the root, where it is scanned under its own name, or must not be read, except once
    where it leads into one of the folders `linked`.

    Raises:
        InputError: there is no permission to list a folder.
    """
    todo, followed = [("", str(root))], set()
    while todo:
        prefix, folder = todo.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    real = Path(entry.path).resolve() if linked and entry.is_symlink() and entry.is_dir() else None
                    enters = real is not None and real not in followed and any(map(real.is_relative_to, linked))
                    if enters or entry.is_dir(follow_symlinks=False):
                        followed.add(real)
                        todo.append((f"{prefix}{entry.name}/", entry.path))
                    elif entry.is_file():
                        found = entry.stat()
                        yield prefix + entry.name, found.st_size, found.st_mtime_ns
        except PermissionError:
            raise InputError(
                f"{folder}: no permission to list this folder",
                fix="change its permissions, or move it out of the source",
            ) from None


def stat_of(path: Path, name: str) -> FileStat:
    """Return one file as `scan` yields it, under the given name."""
    found = path.stat()
    return name, found.st_size, found.st_mtime_ns


def signature_of(kind: str, split: str | None, files: Iterable[FileStat], options: str = "") -> str:
    """Return BLAKE3-128 (hex) of the names, sizes and modification times of the files that a source reads.

    Args:
        kind: The source's kind.
        split: The split that is read, or None for all.
        files: The files.
        options: What else decides what is read, such as the names of columns.
    """
    entries = (f"{name}\0{size}\0{mtime}" for name, size, mtime in sorted(files))
    lines = [f"{READER_VERSION}\0{kind}\0{split or ''}" + (f"\0{options}" if options else ""), *entries]
    return blake3("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest(length=16)


def base_name(path: str | Path) -> str:
    """Return the last part of a path, fit to be published."""
    return shown(Path(os.path.normpath(Path(path).absolute())).name)


def contents_of(folder: str | Path) -> str:
    """Return a sentence with the first names in a folder, for an error message."""
    names = sorted(
        shown(item.name, 60) + ("" if item.exists() else " (a link to something that is not there)")
        for item in Path(folder).iterdir()
    )
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"the folder contains: {', '.join(names[:_MAX_NAMES]) or 'nothing'}{more}"


def expand_braces(pattern: str) -> list[str]:
    """Return the names that ``p/{00000..00003}.tar`` or ``p/{a,b}.tar`` expands to, in written order.

    Raises:
        InputError: there are more than a million.
    """
    found = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    rests = expand_braces(pattern[found.end() :])
    first, last, words = found.groups()
    middles: Sequence[str] | range
    if words is not None:
        middles, width = words.split(","), 0
        num_middles = len(middles)
    else:
        low, high = int(first), int(last)
        middles = range(low, high + 1) if low <= high else range(low, high - 1, -1)
        num_middles = abs(high - low) + 1  # len() of a range beyond 2^63 overflows
        width = max(len(first), len(last)) if re.match("0.", first) or re.match("0.", last) else 0
    if num_middles * len(rests) > MAX_FILES:
        raise InputError(
            f"{pattern!r}: the braces expand to {num_middles * len(rests):,} files",
            allowed=f"at most {MAX_FILES:,}",
            fix="correct the range, or give the folder or a glob instead",
        )
    head = pattern[: found.start()]
    return [f"{head}{str(middle).zfill(width)}{rest}" for rest in rests for middle in middles]


class FileSource(ABC):
    """A source that reads files: what all of them do with ``PATH`` and ``--split``.

    Args:
        path: The text after ``KIND:``.
        split: The value of ``--split``, or None for all samples.

    Raises:
        InputError: `split` is not the name of a split.
    """

    kind: ClassVar[str]
    OPTIONS: ClassVar[tuple[str, ...]] = ()
    """What may stand after ``?`` in the path."""
    _root: Path
    """Real path of the folder that names are relative to, for sources that are a folder."""

    def __init__(self, path: str, split: str | None) -> None:
        self._query: Query
        self._path, self._query = take_query(self.kind, path, self.OPTIONS) if self.OPTIONS else (path, {})
        self._name = base_name(self._path)
        self._linked: tuple[Path, ...] = ()
        self._targets: tuple[Path, ...] = ()
        check_split(split, SPLITS)
        self._split = None if split is None else SPLITS[split]

    @abstractmethod
    def splits(self) -> Sequence[SourceSplit]:
        """Return the parts of the source in a fixed order; together they have every entry once."""

    def describe(self) -> dict[str, Any]:
        """Return kind, name, licence and split."""
        return {"kind": self.kind, "name": self._name, "licence": self._licence(), "split": self._split}

    def _licence(self) -> str | None:
        """Return the licence of all images; None when it is unknown or an attribute of each image."""
        return None

    def _signature(self, files: Iterable[FileStat]) -> str:
        """Return the signature of a source that reads these files."""
        return signature_of(self.kind, self._split, files, written_query(self._query))

    def _error(self, problem: str, *, allowed: str, fix: str) -> InputError:
        """Return the error that the path cannot be used as a source of this kind."""
        return InputError(f"--source {self.kind}:{self._path}: {problem}", allowed=allowed, fix=fix)

    def _no_split(self, problem: str, *, allowed: str, fix: str) -> InputError:
        """Return the error that the samples of the split cannot be selected."""
        return InputError(f"--split {self._split}: {problem}", allowed=allowed, fix=f"{fix}, or omit --split")

    def _take_linked(self) -> None:
        """Take ``::TARGET`` off the path: folders that links of the source may lead into, because the user names them.

        Raises:
            InputError: there is no such folder.
        """
        if Path(self._path).exists():
            return
        self._path, *targets = self._path.split("::")
        self._name = base_name(self._path)
        for target in targets:
            if not Path(target).is_dir():
                raise self._error(
                    f"{target!r} is not a folder",
                    allowed=f"{self.kind}:FOLDER::TARGET, TARGET a folder that links in FOLDER point to",
                    fix="check the path after ::",
                )
        self._targets = tuple(Path(os.path.normpath(Path(target).absolute())) for target in targets)
        self._linked = tuple(Path(target).resolve() for target in targets)

    def _deeper(self, is_table: Callable[[str], bool]) -> str | None:
        """Return what to do when the data set is in a folder of the given folder: how to give that one."""
        names = (Path(name) for name, _, _ in scan(self._root))
        tables = (name for name in names if is_table(name.name) and len(name.parts) > 1)
        found = sorted(tables, key=lambda name: ("train" not in str(name), name))
        if not found:
            return None
        more = f" (one of {len(found)}; each is a source of its own)" if len(found) > 1 else ""
        return f"{shown(str(found[0]))} is deeper{more}: --source {self.kind}:{Path(self._path) / found[0].parent}"

    def _folder(self, allowed: str = "FOLDER") -> Path:
        """Return the real path of the folder that the user gave, or of the only folder in it.

        Args:
            allowed: What the path may be, for the error message.

        Raises:
            InputError: there is no such folder.
        """
        if not Path(self._path).is_dir():
            problem = "this is a file, not a folder" if Path(self._path).exists() else "this path does not exist"
            raise self._error(problem, allowed=f"{self.kind}:{allowed}", fix="check the path")
        return self._as_text(unwrapped(Path(self._path).resolve(), lambda _: True))

    def _as_text(self, path: Path) -> Path:
        """Return a path, which will be stored as text.

        Raises:
            InputError: it is not in UTF-8.
        """
        try:
            str(path).encode()
        except UnicodeEncodeError:
            name = os.fsencode(path).decode("utf-8", "backslashreplace")
            raise InputError(
                f"--source {self.kind}: the path {name} is not in UTF-8",
                allowed="a path in UTF-8",
                fix="rename the folder or the file, for example with convmv, or copy it to another place",
            ) from None
        return path

    def _inside(self, root: Path, name: str) -> Path:
        """Return the real path of a file or folder that the layout has in `root`.

        Raises:
            InputError: it is a link to somewhere outside `root`.
        """
        real = (root / name).resolve()
        if not any(real.is_relative_to(folder) for folder in (root, *self._linked)):
            raise self._error(
                f"{name!r} is a link to a place outside {root}",
                allowed="links that stay in the source's folder, or lead into a folder that you name as well",
                fix=f"if the target is yours: --source {self.kind}:{self._path}::{real if real.is_dir() else real.parent}",
            )
        return real

    def _list_files(self, ending: str) -> dict[str, Path]:
        """Return the files that the path stands for: a file, a folder, a glob, braces, or several joined by ``::``.

        Returns:
            Label (relative to the files' common folder) -> absolute path; files of a folder or glob sorted by name.

        Raises:
            InputError: there is no such file, or one is given twice.
        """
        paths: list[Path] = []
        for part in self._path.split("::"):
            for name in [part] if Path(part).exists() else expand_braces(part):
                paths += self._files_at(name, ending)
        if len(set(paths)) != len(paths):
            twice = next(path for index, path in enumerate(paths) if path in paths[:index])
            raise self._error(f"{twice} is given twice", allowed="every file once", fix="remove one of the two")
        common = os.path.commonpath([path.parent for path in paths])
        labels = [os.fsencode(os.path.relpath(path, common)).decode("utf-8", "backslashreplace") for path in paths]
        return dict(zip(labels, paths, strict=True))

    def _files_at(self, path: str, ending: str) -> list[Path]:
        """Return the absolute paths of the files that one path, folder or glob stands for."""
        absolute = Path(os.path.normpath(Path(path).absolute()))
        if absolute.is_dir():
            names = sorted(name for name, _, _ in scan(absolute) if name.endswith(ending))
            if not names:
                raise self._error(
                    f"no *{ending} file in this folder",
                    allowed=f"a folder with *{ending} files; {contents_of(absolute)}",
                    fix="check the path, or use the source kind that reads these files",
                )
            return [self._as_text(absolute / name) for name in names]
        if absolute.is_file():
            return [self._as_text(absolute)]
        matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []  # noqa: PTH207 - may be absolute
        found = [Path(os.path.normpath(Path(name).absolute())) for name in matches]
        found = [match for match in found if match.is_file()]
        if not found:
            raise self._error(
                f"no such file or folder{'' if path == self._path else f': {path}'}",
                allowed=f"a *{ending} file, a folder of them, a glob, {{00000..00003}}, or several joined by ::",
                fix="check the path, and quote a pattern so that the shell does not expand it",
            )
        return [self._as_text(match) for match in found]
