"""Shards of a version: written from samples in the spool, copied from the earlier version, or taken from it whole."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from curation.engine.engine import infrequent_garbage_collection
from curation.engine.stage import Field
from curation.versions.reuse import PLACE_COLUMNS, EarlierVersion, records_schema
from curation.versions.spool import SampleNumbers, Spool, SpooledSample
from curation.versions.tables import IndexParts, VersionContents, index_table, sidecar_table, typed_columns
from data_manifests.disk_space import require_free_space
from data_manifests.errors import InputError
from data_manifests.sample import ImageFiles, image_uid
from data_manifests.seeds import canonical
from data_manifests.shards import ShardWriter, sample_key, shard_name, split_into_shards
from data_manifests.tar_copy import MEMBERS, chunks, copy_chunk, key_digits
from data_manifests.tar_index import Int64Array

if TYPE_CHECKING:
    import pyarrow as pa


ProcessMap = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Calls a function of a module for each of many values, like `map`, perhaps in other processes."""

FEW_SAMPLES = 10_000
"""So many new samples take less time in this process than in others that may have to start first."""

_NEW_ROWS = -1
"""Stands for the rows of samples from the spool, beside the numbers of earlier shards."""

_TEXT_UNIT_BYTES = 1024
"""To how much the mean size of a sample's texts is rounded up where shards are divided."""


@dataclass(frozen=True)
class ShardJob:
    """What is the same for all shards of a version.

    Attributes:
        folder: The version's folder.
        spool: Folder of the samples that are not in the earlier version.
        index: Folder of the parts of the index.
        arrays: The published array fields.
    """

    folder: Path
    spool: Path
    index: Path
    arrays: Sequence[Field]


@dataclass(frozen=True)
class WrittenShard:
    """What a written shard adds to its version.

    Attributes:
        contents: Its files.
        schema: Of its rows of the index, which are written.
        records: The records of its samples, see `records_schema`.
    """

    contents: VersionContents
    schema: pa.Schema
    records: pa.Table


def write_shards(
    contents: VersionContents,
    index: IndexParts,
    job: ShardJob,
    spool: Spool,
    before: EarlierVersion | None,
    samples: SampleNumbers,
    shard_bytes: int,
    processes: ProcessMap = map,
) -> Iterator[pa.Table]:
    """Write all shards with their sidecars; yield the records of each shard's samples, see `records_schema`.

    Args:
        contents: The version's files.
        index: Receives the rows of the index.
        job: What is the same for all shards.
        spool: Has the samples that are not in the earlier version.
        before: The earlier version.
        samples: The samples in their order.
        shard_bytes: Target size of a shard.
        processes: Calls a function for each of many shards, as `map` does; it may do so in other processes. Those without
            a sample of the earlier version are written so.

    Raises:
        InputError: the disk has no room for the shards that are not the earlier version's.
    """
    # the mean, not each one's own size: an edited caption then moves no sample to another shard
    mean_text = int(samples["text_bytes"].sum()) / max(len(samples), 1)
    sizes = samples["image_bytes"] + math.ceil(mean_text / _TEXT_UNIT_BYTES) * _TEXT_UNIT_BYTES
    shards = list(enumerate(split_into_shards(map(int, sizes), shard_bytes)))
    written = [span for number, span in shards if not _is_taken(before, number, samples["row"][slice(*span)])]
    require_free_space(contents.folder, sum(int(sizes[first:end].sum()) for first, end in written))
    new = [(number, samples[first:end]) for number, (first, end) in shards if (samples["row"][first:end] < 0).all()]
    is_much = processes is not map and sum(len(part) for _, part in new) > FEW_SAMPLES
    found = iter(processes(partial(_write_new, job), new)) if is_much else (_write(job, *item, spool) for item in new)
    of_store = {number for number, _ in new}
    for number, (first, end) in shards:
        rows = samples["row"][first:end]
        if before is not None and _is_taken(before, number, rows):
            contents.take_shard(number, before.version)
            index.add(before.index.slice(int(rows[0]), len(rows)))
            yield before.records.take(rows)
            continue
        shard = next(found) if number in of_store else _write(job, number, samples[first:end], spool, before)
        contents.take_finished(shard.contents)
        index.take(shard.schema)
        yield shard.records


