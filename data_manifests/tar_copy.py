"""Copies samples between shards as byte ranges: nothing is decoded, only their keys change.

A sample's members (image, JSON, text) are adjacent, so a sample is one range, and samples that stay next to each other
are read together. A key always has nine digits, so a copy has the size of its original: three header names with their
checksums and one value in the JSON are overwritten in the buffer, which is then hashed and written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from data_manifests.errors import InputError
from data_manifests.shards import BLOCK_BYTES, KEYS_PER_SHARD, ShardReader, ShardWriter, WrittenFile, shard_name
from data_manifests.tar_index import ByteArray, Int64Array

if TYPE_CHECKING:
    import pyarrow as pa


KEY_CHARS = 9
CHUNK_BYTES = 4 * 2**20
"""Bytes copied at once, at least one sample."""

_CHECKSUM, _CHECKSUM_DIGITS = 148, 6
_FIX = "run clipcurate verify; make the version again if it fails"
MEMBERS = ("image", "json", "text")


def padded(size_bytes: Any) -> Any:
    """Return how many bytes data of this size occupy in a tar."""
    return (size_bytes + BLOCK_BYTES - 1) // BLOCK_BYTES * BLOCK_BYTES


@dataclass(frozen=True)
class SampleRanges:
    """Byte ranges of whole samples, one entry a sample.

    Attributes:
        shard: Number of the tar, int64 [n].
        start: First byte (the image's header), int64 [n].
        length: ByteArray up to the next sample, a multiple of 512, int64 [n].
        offsets: First byte of each member's data, relative to `start`, int64 [n, 3].
        json_bytes: Size of the JSON, int64 [n].
        keys: ASCII digits, uint8 [n, 9].
    """

    shard: Int64Array
    start: Int64Array
    length: Int64Array
    offsets: Int64Array
    json_bytes: Int64Array
    keys: ByteArray

    @classmethod
    def of(cls, index: pa.Table, version: str) -> SampleRanges:
        """Return the ranges of index.parquet.

        Args:
            index: The table.
            version: The version, for messages.

        Raises:
            InputError: a sample's members are not adjacent, so this is not the version's index.
        """
        places = np.stack([index[f"{name}_offset"].to_numpy() for name in MEMBERS], axis=1).astype(np.int64)
        sizes = np.stack([index[f"{name}_bytes"].to_numpy() for name in MEMBERS], axis=1).astype(np.int64)
        ends = places + padded(sizes)
        keys = index["key"].to_pylist()
        ok = (ends[:, :-1] + BLOCK_BYTES == places[:, 1:]).all(axis=1) & (places[:, 0] >= BLOCK_BYTES)
        ok &= (sizes >= 0).all(axis=1)
        ok &= np.array([len(key) == KEY_CHARS and key.isascii() and key.isdigit() for key in keys], dtype=bool)
        if not ok.all():
            row = int(np.flatnonzero(~ok)[0])
            raise InputError(
                f"{version}: index.parquet row {row} (key {keys[row]!r}): its members are not adjacent",
                allowed="image, JSON and text of a sample next to each other, with a key of nine digits",
                fix=_FIX,
            )
        start = places[:, 0] - BLOCK_BYTES
        digits = np.frombuffer("".join(keys).encode(), dtype=np.uint8).reshape(-1, KEY_CHARS)
        shard = index["shard"].to_numpy().astype(np.int64)
        return cls(shard, start, ends[:, -1] - start, places - start[:, None], sizes[:, 1], digits)

    def take(self, rows: Int64Array) -> SampleRanges:
        """Return some entries, in that order."""
        places = (self.shard[rows], self.start[rows], self.length[rows])
        return SampleRanges(*places, self.offsets[rows], self.json_bytes[rows], self.keys[rows])


def key_digits(shard: int, count: int) -> ByteArray:
    """Return the keys of a shard's first samples as ASCII digits, uint8 [count, 9]."""
    powers = 10 ** np.arange(KEY_CHARS - 1, -1, -1, dtype=np.int64)
    numbers = shard * KEYS_PER_SHARD + np.arange(count, dtype=np.int64)
    return (numbers[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def copy_shard(
    source: Path, target: Path, number: int, ranges: SampleRanges, replaced: Mapping[int, dict[str, Any]]
) -> tuple[WrittenFile, Int64Array, Int64Array]:
    """Write shard `number` from ranges of other shards.

    Args:
        source: Folder of the shards that are read.
        target: Folder of the new one.
        number: Its number; decides the keys.
        ranges: The samples in their new order.
        replaced: New JSON of some samples, by position in `ranges`.

    Returns:
        The file, the start of each sample, int64 [n], and new sizes, int64 [n, 3] (-1: unchanged).

    Raises:
        InputError: a shard is missing or truncated, or does not match its index.
    """
    keys = key_digits(number, len(ranges.start))
    starts, sizes = np.zeros(len(ranges.start), np.int64), np.full((len(ranges.start), 3), -1, np.int64)
    with RangeReader(source) as reader, ShardWriter(target / shard_name(number)) as writer:
        for first, end in chunks(ranges.length, replaced):
            starts[first:end] = writer.position + np.concatenate([[0], np.cumsum(ranges.length[first : end - 1])])
            part = ranges.take(np.arange(first, end))
            if first in replaced:
                key, data = keys[first].tobytes().decode(), reader.gather(part)
                sizes[first] = _write_replaced(writer, data, part, key, replaced[first])
            else:
                copy_chunk(reader, writer, part, keys[first:end])
        return writer.finish(), starts, sizes


def copy_chunk(reader: RangeReader, writer: ShardWriter, part: SampleRanges, keys: ByteArray) -> bytearray:
    """Copy consecutive samples under new keys; return their bytes.

    Args:
        reader: Reads the shards that they are in.
        writer: Writes the new shard.
        part: Their ranges and old keys.
        keys: New keys, uint8 [n, 9].

    Raises:
        InputError: a shard does not match its index.
    """
    data = reader.gather(part)
    rename(data, part, keys, partial(reader.position, part))
    writer.append(data)
    return data


def chunks(length: Int64Array, alone: Collection[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of samples that are copied at once; each sample of `alone` is in its own chunk."""
    first = total = 0
    for position, size in enumerate(length.tolist()):
        if position > first and (total + size > CHUNK_BYTES or position in alone or position - 1 in alone):
            yield first, position
            first, total = position, 0
        total += size
    if len(length):
        yield first, len(length)


def rename(data: bytearray, part: SampleRanges, keys: ByteArray, position: Callable[[int], str]) -> None:
    """Overwrite the keys of consecutive samples in a buffer.

    Args:
        data: The samples; changed in place.
        part: Their ranges and old keys.
        keys: New keys, uint8 [n, 9].
        position: Describes a sample's position, for messages.

    Raises:
        InputError: the samples have other keys.
    """
    base = np.concatenate([[0], np.cumsum(part.length[:-1])]).astype(np.int64)
    headers = base[:, None] + part.offsets - BLOCK_BYTES
    view = np.frombuffer(data, dtype=np.uint8)
    names = headers[:, :, None] + np.arange(KEY_CHARS)
    wrong = (view[names] != part.keys[:, None, :]).any(axis=(1, 2))
    if wrong.any():
        raise InputError(f"{position(int(np.flatnonzero(wrong)[0]))}: another key is there", fix=_FIX)
    view[names] = keys[:, None, :]
    places = headers[:, :, None] + _CHECKSUM + np.arange(_CHECKSUM_DIGITS)
    powers = 8 ** np.arange(_CHECKSUM_DIGITS - 1, -1, -1, dtype=np.int64)
    sums = ((view[places].astype(np.int64) - ord("0")) * powers).sum(axis=2)
    sums += (keys.astype(np.int64).sum(axis=1) - part.keys.astype(np.int64).sum(axis=1))[:, None]
    view[places] = (sums[:, :, None] // powers % 8 + ord("0")).astype(np.uint8)
    lows = base + part.offsets[:, 1]
    before, after = part.keys.tobytes(), keys.tobytes()
    for row, (low, high) in enumerate(zip(lows.tolist(), (lows + part.json_bytes).tolist(), strict=True)):
        digits = slice(row * KEY_CHARS, (row + 1) * KEY_CHARS)
        if not _rename_json(data, low, high, before[digits], after[digits]):
            raise InputError(f"{position(row)}: its JSON has another key or is not canonical", fix=_FIX)


def _rename_json(data: bytearray, low: int, high: int, before: bytes, after: bytes) -> bool:
    """Overwrite the value of ``key`` and return whether it was there.

    Quotes inside JSON strings are escaped, so the bytes that are searched for are a name and its value.
    """
    name = b'"key":"%s"' % before
    at = data.find(name, low, high)
    if at < 0:
        return False
    if data.find(name, at + len(name), high) < 0:
        data[at + 7 : at + 7 + KEY_CHARS] = after
        return True
    # a nested record has the same name and value: parsing tells which one is at the top
    payload = orjson.loads(memoryview(data)[low:high])
    text = orjson.dumps({**payload, "key": after.decode()}, option=orjson.OPT_SORT_KEYS)
    if payload.get("key") != before.decode() or len(text) != high - low:
        return False
    data[low:high] = text
    return True


def _write_replaced(
    writer: ShardWriter, data: bytearray, part: SampleRanges, key: str, payload: Mapping[str, Any]
) -> list[int]:
    """Write a sample with new JSON; image and text stay the same. Returns the members' sizes."""
    sizes = []
    text = orjson.dumps({**payload, "key": key}, option=orjson.OPT_SORT_KEYS)
    for member, offset in enumerate(part.offsets[0].tolist()):
        header = bytes(data[offset - BLOCK_BYTES : offset])
        size = int(header[124:135], 8)
        name = header[:100].rstrip(b"\0").decode("ascii")
        content = text if member == 1 else bytes(data[offset : offset + size])
        writer.add(key + name[KEY_CHARS:], content)
        sizes.append(len(content))
    return sizes


class RangeReader(ShardReader):
    """Reads the bytes of whole samples; consecutive ranges are read in one call."""

    def gather(self, part: SampleRanges) -> bytearray:
        """Return the concatenated bytes of the samples."""
        data = bytearray(int(part.length.sum()))
        view = memoryview(data)
        ends = part.start + part.length
        joined = (part.shard[1:] == part.shard[:-1]) & (part.start[1:] == ends[:-1])
        firsts = np.concatenate([[0], np.flatnonzero(~joined) + 1])
        lasts = np.concatenate([firsts[1:] - 1, [len(ends) - 1]])
        at = 0
        for shard, start, end in zip(
            part.shard[firsts].tolist(), part.start[firsts].tolist(), ends[lasts].tolist(), strict=True
        ):
            self._fill(shard, start, view[at : at + end - start])
            at += end - start
        return data

    def position(self, part: SampleRanges, row: int) -> str:
        """Describe a sample's position, for messages."""
        return f"{self._folder / shard_name(int(part.shard[row]))}: byte {int(part.start[row])}"

    def _fill(self, shard: int, start: int, view: memoryview) -> None:
        descriptor, done = self._descriptor(shard), 0
        while done < len(view):
            got = os.preadv(descriptor, [view[done:]], start + done)
            if got == 0:
                path = self._folder / shard_name(shard)
                raise InputError(f"{path}: wanted {len(view)} bytes at {start}, got {done}", fix=_FIX)
            done += got
