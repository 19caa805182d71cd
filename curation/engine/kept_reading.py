"""What is kept of reading a source, so that a run that was killed goes on where it was.

The folder in which a snapshot is made has a name of what is read. The process that holds its lock adds to what another left
there; a second run at the same time makes a folder of its own. A part of the source counts as read when its note is written,
which is after its rows and images have reached the disk.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from data_manifests.atomic_files import DRAFT_PREFIX, draft_folder, write_atomically

ROWS = "rows"
"""Folder of the records' rows while a snapshot is being made."""


@contextmanager
def kept_folder(root: Path, place: str, content: str) -> Iterator[Path]:
    """Make a folder for a snapshot, or take the one that a killed run left; what is left of it at the end is removed.

    It stays where the block ends with an error after a part was read, too.

    Args:
        root: Where it is made.
        place: Hash of where the source is; what was left of other content of the same place is removed.
        content: Hash of what is read.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"{DRAFT_PREFIX}{place}-{content}"
    lock = _lock(folder)
    if lock < 0:
        with draft_folder(root) as draft:
            (draft / ROWS).mkdir()
            yield draft
        return
    try:
        _remove_stale(root, place, folder)
        (folder / ROWS).mkdir(exist_ok=True)
        for path in folder.iterdir():  # of a run that was killed when all was read
            if path.is_file() and path.suffix != ".pack":
                path.unlink()
        try:
            yield folder
        except BaseException:
            if not any(folder.glob(f"{ROWS}/*.json")):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        if _is_open_as(folder, lock):  # not given to its place, where another run has put the same
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _lock(folder: Path) -> int:
    """Return an open and locked descriptor of a folder, which is made if need be; -1 if another run has it."""
    folder.mkdir(exist_ok=True)
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_free = _is_open_as(folder, descriptor)
    except BlockingIOError:
        is_free = False
    if is_free:
        return descriptor
    os.close(descriptor)
    return -1


def _is_open_as(folder: Path, descriptor: int) -> bool:
    """Return whether a path still leads to the folder that is open."""
    try:
        return folder.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _remove_stale(root: Path, place: str, folder: Path) -> None:
    """Remove what was left of other content of the same place, unless a run is reading it."""
    for other in root.glob(f"{DRAFT_PREFIX}{place}-*"):
        if other != folder and (lock := _lock(other)) >= 0:
            shutil.rmtree(other, ignore_errors=True)
            os.close(lock)


def note_part(draft: Path, number: int, about: dict[str, Any], files: Sequence[Path]) -> None:
    """Note that a part of the source was read, once its files are on the disk.

    Args:
        draft: The folder.
        number: The part.
        about: JSON values that `noted_part` returns.
        files: Its files, within the folder.
    """
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sizes = {str(path.relative_to(draft)): path.stat().st_size for path in files}
    write_atomically(_note(draft, number), orjson.dumps({"about": about, "sizes": sizes}))


def noted_part(draft: Path, number: int) -> dict[str, Any] | None:
    """Return what was noted of a part; None if it is to be read, or a file of it is not what it was."""
    try:
        found = orjson.loads(_note(draft, number).read_bytes())
        if all((draft / name).stat().st_size == size for name, size in found["sizes"].items()):
            about: dict[str, Any] = found["about"]
            return about
    except FileNotFoundError:
        return None
    return None


def _note(draft: Path, number: int) -> Path:
    return draft / ROWS / f"{number:06d}.json"