def _write_new(job: ShardJob, numbered: tuple[int, SampleNumbers]) -> WrittenShard:
    """Write a shard whose samples are all in the spool, perhaps in another process."""
    with Spool(job.spool) as spool, infrequent_garbage_collection():
        return _write(job, *numbered, spool)


def _write(
    job: ShardJob, number: int, samples: SampleNumbers, spool: Spool, before: EarlierVersion | None = None
) -> WrittenShard:
    """Write a shard with its sidecar, statistics and rows of the index."""
    shard, contents = _Shard(number, samples, spool, before), VersionContents(job.folder, [])
    with ShardWriter(job.folder / shard_name(number)) as writer:
        shard.write(writer)
        file = writer.finish()
    contents.add_shard(number, file, sidecar_table(shard.payloads, shard.typed_columns(job.arrays)))
    return WrittenShard(contents, IndexParts.write(job.index, number, shard.index()), shard.records())


def _is_taken(before: EarlierVersion | None, number: int, rows: Int64Array) -> bool:
    """Return whether a shard has exactly the samples of the earlier version's, and is taken from there."""
    return before is not None and before.is_shard(number, rows)


class _Shard:
    """A shard while it is written.

    Args:
        number: Its number.
        numbers: Its samples.
        spool: Has the new ones.
        before: Has the others.

    Attributes:
        payloads: JSON of each sample, without what its sidecar row does not get from it.
    """

    def __init__(self, number: int, numbers: SampleNumbers, spool: Spool, before: EarlierVersion | None) -> None:
        self._number, self._numbers, self._spool, self._before = number, numbers, spool, before
        self._is_new = numbers["row"] < 0
        self._rows: Int64Array = numbers["row"][~self._is_new]
        self._places: list[dict[str, Any]] = []
        self._new: list[SpooledSample] = []
        self.payloads: list[dict[str, Any]] = []

    def write(self, writer: ShardWriter) -> None:
        """Write the samples: those of the earlier version in runs that are copied at once, the others one by one."""
        lengths = np.zeros(len(self._numbers), np.int64)
        if self._before is not None:
            lengths[~self._is_new] = self._before.ranges.length[self._rows]
        with ImageFiles() as images:
            for first, end in chunks(lengths, set(np.flatnonzero(self._is_new).tolist())):
                if self._before is not None and not self._is_new[first]:
                    self._copy(writer, self._before, first, end)
                else:
                    self._write(writer, images, first)

    def _write(self, writer: ShardWriter, images: ImageFiles, position: int) -> None:
        """Write a sample from the spool."""
        sample = self._spool.get(int(self._numbers["place"][position]))
        place, payload = _write_sample(writer, sample, images.read(sample.image), sample_key(self._number, position))
        self._places.append(place)
        self.payloads.append(payload)
        self._new.append(sample._replace(payload=b""))

    def _copy(self, writer: ShardWriter, before: EarlierVersion, first: int, end: int) -> None:
        """Copy a run of samples of the earlier version."""
        rows = self._numbers["row"][first:end]
        part, start = before.ranges.take(rows), writer.position
        data = copy_chunk(before.reader, writer, part, key_digits(self._number, end)[first:])
        sizes = np.stack([before.column(f"{name}_bytes")[rows] for name in MEMBERS], axis=1).tolist()
        begins, view = np.concatenate([[0], np.cumsum(part.length)]).tolist(), memoryview(data)
        for position, (begin, offsets, members) in enumerate(
            zip(begins[:-1], part.offsets.tolist(), sizes, strict=True), first
        ):
            found: dict[str, Any] = {"key": sample_key(self._number, position)}
            for name, offset, size in zip(MEMBERS, offsets, members, strict=True):
                found |= {f"{name}_offset": start + begin + offset, f"{name}_bytes": size}
            low = begin + offsets[1]
            self._places.append(found)
            self.payloads.append(_for_sidecar(orjson.loads(view[low : low + members[1]])))

    def records(self) -> pa.Table:
        """Return the samples' records."""
        import pyarrow as pa

        numbers = self._numbers["text_bytes"][self._is_new]
        columns = [[sample.key for sample in self._new], numbers, [sample.counts for sample in self._new]]
        arrays = [pa.array(column, spec.type) for column, spec in zip(columns, records_schema(), strict=True)]
        new = pa.table(arrays, records_schema())
        return new if self._before is None else self._in_order(new, self._before.records.take(self._rows))

    def index(self) -> pa.Table:
        """Return the samples' rows of the index."""
        import pyarrow as pa

        table = index_table([sample.in_index for sample in self._new])
        if self._before is not None:
            earlier = self._before.index.drop_columns(list(PLACE_COLUMNS)).take(pa.array(self._rows))
            table = self._in_order(table, earlier)
        places = [
            {"uid": payload["uid"], "shard": self._number, **place}
            for payload, place in zip(self.payloads, self._places, strict=True)
        ]
        columns = {
            name: column
            for part in (index_table(places), table)
            for name, column in zip(part.column_names, part.columns, strict=True)
        }
        return pa.table(columns)

    def typed_columns(self, arrays: Sequence[Field]) -> dict[str, pa.Array]:
        """Return the columns of negatives, views and arrays, those of earlier samples from the earlier sidecars."""
        import pyarrow as pa

        names = ["negatives", "views", *(field.name for field in arrays)]
        columns: dict[str, list[Any]] = {
            name: [payload[name] for payload, is_new in zip(self.payloads, self._is_new, strict=True) if is_new]
            for name in ("negatives", "views")
        }
        for place, field in enumerate(arrays):
            columns[field.name] = [field.decode(sample.arrays[place]) for sample in self._new]
        tables = {_NEW_ROWS: pa.table(typed_columns(columns))} if self._new else {}
        shards = np.full(len(self._numbers), _NEW_ROWS)
        rows = np.cumsum(self._is_new) - 1
        if self._before is not None:
            shards[~self._is_new], rows[~self._is_new] = self._before.places_of(self._rows)
            for shard in np.unique(shards[~self._is_new]).tolist():
                tables[shard] = self._before.sidecar(shard, names)
        follows = (shards[1:] == shards[:-1]) & (rows[1:] == rows[:-1] + 1)
        starts = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(rows)]
        parts = [tables[shards[start]].slice(rows[start], end - start) for start, end in pairwise(starts)]
        joined = pa.concat_tables(parts)
        return {name: joined[name].combine_chunks() for name in names}

    def _in_order(self, new: pa.Table, earlier: pa.Table) -> pa.Table:
        """Return the rows of all samples from those of the new and of the earlier ones."""
        import pyarrow as pa

        places = np.concatenate([np.flatnonzero(self._is_new), np.flatnonzero(~self._is_new)])
        both = [table for table in (new, earlier) if table.num_rows]
        return pa.concat_tables(both, promote_options="permissive").take(pa.array(np.argsort(places)))


def _for_sidecar(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a taken sample's JSON without what its sidecar row does not get from it, to save memory."""
    for name in ("negatives", "views", *(f"caption_{number}" for number in range(1, len(payload["captions"])))):
        del payload[name]
    return payload


def _write_sample(
    writer: ShardWriter, sample: SpooledSample, data: bytes, key: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a sample's three members, of which `data` is the image; return its key and offsets, and its JSON."""
    if image_uid(data) != sample.uid:
        raise InputError(
            f"{sample.image.path}: the image changed while the data set was written", fix="run the same command again"
        )
    payload = sample.texts()
    payload |= {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "caption": payload["captions"][0]}
    captions = {f"caption_{number}": text for number, text in enumerate(payload["captions"]) if number}
    contents = (
        (f"{key}.{sample.in_index['image_ext']}", data),
        (f"{key}.json", canonical({**payload, **captions})),
        (f"{key}.txt", payload["caption"].encode()),
    )
    members = dict(zip(("image", "json", "text"), writer.add_all(contents), strict=True))
    row: dict[str, Any] = {"key": key}
    for name, member in members.items():
        row |= {f"{name}_offset": member.offset, f"{name}_bytes": member.size_bytes}
    return row, payload
