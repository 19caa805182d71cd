"""A strict walk over the headers of a tar file: it reads no data, and reports what it cannot use.

The standard library's `tarfile` stops silently at a damaged header and keeps every member in memory; both are wrong
for untrusted archives with millions of members. Plain members, usually all of them, are found hundreds at a time by
`PlainTarReader`; from the first special member on, headers are parsed one by one.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from data_manifests.tar_index import PlainTarReader

BLOCK_BYTES = 512
MAX_HEADER_BYTES = 1 << 20
"""Maximum size of an extended header (a long name); real ones are below 1 kB."""

_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_PAX_RECORD = re.compile(rb"([0-9]{1,7}) ([^=\n]+)=")


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member: its name as written, offset and size of its data, and its tar type (``b"0"`` file, ``b"2"`` link ...)."""

    name: str
    offset: int
    size_bytes: int
    type: bytes

    @property
    def is_file(self) -> bool:
        """Whether it is an ordinary file."""
        return self.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.type == tarfile.DIRTYPE


class TarError(Exception):
    """The rest of the archive cannot be read.

    Args:
        reason: ``truncated_archive``, ``corrupt_archive`` or ``trailing_data`` (after all members were read).
        detail: What was found, and at which byte.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


def walk(file: BinaryIO) -> Iterator[TarMember]:
    """Yield the members in order, including a last one whose data are cut off by the end of the file.

    Raises:
        TarError: the archive is truncated or damaged, or data follow its end mark.
    """
    plain = PlainTarReader(file.fileno())
    for part in plain:
        for name, offset, size in zip(part.names, part.offsets.tolist(), part.sizes.tolist(), strict=True):
            yield TarMember(name, offset, size, tarfile.REGTYPE)
    yield from walk_from(file, plain.position)


def walk_from(file: BinaryIO, at: int) -> Iterator[TarMember]:
    """Yield the members from a given header on, parsing each header.

    Args:
        file: The archive.
        at: Byte offset of the header, or of the end mark.

    Raises:
        TarError: as in `walk`.
    """
    size_bytes = os.fstat(file.fileno()).st_size
    extended: dict[str, str] = {}
    while True:
        file.seek(at)
        block = file.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            raise TarError("truncated_archive", f"no end mark; the file ends at byte {size_bytes:,}")
        if not block.strip(b"\0"):
            _check_end(file, at)
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.HeaderError:
            raise TarError("corrupt_archive", f"no tar header at byte {at:,}") from None
        data = at + BLOCK_BYTES
        size = _data_bytes(info, extended, at)
        end = data + -(-size // BLOCK_BYTES) * BLOCK_BYTES
        if info.type not in _EXTENSIONS:
            kind = tarfile.GNUTYPE_SPARSE if "sparse" in extended else info.type
            yield TarMember(extended.get("path", info.name), data, size, kind)
            extended = {}
        if data + size > size_bytes:
            raise TarError("truncated_archive", f"the file ends at byte {size_bytes:,}, inside a member from {at:,}")
        if info.type in _EXTENSIONS:
            extended |= _extension(file, info.type, size, at)
        at = end


_EXTENSIONS = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE, _LONG_NAME, _LONG_LINK)


def _extension(file: BinaryIO, kind: bytes, size: int, at: int) -> dict[str, str]:
    """Return the fields that an extended header sets for the next member: ``path``, ``size``, ``sparse``."""
    if size > MAX_HEADER_BYTES:
        raise TarError("corrupt_archive", f"an extended header of {size:,} bytes at byte {at:,}")
    data = file.read(size)
    if kind == _LONG_LINK:
        return {}
    if kind == _LONG_NAME:
        return {"path": data.partition(b"\0")[0].decode("utf-8", "replace")}
    found: dict[str, str] = {}
    start = 0
    while start < len(data):
        match = _PAX_RECORD.match(data, start)
        end = start + int(match[1]) if match else 0
        if match is None or end <= match.end() or end > len(data) or data[end - 1 : end] != b"\n":
            raise TarError("corrupt_archive", f"a damaged PAX header at byte {at:,}")
        key = match[2].decode("utf-8", "replace")
        key = "sparse" if key.startswith("GNU.sparse.") else key
        if key in ("path", "size", "sparse"):
            found[key] = data[match.end() : end - 1].decode("utf-8", "replace")
        start = end
    if kind != tarfile.XGLTYPE:
        return found
    if found:
        raise TarError("corrupt_archive", f"one name or size for all members, at byte {at:,}")
    return {}


def _data_bytes(info: tarfile.TarInfo, extended: dict[str, str], at: int) -> int:
    """Return the number of data bytes that follow a header."""
    size = info.size
    if info.type not in _EXTENSIONS:
        if info.type in tarfile.SUPPORTED_TYPES and not info.isreg():
            return 0  # links, folders and devices have no data, whatever their size says
        if "size" in extended:
            size = int(extended["size"]) if re.fullmatch("[0-9]{1,19}", extended["size"]) else -1
    if size < 0:
        raise TarError("corrupt_archive", f"a damaged size at byte {at:,}")
    return size


def _check_end(file: BinaryIO, at: int) -> None:
    """Raise an error unless only padding follows the end mark."""
    where = at + BLOCK_BYTES
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            raise TarError("trailing_data", f"more data behind the end mark at byte {where:,}: a second archive?")
        where += len(chunk)
