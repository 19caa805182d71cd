"""Free space of the disk where a folder lies."""

from __future__ import annotations

import shutil
from pathlib import Path

from data_manifests.errors import InputError


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk where a folder lies, or will lie."""
    return shutil.disk_usage(next(path for path in (folder, *folder.resolve().parents) if path.exists())).free


def require_free_space(folder: Path, needed_bytes: int) -> None:
    """Check that a folder's disk has room for what will certainly be written.

    Raises:
        InputError: it has not.
    """
    if (free := free_bytes(folder)) < needed_bytes:
        raise InputError(
            f"{folder}: {free / 2**20:.0f} MiB free, about {needed_bytes / 2**20:.0f} MiB needed",
            fix="free space, or give another --workspace",
        )
