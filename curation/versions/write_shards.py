"""Shards of a version: written from samples in the spool, copied from the earlier version, or taken from it whole."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import orjson

from curation.engine.stage import Field
from curation.versions.reuse import PLACE_COLUMNS, EarlierVersion, SampleRecord
from curation.versions.tables import VersionContents, sidecar_table, typed_columns
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, image_uid
from data_manifests.seeds import canonical
from data_manifests.shards import ShardWriter, sample_key, shard_name, split_into_shards
from data_manifests.tar_copy import MEMBERS, chunks, copy_chunk, key_digits

if TYPE_CHECKING:
    import pyarrow as pa

_NEW_ROWS = -1
"""Stands for the rows of samples from the spool, beside the numbers of earlier shards."""

_TEXT_UNIT_BYTES = 1024
"""To how much the mean size of a sample's texts is rounded up where shards are divided."""


class Spool:
    """Payloads on disk in uid order, so that writing shards in another order needs no memory for them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def put(self, data: bytes) -> tuple[int, int]:
        """Append bytes; return their offset and length."""
        offset = self._file.tell()
        self._file.write(data)
        return offset, len(data)

    def get(self, position: tuple[int, int]) -> bytes:
        """Return what `put` was given."""
        self._file.seek(position[0])
        return self._file.read(position[1])


@dataclass(frozen=True, slots=True)
class Spooled:
    """Where a sample is that was read from the store.

    Attributes:
        image: Its image.
        spool: The spool.
        payload: Offset and length of its JSON in the spool.
        arrays: Offset and length of each array field in the spool.
    """

    image: ImageRef
    spool: Spool
    payload: tuple[int, int]
    arrays: Mapping[str, tuple[int, int]]

    def texts(self) -> dict[str, Any]:
        """Return its JSON, without its key."""
        found: dict[str, Any] = orjson.loads(self.spool.get(self.payload))
        return found


@dataclass(frozen=True, slots=True)
class Taken:
    """Where a sample is that is the same in the earlier version.

    Attributes:
        before: The earlier version.
        row: The sample's row in its index.
    """

    before: EarlierVersion
    row: int

    def texts(self) -> dict[str, Any]:
        """Return its JSON."""
        return self.before.texts(self.row)


@dataclass(frozen=True, slots=True)
class PublishedSample:
    """What is in memory of a sample while a version is written.

    Attributes:
        uid: The sample's uid.
        order: Cluster, band of difficulty, uid: the order of samples in the version.
        image_bytes: Size of its image.
        index: Its columns of index.parquet; those of its place in a shard are missing, or of the earlier version.
        record: What is recorded of it for the next version.
        source: Where the rest is.
    """

    uid: str
    order: tuple[int, int, str]
    image_bytes: int
    index: Mapping[str, Any]
    record: SampleRecord
    source: Spooled | Taken


def write_shards(
    contents: VersionContents,
    samples: Sequence[PublishedSample],
    arrays: Sequence[Field],
    shard_bytes: int,
    progress: Callable[[int], None] | None,
) -> list[dict[str, Any]]:
    """Write all shards with their sidecars; return the rows of the index.

    Args:
        contents: The version's files.
        samples: The samples in their order.
        arrays: The published array fields.
        shard_bytes: Target size of a shard.
        progress: Called with the number of samples written so far.
    """
    rows: list[dict[str, Any]] = []
    # the mean, not each one's own size: an edited caption then moves no sample to another shard
    mean_text = sum(sample.record.text_bytes for sample in samples) / max(len(samples), 1)
    text_bytes = math.ceil(mean_text / _TEXT_UNIT_BYTES) * _TEXT_UNIT_BYTES
    sizes = [sample.image_bytes + text_bytes for sample in samples]
    for number, (first, end) in enumerate(split_into_shards(sizes, shard_bytes)):
        part = samples[first:end]
        taken = [sample.source for sample in part if isinstance(sample.source, Taken)]
        if len(taken) == len(part) and taken[0].before.is_shard(number, [item.row for item in taken]):
            contents.take_shard(number, taken[0].before.version)
            rows += [item.before.index_rows[item.row] for item in taken]
        else:
            rows += _write_shard(contents, number, part, arrays)
        if progress:
            progress(len(rows))
    return rows


def _write_shard(
    contents: VersionContents, number: int, samples: Sequence[PublishedSample], arrays: Sequence[Field]
) -> list[dict[str, Any]]:
    """Write a shard and its sidecar; return the rows of the index."""
    places: list[dict[str, Any]] = []
    payloads: list[dict[str, Any]] = []
    with ShardWriter(contents.folder / shard_name(number)) as writer:
        for first, end in _runs(samples):
            for place, payload in _write_run(writer, samples[first:end], number, first):
                places.append(place)
                payloads.append(payload)
        shard = writer.finish()
    columns = _typed_columns(samples, payloads, arrays)
    contents.add_shard(number, shard, sidecar_table(payloads, columns))
    return [
        {"uid": sample.uid, "shard": number, **place}
        | {name: value for name, value in sample.index.items() if name not in PLACE_COLUMNS}
        for sample, place in zip(samples, places, strict=True)
    ]


def _runs(samples: Sequence[PublishedSample]) -> Iterator[tuple[int, int]]:
    """Yield (first, end) of samples that are copied at once; samples from the spool are alone."""
    lengths, alone = np.zeros(len(samples), np.int64), set[int]()
    for position, sample in enumerate(samples):
        if isinstance(sample.source, Taken):
            lengths[position] = sample.source.before.ranges.length[sample.source.row]
        else:
            alone.add(position)
    return chunks(lengths, alone)


def _write_run(
    writer: ShardWriter, samples: Sequence[PublishedSample], number: int, first: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Write a run of samples from `first` on; yield the place and the JSON of each."""
    source = samples[0].source
    if isinstance(source, Spooled):
        yield _write_sample(writer, samples[0], source, sample_key(number, first))
        return
    rows = [sample.source.row for sample in samples if isinstance(sample.source, Taken)]
    part, start = source.before.ranges.take(np.array(rows, np.int64)), writer.position
    data = copy_chunk(source.before.reader, writer, part, key_digits(number, first + len(samples))[first:])
    begins, view = np.concatenate([[0], np.cumsum(part.length)]).tolist(), memoryview(data)
    for place, (row, begin, offsets) in enumerate(zip(rows, begins, part.offsets.tolist(), strict=False)):
        old, found = source.before.index_rows[row], {"key": sample_key(number, first + place)}
        for member, offset in zip(MEMBERS, offsets, strict=True):
            found |= {f"{member}_offset": start + begin + offset, f"{member}_bytes": old[f"{member}_bytes"]}
        low = begin + offsets[1]
        yield found, _for_sidecar(orjson.loads(view[low : low + old["json_bytes"]]))


