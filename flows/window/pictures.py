"""Pictures of a version: small ones made when they are asked for, and original bytes under a type that their first bytes prove."""

from __future__ import annotations

import threading
from collections import OrderedDict

from data_manifests.errors import InputError
from data_manifests.shards import ShardReader
from flows.pages.thumbnails import MAX_BYTES, shrink
from flows.window.columns import IndexColumns

EDGE_PX = 224
MAX_KEPT_BYTES = 64 * 2**20
"""Most bytes of small pictures that are kept: about ten thousand."""


class Pictures:
    """Pictures of a version by row; safe to share between threads."""

    def __init__(self, columns: IndexColumns) -> None:
        self._columns = columns
        self._reader = ShardReader(columns.version.folder)
        self._lock, self._bytes = threading.Lock(), 0
        self._there: OrderedDict[int, bytes] = OrderedDict()

    def original(self, row: int) -> bytes:
        """Return a picture's bytes.

        Raises:
            InputError: no such row, or the shard is missing or too short.
        """
        return self._read(row, "image_offset", "image_bytes")

    def text(self, row: int) -> str:
        """Return a sample's first caption, from the shard's text member."""
        return self._read(row, "text_offset", "text_bytes").decode("utf-8", "replace")

    def small(self, row: int) -> bytes | None:
        """Return a picture as a small WebP; None if it cannot be decoded.

        Raises:
            InputError: see `original`.
        """
        with self._lock:
            if row in self._there:
                self._there.move_to_end(row)
                return self._there[row]
        made = shrink(self.original(row), EDGE_PX)
        if made is None:
            return None
        with self._lock:
            self._bytes += len(made[0]) - len(self._there.get(row, b""))
            self._there[row] = made[0]
            while self._bytes > MAX_KEPT_BYTES:
                _, oldest = self._there.popitem(last=False)
                self._bytes -= len(oldest)
        return made[0]

    def _read(self, row: int, offset: str, size: str) -> bytes:
        if not 0 <= row < self._columns.num_rows:
            raise InputError(f"sample {row}", allowed=f"0 to {self._columns.num_rows - 1}")
        shard, at, num_bytes = self._columns.place(row, "shard", offset, size)
        if not 0 <= num_bytes <= MAX_BYTES or at < 0:
            raise InputError(f"sample {row}: {num_bytes} bytes at {at}", fix="run clipcurate verify")
        return self._reader.read(shard, at, num_bytes)


def picture_type(data: bytes) -> str | None:
    """Return the media type that a file's first bytes prove; None for anything but a JPEG, PNG or WebP."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None
