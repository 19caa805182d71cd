"""Samples of a version while it is written: some numbers of each are in memory, the rest is on disk until its shard is written."""

from __future__ import annotations

import os
import struct
from itertools import accumulate, pairwise
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import orjson

from data_manifests.sample import ImageRef

SampleNumbers = np.ndarray[Any, np.dtype[np.void]]
"""What is in memory of the samples, of type `NUMBERS` [n]."""

_READ_BYTES = 8192
"""More than most samples have."""

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


class Spool:
    """Samples in a file in uid order, so that writing shards in another order needs no memory for them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._place, self._written = file, 0, 0

    def put(self, sample: SpooledSample) -> int:
        """Append a sample; return its place."""
        place, image = self._place, sample.image
        head = orjson.dumps([sample.uid, image.path, image.offset, image.size_bytes, sample.in_index])
        parts = [head, sample.payload, sample.key, sample.counts, *sample.arrays]
        sizes = [len(part) for part in parts]
        self._file.write(b"".join((struct.pack(f"<{len(parts) + 1}q", len(parts), *sizes), *parts)))
        self._place += 8 * (len(parts) + 1) + sum(sizes)
        return place

    def get(self, place: int) -> SpooledSample:
        """Return the sample at a place."""
        if self._written < self._place:
            self._file.flush()
            self._written = self._place
        data = os.pread(self._file.fileno(), _READ_BYTES, place)
        (count,) = struct.unpack_from("<q", data)
        sizes = struct.unpack_from(f"<{count}q", data, 8)
        ends = list(accumulate(sizes, initial=8 * (count + 1)))
        if len(data) < ends[-1]:
            data += os.pread(self._file.fileno(), ends[-1] - len(data), place + len(data))
        head, payload, key, counts, *arrays = (data[start:end] for start, end in pairwise(ends))
        uid, path, offset, size_bytes, index = orjson.loads(head)
        return SpooledSample(uid, ImageRef(path, offset, size_bytes), index, payload, key, counts, arrays)
