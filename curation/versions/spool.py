"""Samples of a version while it is written: some numbers of each are in memory, the rest is on disk until its shard is written."""

from __future__ import annotations

import os
import struct
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import orjson

from data_manifests.sample import ImageRef

SampleNumbers = np.ndarray[Any, np.dtype[np.void]]
"""What is in memory of the samples, of type `NUMBERS` [n]."""

_READ_BYTES, _WRITE_BYTES = 8192, 2**20
"""Bytes read at first, which is more than most samples have; bytes that are written at once."""
_FILE_BITS = 40
"""Of a place, the lower bits, which are the place within its file; the file's number is above them."""

NUMBERS = np.dtype(
    [
        ("row", np.int64),
        ("place", np.int64),
        ("image_bytes", np.int64),
        ("text_bytes", np.int64),
        ("cluster", np.int64),
        ("difficulty", np.float64),
    ]
)
"""Numbers of a sample: its row in the earlier version (-1: it is in the spool), its place in the spool, sizes of its image and
of its texts, and by what it is sorted (0 where the recipe does not compute it).
"""


class SpooledSample(NamedTuple):
    """A sample that was read from the store.

    Attributes:
        uid: The sample's uid.
        image: Its image.
        in_index: Its columns of index.parquet, without those of its place in a shard.
        payload: Its JSON, without its key.
        key: Equal keys mean that everything published of the sample is equal.
        counts: What it adds to the statistics, as JSON.
        arrays: Its array fields, encoded.
    """

    uid: str
    image: ImageRef
    in_index: dict[str, Any]
    payload: bytes
    key: bytes
    counts: bytes
    arrays: list[bytes]

    def texts(self) -> dict[str, Any]:
        """Return its JSON, without its key."""
        found: dict[str, Any] = orjson.loads(self.payload)
        return found


class SpoolWriter:
    """Writes one of the spool's files; samples are in uid order, so that shards in another order need no memory for them.

    A context manager.

    Args:
        folder: The spool's folder.
        number: The file's number.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._file = open(folder / str(number), "wb", _WRITE_BYTES)  # noqa: SIM115 - closed on leaving the context
        self._place = number << _FILE_BITS

    def put(self, sample: SpooledSample) -> int:
        """Append a sample; return its place, which says the file as well."""
        place, image = self._place, sample.image
        head = orjson.dumps([sample.uid, image.path, image.offset, image.size_bytes, sample.in_index])
        parts = [head, sample.payload, sample.key, sample.counts, *sample.arrays]
        sizes = [len(part) for part in parts]
        self._file.write(b"".join((struct.pack(f"<{len(parts) + 1}q", len(parts), *sizes), *parts)))
        self._place += 8 * (len(parts) + 1) + sum(sizes)
        return place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class Spool:
    """Reads the spool's files; the ones that were read stay open.

    A context manager.

    Args:
        folder: The spool's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[int, int] = {}

    def get(self, place: int) -> SpooledSample:
        """Return the sample at a place."""
        number, start = place >> _FILE_BITS, place & ((1 << _FILE_BITS) - 1)
        if number not in self._open:
            self._open[number] = os.open(self.folder / str(number), os.O_RDONLY)
        file = self._open[number]
        data = os.pread(file, _READ_BYTES, start)
        (count,) = struct.unpack_from("<q", data)
        sizes = struct.unpack_from(f"<{count}q", data, 8)
        ends = list(accumulate(sizes, initial=8 * (count + 1)))
        if len(data) < ends[-1]:
            data += os.pread(file, ends[-1] - len(data), start + len(data))
        head, payload, key, counts, *arrays = (data[start:end] for start, end in pairwise(ends))
        uid, path, offset, size_bytes, in_index = orjson.loads(head)
        return SpooledSample(uid, ImageRef(path, offset, size_bytes), in_index, payload, key, counts, arrays)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
