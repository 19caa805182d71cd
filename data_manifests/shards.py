"""Shards: plain USTAR files, written with equal bytes every time and read by byte range.

Tar libraries write times and owners into headers, so equal data would give unequal files; and training reads single
members with `pread` instead of walking over all of them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from data_manifests.errors import InputError

BLOCK_BYTES = 512
KEYS_PER_SHARD = 10_000
"""img2dataset's keys have four digits for the position within a shard."""

_END = bytes(2 * BLOCK_BYTES)
_ZERO = b"0000000\0"
_OWNER = b"0000644\0" + _ZERO + _ZERO
_MTIME = b"00000000000\0"
_TAIL = b"\0 0" + bytes(100) + b"ustar\x0000" + bytes(64) + _ZERO + _ZERO + bytes(167)
"""What a header has before the size, between size and checksum, and after the checksum's six digits."""
_SAME_SUM = sum(_OWNER) + sum(_MTIME) + sum(_TAIL[2:]) + 8 * 0x20
"""What a checksum has from the bytes that are the same in every header; its own field counts as spaces."""
_WRITE_BYTES = 2**20


class ShardMember(NamedTuple):
    """One file inside a tar: its name and byte range."""

    name: str
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written: name within its folder, size and SHA-256."""

    name: str
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, str | int]:
        """Return the manifest's record of this file."""
        return {"name": self.name, "bytes": self.size_bytes, "sha256": self.sha256}


def shard_name(number: int) -> str:
    """Return img2dataset's name of a shard: five digits."""
    return f"{number:05d}.tar"


def sample_key(shard: int, position: int) -> str:
    """Return img2dataset's key: five digits of shard, four of position."""
    return f"{shard:05d}{position:04d}"


def tar_header(name: str, size_bytes: int) -> bytes:
    """Return a USTAR header with owner, group and time zero.

    Raises:
        ValueError: the name is too long or not ASCII, or the size does not fit 11 octal digits.
    """
    raw = name.encode("ascii")
    if len(raw) > 100 or not 0 <= size_bytes < 8**11:
        raise ValueError(f"tar member {name!r} of {size_bytes} bytes does not fit a plain USTAR header")
    size = b"%011o\0" % size_bytes
    checksum = _SAME_SUM + sum(raw) + sum(size)
    return b"".join((raw.ljust(100, b"\0"), _OWNER, size, _MTIME, b"%06o" % checksum, _TAIL))


class ShardWriter:
    """Writes one tar; the caller publishes its folder.

    A context manager: without `finish` (after an error) it only closes the file.

    Args:
        path: The file to create; must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "xb", _WRITE_BYTES)  # noqa: SIM115 - closed on leaving the context
        self._hash = hashlib.sha256()
        self._position = 0

    def add(self, name: str, data: bytes) -> ShardMember:
        """Append one member and return it."""
        (member,) = self.add_all([(name, data)])
        return member

    def add_all(self, members: Sequence[tuple[str, bytes]]) -> list[ShardMember]:
        """Append members, which are written and hashed at once, and return them.

        Args:
            members: Name and bytes of each.
        """
        parts, added, position = list[bytes](), list[ShardMember](), self._position
        for name, data in members:
            padding = -len(data) % BLOCK_BYTES
            parts += (tar_header(name, len(data)), data, _END[:padding])
            added.append(ShardMember(name, position + BLOCK_BYTES, len(data)))
            position += BLOCK_BYTES + len(data) + padding
        self._put(b"".join(parts))
        return added

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._position

    def append(self, blocks: bytes | bytearray) -> None:
        """Append whole members of another tar, with headers and padding."""
        self._put(blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # closing flushes again; on a full disk that fails again, and the first error is more useful
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
            self._file.close()

    def finish(self) -> WrittenFile:
        """Write the end marker, flush to disk and return the finished file's size and hash."""
        self._put(_END)
        self._file.flush()
        os.fsync(self._file.fileno())
        return WrittenFile(self.path.name, self._position, self._hash.hexdigest())

    def _put(self, data: bytes | bytearray) -> None:
        self._file.write(data)
        self._hash.update(data)
        self._position += len(data)


class ShardReader:
    """Reads byte ranges of a version's shards; safe to share between threads.

    Args:
        folder: The folder that holds ``00000.tar`` and so on.
        records: The manifest's records of the files, by name: each shard is checked against its own before it is
            read. None checks nothing, for readers of a few members.
    """

    def __init__(self, folder: Path, records: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._folder, self._records = folder, records
        self._descriptors: dict[int, int] = {}
        self._lock = threading.Lock()

    def read(self, shard: int, offset: int, num_bytes: int) -> bytes:
        """Return `num_bytes` at `offset` of a shard.

        Raises:
            InputError: the shard is missing, damaged, or shorter than in its index.
        """
        data = os.pread(self._descriptor(shard), num_bytes, offset)
        if len(data) != num_bytes:
            path = self._folder / shard_name(shard)
            raise InputError(
                f"{path}: wanted {num_bytes} bytes at {offset}, got {len(data)}", fix="run clipcurate verify"
            )
        return data

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _descriptor(self, shard: int) -> int:
        with self._lock:
            if shard not in self._descriptors:
                path = self._folder / shard_name(shard)
                if self._records is not None:
                    check_file(path, self._records)
                try:
                    self._descriptors[shard] = os.open(path, os.O_RDONLY)
                except FileNotFoundError:
                    raise InputError(f"{path}: shard is missing", fix="run clipcurate curate again") from None
            return self._descriptors[shard]


def split_into_shards(sizes_bytes: Iterable[int], target_bytes: int) -> list[tuple[int, int]]:
    """Return (first, end) positions of consecutive shards of about `target_bytes` each.

    A shard ends where the next sample would exceed the target, or at 10,000 samples.
    """
    shards: list[tuple[int, int]] = []
    first = total = position = 0
    for position, size in enumerate(sizes_bytes):
        if position > first and (total + size > target_bytes or position - first >= KEYS_PER_SHARD):
            shards.append((first, position))
            first, total = position, 0
        total += size
    return [*shards, (first, position + 1)] if total or position else shards


def check_file(path: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Check a version's file against its manifest; one that has not changed since is hashed once in this process.

    Args:
        path: The file.
        records: The manifest's records of files, by name.

    Raises:
        InputError: the file is missing, unknown, or has other bytes.
    """
    record = records.get(path.name)
    fix = f"delete {path.parent} and run the same clipcurate curate again, which restores it; or take the file from a copy"
    if record is None or not path.is_file():
        raise InputError(f"{path}: {'not in the manifest' if record is None else 'file is missing'}", fix=fix)
    stat = path.stat()
    if stat.st_size != record["bytes"]:
        raise InputError(f"{path} is damaged: {stat.st_size} bytes, the manifest says {record['bytes']}", fix=fix)
    if (found := _sha256(path, stat.st_size, stat.st_mtime_ns)) != record["sha256"]:
        raise InputError(f"{path} is damaged: its sha256 is {found}, the manifest says {record['sha256']}", fix=fix)


@functools.lru_cache(maxsize=1 << 16)
def _sha256(path: Path, *_changes: int) -> str:
    return sha256_file(path)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file, read in chunks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
