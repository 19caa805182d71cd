"""What the file-based sources share: safe names, listings, signatures and splits.

Names in caption tables come from strangers, so every one of them passes `image_in`, which never leads
out of the folder that the user gave.
"""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from blake3 import blake3

from curation.sources import Rejected
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef

READER_VERSION = 1
"""Raised whenever a file source would yield other records for the same files; part of every signature."""

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
SPLITS: Mapping[str, str] = {
    "train": "train",
    "restval": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
"""Names of splits in the wild -> ours. ``restval`` is Karpathy's name for the rest of COCO's validation set."""

File = tuple[str, int, int]
"""Relative name, size in bytes, mtime in nanoseconds."""


def shown(text: str, num_chars: int = 120) -> str:
    """Return text that can be published: valid Unicode, printable, not endless."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: num_chars + 1])
    return clean if len(clean) <= num_chars else clean[: num_chars - 3] + "..."


def has_image_ending(name: str) -> bool:
    """Tell whether a name ends like an image that can be read."""
    return name.lower().endswith(IMAGE_ENDINGS)


def clean_name(name: str) -> str | None:
    """Return a relative name with ``/`` between its parts, or None when it is absolute, empty or climbs with ``..``."""
    slashed = name.replace("\\", "/")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\0" in name or slashed.startswith("/") or re.match("[A-Za-z]:/", slashed):
        return None
    return "/".join(parts)


def image_in(root: Path, name: str) -> ImageRef | Rejected:
    """Return where the image `name` of a folder lies, or why there is none to be used.

    Args:
        root: Real path of the folder.
        name: Name from a table, relative to it. Links are followed as long as they stay inside.
    """
    label, clean = shown(name), clean_name(name)
    if clean is None:
        return Rejected(label, "unsafe_path", "the name is absolute or climbs out of the folder")
    if not has_image_ending(clean):
        return Rejected(label, "unsupported_image", "the ending is none of jpg, jpeg, png, webp")
    path = str(root).rstrip("/")
    try:
        for part in clean.split("/"):
            path = f"{path}/{part}"
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                real = Path(path).resolve()
                if not real.is_relative_to(root):
                    return Rejected(label, "unsafe_path", "a link leads out of the folder")
                path, found = str(real), real.stat()
    except (OSError, RuntimeError, UnicodeEncodeError) as error:  # a loop of links is a RuntimeError
        return Rejected(label, "missing_image", getattr(error, "strerror", "") or type(error).__name__)
    if not stat.S_ISREG(found.st_mode):
        return Rejected(label, "missing_image", "there is something of that name, but it is not a file")
    return ImageRef(path, 0, found.st_size)


def scan(root: Path) -> Iterator[File]:
    """Yield every file below a folder, in no fixed order; hidden names and linked folders are left out.

    A linked folder is either inside the root, and then scanned under its own name, or may not be used.

    Raises:
        InputError: a folder may not be listed.
    """
    todo = [("", str(root))]
    while todo:
        prefix, folder = todo.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        todo.append((f"{prefix}{entry.name}/", entry.path))
                    elif entry.is_file():
                        found = entry.stat()
                        yield prefix + entry.name, found.st_size, found.st_mtime_ns
        except PermissionError:
            raise InputError(f"{folder}: may not be listed", fix="change its permissions, or move it away") from None


def file_entry(path: Path, name: str) -> File:
    """Return one file the way `scan` does."""
    found = path.stat()
    return name, found.st_size, found.st_mtime_ns


def signature_of(kind: str, split: str | None, files: Iterable[File]) -> str:
    """Return BLAKE3 (128 bits, hex) of what a source reads: names, sizes and times of change."""
    entries = (f"{name}\0{size}\0{mtime}" for name, size, mtime in sorted(files))
    lines = [f"{READER_VERSION}\0{kind}\0{split or ''}", *entries]
    return blake3("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest(length=16)


def base_name(path: str | Path) -> str:
    """Return the last part of a path as it may be published."""
    return shown(Path(os.path.normpath(Path(path).absolute())).name)


def found_in(folder: str | Path, num_names: int = 8) -> str:
    """Return the first names in a folder, for an error message."""
    names = sorted(shown(item.name, 60) for item in Path(folder).iterdir())
    more = f" and {len(names) - num_names} more" if len(names) > num_names else ""
    return (", ".join(names[:num_names]) + more) or "nothing"


def open_folder(kind: str, path: str) -> Path:
    """Return the real path of a folder.

    Raises:
        InputError: there is no such folder.
    """
    if not Path(path).is_dir():
        what = "is a file, not a folder" if Path(path).exists() else "does not exist"
        raise InputError(f"--source {kind}:{path}: {what}", allowed=f"{kind}:FOLDER", fix="check the path")
    return Path(path).resolve()


def inside(kind: str, root: Path, name: str) -> Path:
    """Return the real path of a file or folder that a layout has in `root`.

    Raises:
        InputError: it is a link that leads out of `root`.
    """
    real = (root / name).resolve()
    if not real.is_relative_to(root):
        raise InputError(
            f"--source {kind}:{root}: {name!r} is a link that leads out of this folder",
            allowed="files and folders inside the folder that was given",
            fix="put the files there, or give the folder in which all of them really lie",
        )
    return real


def our_split(kind: str, split: str | None) -> str | None:
    """Return what ``--split`` means in our words.

    Raises:
        InputError: it is no name of a split.
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"--split {split!r} for a {kind} source", allowed=", ".join(SPLITS), fix="use one of these")
    return None if split is None else SPLITS[split]


