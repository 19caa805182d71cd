"""Atomic writes: a file or folder appears whole under its name or not at all, also after a kill or a power cut.

Everything is written as a draft on the same disk, flushed, and then renamed. A failure (such as a full disk) removes the
draft and leaves what was there before; a kill leaves at most a hidden draft (``.tmp-*``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Buffer

DRAFT_PREFIX = ".tmp-"
"""How the names of drafts begin that a killed process may leave behind."""


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a draft for writing; it takes the name `path` (mode 0644) when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=DRAFT_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(draft, 0o644)
        publish_file(Path(draft), path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: Buffer) -> None:
    """Write a file of these bytes."""
    with open_atomically(path) as file:
        file.write(data)


def write_table_atomically(path: Path, table: pa.Table, **options: Any) -> None:
    """Write a parquet file, compressed with zstd; equal tables give equal bytes.

    Args:
        path: The file.
        table: What is written.
        options: More settings of `pyarrow.parquet.write_table`.
    """
    import pyarrow.parquet as pq

    with open_atomically(path) as file:
        pq.write_table(table, file, compression="zstd", **options)


def link_file(source: Path, path: Path) -> None:
    """Give a finished file that never changes a second name; where the file system has no hard links, copy it."""
    try:
        path.hardlink_to(source)
    except OSError:
        with source.open("rb") as data, open_atomically(path) as file:
            shutil.copyfileobj(data, file)


def publish_file(draft: Path, path: Path) -> None:
    """Flush a finished file to disk and rename it to `path`, replacing an older one."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(draft, path)
    sync_folder(path.parent)


@contextmanager
def draft_folder(parent: Path, name: str | None = None) -> Iterator[Path]:
    """Make an empty folder to fill and then give to `publish_folder`; when the block ends, what is left of it is removed.

    Args:
        parent: Where it is made.
        name: A fixed name, for callers that hold a lock: what a killed run left there is removed first.
            Without one the name is unique.
    """
    parent.mkdir(parents=True, exist_ok=True)
    if name is None:
        draft = Path(tempfile.mkdtemp(prefix=DRAFT_PREFIX, dir=parent))
    else:
        draft = parent / name
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def publish_folder(draft: Path, path: Path) -> None:
    """Rename a finished folder to `path`, which is not there or empty; its files must have been flushed."""
    sync_folder(draft)
    draft.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
