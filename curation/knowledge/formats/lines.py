"""Lines of a text file, plain or gzip, at bounded memory whatever the file holds."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from curation.knowledge.formats.rows import PROGRESS_EVERY, BuildProgress, EdgeRow, Keep, MalformedError, ReadCounts
from data_manifests.errors import InputError

MAX_LINE_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"


def read_lines(path: Path) -> Iterator[bytes | None]:
    """Yield a file's lines without their ends; None for one longer than `MAX_LINE_BYTES`.

    A long line is skipped chunk by chunk, so that a small gzip file that unpacks to one endless line costs time but no
    memory.

    Raises:
        InputError: a gzip file that is damaged or cut short.
    """
    with path.open("rb") as plain:
        packed = plain.read(2) == _GZIP
        plain.seek(0)
        # The cast is for the type checker: a GzipFile reads as a binary file does.
        file = cast("BinaryIO", gzip.GzipFile(fileobj=plain)) if packed else plain
        try:
            yield from _split(file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(
                f"{path}: damaged or cut-short gzip file ({error})", fix="fetch the file again; nothing was written"
            ) from error


def read_rows(
    path: Path,
    keep: Keep,
    tally: ReadCounts,
    progress: BuildProgress,
    read: Callable[[int, bytes | None], EdgeRow | None],
) -> Iterator[EdgeRow]:
    """Yield the kept edges of a file with one edge per line, and count the others.

    Args:
        path: The file.
        keep: Which edges are wanted.
        tally: Counts lines, edges and what was passed over.
        progress: Called with the step and its count.
        read: Returns the edge of (line number, line); None for a line without one or counted already.

    Raises:
        InputError: a gzip file that is damaged or cut short.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if number % PROGRESS_EVERY == 0:
            progress(f"reading {tally.name}", number)
        tally.num_read = number
        try:
            row = read(number, line)
        except MalformedError as error:
            tally.malformed(number, str(error))
            continue
        if row is None:
            continue
        if keep.wants(row[1], row[3]):
            tally.num_kept += 1
            yield row
        else:
            tally.skipped(row[1])


def _split(file: BinaryIO) -> Iterator[bytes | None]:
    rest, too_long = b"", False
    while chunk := file.read(_CHUNK_BYTES):
        first, *others = chunk.split(b"\n")
        if not others:
            rest, too_long = (
                (b"", True) if too_long or len(rest) + len(first) > MAX_LINE_BYTES else (rest + first, False)
            )
            continue
        whole = rest + first
        yield None if too_long or len(whole) > MAX_LINE_BYTES else whole
        rest, too_long = others.pop(), False
        yield from others
    if rest or too_long:
        yield None if too_long else rest