def _for_sidecar(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a taken sample's JSON without what its sidecar row does not get from it, to save memory."""
    for name in ("negatives", "views", *(f"caption_{number}" for number in range(1, len(payload["captions"])))):
        del payload[name]
    return payload


def _typed_columns(
    samples: Sequence[PublishedSample], payloads: Sequence[Mapping[str, Any]], arrays: Sequence[Field]
) -> dict[str, pa.Array]:
    """Return a shard's columns of negatives, views and arrays, those of taken samples from the earlier sidecars."""
    import pyarrow as pa

    names = ["negatives", "views", *(field.name for field in arrays)]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    parts: list[tuple[int, int, int]] = []
    for sample, payload in zip(samples, payloads, strict=True):
        if isinstance(sample.source, Taken):
            before = sample.source.before
            shard, row = before.place_of(sample.source.row)
        else:
            source, shard, row = sample.source, _NEW_ROWS, len(columns["negatives"])
            for name in ("negatives", "views"):
                columns[name].append(payload[name])
            for field in arrays:
                columns[field.name].append(field.decode(source.spool.get(source.arrays[field.name])))
        if parts and parts[-1][0] == shard and parts[-1][2] == row:
            parts[-1] = (shard, parts[-1][1], row + 1)
        else:
            parts.append((shard, row, row + 1))
    shards = {shard for shard, _, _ in parts}
    tables = {shard: before.sidecar(shard, names) for shard in sorted(shards - {_NEW_ROWS})}
    if _NEW_ROWS in shards:
        tables[_NEW_ROWS] = pa.table(typed_columns(columns))
    joined = pa.concat_tables([tables[shard].slice(start, end - start) for shard, start, end in parts])
    return {name: joined[name].combine_chunks() for name in names}


def _write_sample(
    writer: ShardWriter, sample: PublishedSample, source: Spooled, key: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a sample's three members; return its key and offsets, and its JSON."""
    data = source.image.read()
    if image_uid(data) != sample.uid:
        raise InputError(
            f"{source.image.path}: the image changed while the data set was written", fix="run the same command again"
        )
    payload = source.texts()
    payload |= {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "caption": payload["captions"][0]}
    captions = {f"caption_{number}": text for number, text in enumerate(payload["captions"]) if number}
    members = {
        "image": writer.add(f"{key}.{sample.index['image_ext']}", data),
        "json": writer.add(f"{key}.json", canonical({**payload, **captions})),
        "text": writer.add(f"{key}.txt", payload["caption"].encode()),
    }
    row: dict[str, Any] = {"key": key}
    for name, member in members.items():
        row |= {f"{name}_offset": member.offset, f"{name}_bytes": member.size_bytes}
    return row, payload
