"""Folders that a command is given: whether they can be made and written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from data_manifests.errors import InputError


def check_folder(option: str, folder: Path) -> None:
    """Check that an option names a folder, or a path where one can be made; nothing is made.

    Raises:
        InputError: it is a file, lies below one, or is a link to nothing.
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if _is_there(path))
        problem = "" if there.is_dir() else "is a link to nothing" if not there.exists() else "is a file"
    except OSError as error:
        there, problem = folder, f"cannot be: {error.strerror}"
    if problem:
        what = f"{option} {folder}" if there == folder else f"{option} {folder}: {there}"
        raise InputError(f"{what} {problem}", allowed="a folder, new or existing")


def _is_there(path: Path) -> bool:
    """Return whether there is anything at a path, even a link to nothing."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def require_writable(option: str, folder: Path) -> None:
    """Make a folder if it is not there, and check that it can be written.

    Raises:
        InputError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise InputError(
            f"{option} {folder} cannot be written: {error.strerror}",
            allowed="a folder, new or existing, that can be written",
            fix=f"give another {option}",
        ) from None