MAX_FILES = 1_000_000
"""Most names that one brace expansion may stand for."""


def expand_braces(pattern: str) -> list[str]:
    """Return the names that ``p/{00000..00003}.tar`` or ``p/{a,b}.tar`` stands for, in written order.

    Raises:
        InputError: there are more than a million.
    """
    found = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    first, last, words = found.groups()
    if words is not None:
        middles = words.split(",")
    else:
        low, high = int(first), int(last)
        step = 1 if low <= high else -1
        if abs(high - low) >= MAX_FILES:
            raise InputError(f"{pattern!r}: stands for {abs(high - low) + 1:,} files", allowed=f"at most {MAX_FILES:,}")
        padded = (len(first) > 1 and first[0] == "0") or (len(last) > 1 and last[0] == "0")
        width = max(len(first), len(last)) if padded else 0
        middles = [str(number).zfill(width) for number in range(low, high + step, step)]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    rests = expand_braces(tail)
    if len(middles) * len(rests) > MAX_FILES:
        raise InputError(
            f"{pattern!r}: stands for {len(middles) * len(rests):,} files", allowed=f"at most {MAX_FILES:,}"
        )
    return [head + middle + rest for rest in rests for middle in middles]


def list_files(kind: str, path: str, ending: str) -> dict[str, Path]:
    """Return the files that a source's path stands for: a file, a folder, a glob, braces, or several joined by ``::``.

    Returns:
        Label (relative to the folder that they share) -> absolute path; a folder's or glob's files sorted by name.

    Raises:
        InputError: there is no such file, or one is named twice.
    """
    paths: list[Path] = []
    for part in path.split("::"):
        for name in [part] if Path(part).exists() else expand_braces(part):
            paths += _files_at(kind, name, ending)
    if len(set(paths)) != len(paths):
        twice = next(name for place, name in enumerate(paths) if name in paths[:place])
        raise InputError(f"--source {kind}:{path}: {twice} is named twice", fix="name each file once")
    shared = os.path.commonpath([name.parent for name in paths])
    labels = [os.fsencode(os.path.relpath(name, shared)).decode("utf-8", "backslashreplace") for name in paths]
    return dict(zip(labels, paths, strict=True))


def _files_at(kind: str, path: str, ending: str) -> list[Path]:
    """Return the absolute paths of the files that one path, folder or glob stands for."""
    place = Path(os.path.normpath(Path(path).absolute()))
    if place.is_dir():
        names = sorted(name for name, _, _ in scan(place) if name.endswith(ending))
        if not names:
            raise InputError(
                f"--source {kind}:{path}: no *{ending} in this folder",
                allowed=f"a folder with *{ending}; here are: {found_in(place)}",
                fix="check the path",
            )
        return [place / name for name in names]
    if place.is_file():
        return [place]
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []  # noqa: PTH207 - may be absolute
    found = [Path(os.path.normpath(Path(name).absolute())) for name in matches]
    found = [match for match in found if match.is_file()]
    if not found:
        raise InputError(
            f"--source {kind}:{path}: no such file or folder",
            allowed=f"a *{ending} file, a folder of them, a glob, {{00000..00003}}, or several joined by ::",
            fix="check the path; quote it, so that the shell does not expand it",
        )
    return found
