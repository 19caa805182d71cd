"""Replay: samples as they are after a list of finished stages, read from the snapshot and the store.

Which result a sample has is looked up in the receipts of each stage; values are read only for samples whose values are asked
for, or that have no receipt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from blake3 import blake3

from curation.engine.fits import FitRecord
from curation.engine.intake import Snapshot
from curation.engine.receipts import Receipt, places_of, read_receipts, receipts_table
from curation.engine.stage import Drop, Field, IndexedStage, Stage
from curation.engine.store import (
    SAMPLES_EACH,
    Partition,
    StageResult,
    Store,
    files_of,
    find_results,
    input_id_of,
    partitions,
    read_results,
    select_results,
    span_of,
)
from data_manifests.sample import UID_HEX_CHARS, Sample
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import pyarrow as pa

Positions = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Ids = np.ndarray[Any, np.dtype[np.uint8]]
"""Ids [n, 16]."""

_CACHED_PARTITIONS = 16
"""Partitions, of about 512 samples, whose samples a process keeps for the next stage."""

_SAMPLES_AT_ONCE = 512
"""Samples whose values are in memory at once while input ids are computed."""

_KEYS_AT_ONCE = 4096

_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """A stage whose results are in the store.

    Attributes:
        stage: The stage.
        key: Of a fitted stage the hash of its fit, of an indexed stage the hash of all of its inputs.
        fit: Of a fitted stage, which fit it used.
    """

    stage: Stage
    key: str = ""
    fit: FitRecord | None = None


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """One stage over one partition: everything a worker needs to know, wherever it runs: paths are absolute.

    Attributes:
        stage: The stage.
        upstream: The stages before it.
        snapshot: Folder of the snapshot.
        store: Folder of the memo store.
        partition: The samples; a unit that fits or indexes has all of them.
        fit: Hash of the fit that a fitted stage applies; empty for a unit that learns one.
        amends: Hash of the fit into which a unit that learns brings what people have decided since; empty to learn anew.
    """

    stage: Stage
    upstream: tuple[FinishedStage, ...]
    snapshot: Path
    store: Path
    partition: Partition
    fit: str = ""
    amends: str = ""


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """A sample and the canonical bytes of its fields, from which input ids are computed.

    Attributes:
        source: The sample as the source has it.
        encoded: Encoded fields by name.
        added: Fields of stages that `sample` has, decoded when it is asked for.
    """

    source: Sample
    encoded: Mapping[str, bytes]
    added: tuple[Field, ...] = ()

    @property
    def uid(self) -> str:
        """The sample's uid."""
        return self.source.uid

    @property
    def sample(self) -> Sample:
        """The sample with the added fields; decoded at each call."""
        return self.source.adding({field.name: field.decode(self.encoded[field.name]) for field in self.added})


def encode_sample(sample: Sample) -> EncodedSample:
    """Encode the built-in fields of a sample without stage results; its uid stands for the image."""
    uid = sample.uid.encode()
    return EncodedSample(
        sample,
        {
            "uid": uid,
            "image": uid,
            "captions": canonical(list(sample.captions)),
            "split": canonical(sample.split),
            "attributes": canonical(dict(sample.attributes)),
        },
    )


def replay(unit: WorkUnit, fields: Collection[str]) -> list[EncodedSample]:
    """Return a partition's samples as they are after the upstream stages, with the given fields filled in.

    Raises:
        LookupError: the store lacks a result of an upstream stage.
    """
    return Replay.of(unit).encoded(fields)


class Replay:
    """The samples of a partition after finished stages.

    In memory are ids, a few dozen bytes for each sample and stage; values are read when they are asked for.

    Args:
        snapshot: The source's samples.
        store: Where the results are.
        partition: Which samples.
        finished: The stages.
        partial: Whether results may be missing; a sample is left out if it is not known whether it was dropped.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        store: Store,
        partition: Partition,
        finished: Sequence[FinishedStage] = (),
        *,
        partial: bool = False,
    ) -> None:
        self.snapshot, self.store, self._partition, self._partial = snapshot, store, partition, partial
        self._source = _source_ids(snapshot, partition)
        self._finished = tuple(finished)
        self._results: dict[int, pa.Table] = {}
        self._present: list[Bools] = [np.ones(len(self._source["uid"]), np.bool_)]
        self._last_keys: tuple[tuple[str, ...], int, pa.Array | None] = ((), 0, None)

    @classmethod
    def of(cls, unit: WorkUnit) -> Replay:
        """Return the samples before a unit's stage."""
        return cls(Snapshot.load(unit.snapshot), Store(unit.store), unit.partition, unit.upstream)

    def after(self, finished: FinishedStage) -> Replay:
        """Return the samples after one more stage; what is known of them by now is shared."""
        stages = (*self._finished, finished)
        more = Replay(self.snapshot, self.store, self._partition, stages, partial=self._partial)
        more._results, more._present = self._results.copy(), self._present.copy()
        more._last_keys = self._last_keys
        return more

    @property
    def finished(self) -> list[FinishedStage]:
        """The stages."""
        return list(self._finished)

    def forget(self) -> None:
        """Give back the memory of what was looked up; it is looked up again when it is needed."""
        self._results.clear()
        self._last_keys = ((), 0, None)

    @property
    def uids(self) -> list[str]:
        """Uids of the samples that no stage dropped, sorted."""
        return self._uids_of(self._rows())

    def uids_at(self, positions: Positions) -> list[str]:
        """Return some of `uids`."""
        return self._uids_of(self._rows()[positions])

    @property
    def num_samples(self) -> int:
        """Number of samples that no stage dropped."""
        return len(self._rows())

    @property
    def prefixes(self) -> Positions:
        """The first three hex digits of each of `uids`, as numbers; see `Partition`."""
        heads = self._source["uid"][self._rows(), :2].astype(np.int64)
        return heads[:, 0] << 4 | heads[:, 1] >> 4

    def blocks(self) -> Iterator[Positions]:
        """Yield the positions of all of `uids`, in the order and number in which the store's files have them."""
        return (np.arange(start, end) for _, start, end in self.spans())

    def spans(self, samples_each: int = SAMPLES_EACH) -> Iterator[tuple[Partition, int, int]]:
        """Yield partitions that have all of `uids`, each with the positions of its first one and of the one after its last.

        Args:
            samples_each: About how many a partition has before any are dropped.
        """
        prefixes = self.prefixes
        parts = partitions(len(self._source["uid"]), samples_each)
        starts = [*np.searchsorted(prefixes, [part.first for part in parts]).tolist(), len(prefixes)]
        for part, (start, end) in zip(parts, pairwise(starts), strict=True):
            if end > start:
                yield part, start, end

    def keys(self, names: Sequence[str]) -> list[bytes]:
        """Return a key (16 bytes) of some fields for each of `uids`, without reading values: equal keys mean equal values.

        Args:
            names: Fields of stages, fields that every sample has, or ``name``.

        Raises:
            LookupError: the store lacks a result of a stage that provides one of them.
        """
        keys: list[bytes] = self._keys(names, self._end).drop_null().to_pylist()
        return keys

    def encoded(
        self, names: Collection[str], positions: Sequence[int] | Positions | None = None
    ) -> list[EncodedSample]:
        """Return samples with the given fields filled in.

        Args:
            names: The fields.
            positions: Which of `uids`; None for all.

        Raises:
            LookupError: the store lacks a result of a stage that provides one of them.
        """
        rows = self._rows() if positions is None else self._rows()[positions]
        return self._encoded(names, rows, self._end)

    def unencoded(self, names: Collection[str], positions: Positions) -> list[EncodedSample]:
        """Return what `encoded` does, without the bytes of what the source has: those of whom only `sample` is wanted.

        Args:
            names: The fields.
            positions: Which of `uids`.
        """
        rows = self._rows()[positions]
        sources = _source_samples(self.snapshot, tuple(self._uids_of(rows)))
        return self._filled([EncodedSample(source, {}) for source in sources], names, rows, self._end)

    def column(self, name: str, positions: Positions) -> pa.LargeBinaryArray:
        """Return the encoded values of a stage's field for some of `uids`, in ascending order."""
        import pyarrow as pa

        ((number, _),) = self._providers([name], self._end)
        order, chunks = [np.zeros(0, np.int64)], []
        for path, places, ids in self._files(number, self._rows()[positions]):
            order.append(places)
            chunks += select_results(path, ids, [name])[name].chunks
        values = pa.chunked_array(chunks, pa.large_binary()).combine_chunks()
        return values.take(pa.array(np.argsort(np.concatenate(order))))

    def drops(self) -> Iterator[tuple[Stage, Sample, Drop]]:
        """Yield the dropped samples with the stage that dropped them and its reason, stage by stage."""
        for number, finished in enumerate(self._finished):
            if not finished.stage.drops:
                continue
            rows = np.flatnonzero(self._there(number) & self._dropped(number))
            for start in range(0, len(rows), _SAMPLES_AT_ONCE):
                some = rows[start : start + _SAMPLES_AT_ONCE]
                samples = _encoded_samples(self.snapshot, tuple(self._uids_of(some)))
                for item, result in zip(samples, self._read(number, some, ()), strict=True):
                    if result.drop is not None:
                        yield finished.stage, item.source, result.drop
                _encoded_samples.cache_clear()

    def dropped_uids(self) -> list[str]:
        """Return the uids of the dropped samples."""
        rows = [
            np.flatnonzero(self._there(number) & self._dropped(number))
            for number, finished in enumerate(self._finished)
            if finished.stage.drops
        ]
        return [uid for found in rows for uid in self._uids_of(found)]

    def lacking(self, stage: Stage, folder: Path) -> tuple[Positions, pa.Array]:
        """Return which of `uids` have no receipt of a stage whose results are in a folder, and their keys."""
        keys = self._keys(_key_fields(stage), self._end).drop_null()
        found = places_of(keys, read_receipts(folder, self._partition), "key")
        lacking = np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))
        return lacking, keys.take(lacking)

    def input_ids(self, stage: Stage, folder: Path) -> tuple[list[tuple[bytes, str]], list[Receipt]]:
        """Return the input id and uid of each sample whose input is known, and receipts for those that had none.

        Args:
            stage: The next stage.
            folder: Where it has receipts.
        """
        keys = self._keys(_input_fields(stage), self._end)
        receipts = read_receipts(folder, self._partition)
        ids = receipts["input_id"].take(places_of(keys, receipts, "key")).to_pylist()
        lacking = np.flatnonzero(_is_true(keys.is_valid()) & np.array([found is None for found in ids], np.bool_))
        computed = zip(
            lacking.tolist(), keys.take(lacking).to_pylist(), self._compute(stage, lacking, self._end), strict=True
        )
        made = []
        for row, key, found in computed:
            ids[row] = found
            made.append(Receipt(key, found))
        rows = np.flatnonzero([found is not None for found in ids])
        return list(zip((ids[row] for row in rows.tolist()), self._uids_of(rows), strict=True)), made

    def results(self) -> pa.Table:
        """Return the receipts of the samples with a result of the last stage."""
        import pyarrow.compute as pc

        found = self._look_up(self._end - 1)
        return found.filter(pc.is_valid(found["key"]))

    def has_results(self, finished: FinishedStage) -> bool:
        """Return whether all samples have a result of the next stage."""
        lacking, _ = self.lacking(finished.stage, self.store.folder(finished.stage, finished.key))
        return len(lacking) == len(self.receipts(finished))

    def receipts(self, finished: FinishedStage) -> list[Receipt]:
        """Return receipts for the samples that have a result of the next stage, but no receipt of it."""
        lacking, keys = self.lacking(finished.stage, self.store.folder(finished.stage, finished.key))
        return self._find(finished, self._rows()[lacking], keys.to_pylist(), self._end)

    def find(self, finished: FinishedStage, ids: Sequence[bytes], uids: Sequence[str]) -> dict[bytes, Receipt]:
        """Return receipts, without keys, for the input ids of some samples that have a result of a stage.

        Args:
            finished: The stage.
            ids: The samples' input ids.
            uids: The samples.
        """
        if not uids:
            return {}
        folder = self.store.folder(finished.stage, finished.key)
        files = find_results(files_of(folder, span_of(uids)), ids)
        names, found = [field.name for field in finished.stage.provides], dict[bytes, Receipt]()
        for name in sorted(set(files.values())):
            here = [key for key, file in files.items() if file == name]
            for key, result in zip(here, read_results(folder / name, here, names), strict=True):
                found[key] = Receipt.of(finished.stage, key, name, result)
        return found

    @property
    def _end(self) -> int:
        return len(self._finished)

    def _rows(self) -> Positions:
        return np.flatnonzero(self._there(self._end))

    def _uids_of(self, rows: Positions) -> list[str]:
        digits = self._source["uid"][rows].tobytes().hex()
        return [digits[start : start + UID_HEX_CHARS] for start in range(0, len(digits), UID_HEX_CHARS)]

    def _there(self, end: int) -> Bools:
        """Return which samples reach the stage `end`."""
        for number in range(len(self._present) - 1, end):
            there = self._present[number]
            if self._finished[number].stage.drops:
                there = there & _is_true(self._result(number)["input_id"].is_valid()) & ~self._dropped(number)
            self._present.append(there)
        return self._present[end]

    def _dropped(self, number: int) -> Bools:
        return _is_true(self._result(number)["dropped"])

    def _providers(self, names: Collection[str], end: int) -> Iterator[tuple[int, list[Field]]]:
        """Yield the stages before `end` that provide some of the fields, and which."""
        for number, finished in enumerate(self._finished[:end]):
            if fields := [field for field in finished.stage.provides if field.name in names]:
                yield number, fields

    def _keys(self, names: Sequence[str], end: int) -> pa.Array:
        """Return the keys of fields before the stage `end`; null for samples that are not there, or lack a value."""
        if self._last_keys[:2] != (tuple(names), end):
            self._last_keys = (tuple(names), end, self._make_keys(names, end))
        return self._last_keys[2]

    def _make_keys(self, names: Sequence[str], end: int) -> pa.Array:
        import pyarrow as pa

        there = self._there(end)
        columns = [self._source[name] for name in names if name in self._source]
        for number, _ in self._providers(names, end):
            results = self._result(number)["result_id"]
            there = there & _is_true(results.is_valid())
            columns.append(_as_ids(results))
        rows, prefix, width = np.flatnonzero(there), canonical(list(names)), _ID_BYTES * len(columns)
        hashes = bytearray()
        for first in range(0, len(rows), _KEYS_AT_ONCE):
            here = rows[first : first + _KEYS_AT_ONCE]
            data = np.concatenate([column[here] for column in columns], axis=1).tobytes()
            hashes += b"".join(
                blake3(prefix + data[start : start + width]).digest(length=_ID_BYTES)
                for start in range(0, len(data), width)
            )
        places = np.full(len(there), -1)
        places[rows] = np.arange(len(rows))
        found = pa.FixedSizeBinaryArray.from_buffers(pa.binary(_ID_BYTES), len(rows), [None, pa.py_buffer(hashes)])
        return found.take(pa.array(places, mask=places < 0))

    def _result(self, number: int) -> pa.Table:
        """Return what is kept in memory of a stage's receipts: one row for each sample, null without a result."""
        if number not in self._results:
            found = self._look_up(number).select(["input_id", "file", "result_id", "dropped"]).combine_chunks()
            self._results[number] = found.set_column(1, "file", found["file"].dictionary_encode())
        return self._results[number]

    def _look_up(self, number: int) -> pa.Table:
        """Return the receipts of a stage, one row for each sample; null without a result.

        Raises:
            LookupError: there is none of a sample that reaches the stage.
        """
        import pyarrow as pa

        finished = self._finished[number]
        stage, folder = finished.stage, self.store.folder(finished.stage, finished.key)
        keys, known = self._keys(_key_fields(stage), number), read_receipts(folder, self._partition)
        found = places_of(keys, known, "key")
        lacking = np.flatnonzero(_is_true(keys.is_valid()) & _is_true(found.is_null()))
        if len(lacking):
            made = receipts_table(self._find(finished, lacking, keys.take(lacking).to_pylist(), number))
            known = pa.concat_tables([known, made]).combine_chunks()
            found = places_of(keys, known, "key")
            lost = np.flatnonzero(_is_true(keys.is_valid()) & _is_true(found.is_null()))
            if len(lost) and not self._partial:
                raise LookupError(f"store has no result of '{stage.name}' for sample {self._uids_of(lost[:1])[0]}")
        return known.take(found)

    def _find(self, finished: FinishedStage, rows: Positions, keys: Sequence[bytes], end: int) -> list[Receipt]:
        """Return receipts for those of some samples that have a result of a stage, by their values."""
        if isinstance(finished.stage, IndexedStage):
            ids = [bytes.fromhex(uid) for uid in self._uids_of(rows)]
        else:
            ids = list(self._compute(finished.stage, rows, end))
        found = self.find(finished, ids, self._uids_of(rows))
        return [found[input_id]._replace(key=key) for key, input_id in zip(keys, ids, strict=True) if input_id in found]

    def _compute(self, stage: Stage, rows: Positions, end: int) -> Iterator[bytes]:
        """Yield the input ids of some samples, from the values of the fields that the stage requires."""
        names = stage.required_fields()
        for start in range(0, len(rows), _SAMPLES_AT_ONCE):
            for item in self._encoded(names, rows[start : start + _SAMPLES_AT_ONCE], end):
                yield input_id_of(names, item.encoded)

    def _encoded(self, names: Collection[str], rows: Positions, end: int) -> list[EncodedSample]:
        return self._filled(_encoded_samples(self.snapshot, tuple(self._uids_of(rows))), names, rows, end)

    def _filled(
        self, samples: Sequence[EncodedSample], names: Collection[str], rows: Positions, end: int
    ) -> list[EncodedSample]:
        """Return samples, which are those of `rows`, with the fields that stages before `end` provide."""
        items = list(samples)
        for number, fields in self._providers(names, end):
            results = self._read(number, rows, [field.name for field in fields])
            items = [
                EncodedSample(item.source, {**item.encoded, **result.values}, (*item.added, *fields))
                for item, result in zip(items, results, strict=True)
            ]
        return items

    def _read(self, number: int, rows: Positions, fields: Sequence[str]) -> list[StageResult]:
        """Return a stage's results for some samples."""
        found: dict[int, StageResult] = {}
        for path, places, ids in self._files(number, rows):
            found |= zip(places.tolist(), read_results(path, ids, fields), strict=True)
        return [found[place] for place in range(len(rows))]

    def _files(self, number: int, rows: Positions) -> Iterator[tuple[Path, Positions, list[bytes]]]:
        """Yield each file with results of a stage for some samples, which of these they are, and their input ids."""
        finished = self._finished[number]
        folder = self.store.folder(finished.stage, finished.key)
        found = self._result(number).take(rows).combine_chunks()
        files = found["file"].combine_chunks()
        codes = files.indices.to_numpy()
        for code in np.unique(codes).tolist():
            places = np.flatnonzero(codes == code)
            yield folder / files.dictionary[code].as_py(), places, found["input_id"].take(places).to_pylist()


def _key_fields(stage: Stage) -> tuple[str, ...]:
    """Return the fields by whose values the receipts of a stage's results are found."""
    return ("uid",) if isinstance(stage, IndexedStage) else _input_fields(stage)


def _input_fields(stage: Stage) -> tuple[str, ...]:
    """Return the fields by whose values the receipts of a stage's inputs are found.

    The uid is one of them, so that a sample's receipt lies where its partition is read, also if another one has the same input.
    """
    return ("uid", *(name for name in stage.required_fields() if name != "uid"))


def _is_true(column: pa.ChunkedArray | pa.Array) -> Bools:
    """Return a column of booleans as an array; null is false."""
    values: Bools = column.fill_null(False).to_numpy(zero_copy_only=False)
    return values


def _as_ids(column: pa.ChunkedArray) -> Ids:
    """Return a column of ids as an array; null ids have any bytes."""
    array = column.combine_chunks()
    first, count = array.offset * _ID_BYTES, len(array) * _ID_BYTES
    return np.frombuffer(array.buffers()[1], np.uint8, count, first).reshape(-1, _ID_BYTES)


@lru_cache(maxsize=_CACHED_PARTITIONS)
def _source_ids(snapshot: Snapshot, partition: Partition) -> Mapping[str, Ids]:
    """Return the ids of a partition's samples by field as the source has them; the snapshot has a hash of its content.

    The uid is the image's id.
    """
    ids = {name: bytearray() for name in ("uid", "captions", "split", "attributes", "name")}
    for batch in snapshot.batches(partition):
        for name in ids:
            ids[name] += _ids_of(name, batch[name].to_pylist())
    arrays = {name: np.frombuffer(data, np.uint8).reshape(-1, _ID_BYTES) for name, data in ids.items()}
    return arrays | {"image": arrays["uid"]}


def _ids_of(name: str, values: Sequence[Any]) -> bytes:
    """Return the ids of a field's values in the snapshot, one after another."""
    if name == "uid":
        return bytes.fromhex("".join(values))
    encoded = values if name == "attributes" else [canonical(value) for value in values]
    known = {value: blake3(value).digest(length=_ID_BYTES) for value in set(encoded)}  # many have the same split
    return b"".join([known[value] for value in encoded])


@lru_cache(maxsize=_CACHED_PARTITIONS)
def _encoded_samples(snapshot: Snapshot, uids: tuple[str, ...]) -> tuple[EncodedSample, ...]:
    """Return samples as the source has them; the snapshot has a hash of its content."""
    return tuple(map(encode_sample, snapshot.samples_of(uids)))


@lru_cache(maxsize=_CACHED_PARTITIONS)
def _source_samples(snapshot: Snapshot, uids: tuple[str, ...]) -> tuple[Sample, ...]:
    return tuple(snapshot.samples_of(uids))


def release_samples() -> None:
    """Forget the samples that are kept for the next stage, and give free memory back to the system."""
    import pyarrow as pa

    for kept in (_source_ids, _encoded_samples, _source_samples):
        kept.cache_clear()
    pa.default_memory_pool().release_unused()


def inputs_hash(keys: Iterable[tuple[bytes, str]]) -> str:
    """Return the hash of all samples' input ids and uids, in uid order."""
    hasher = blake3()
    for key, uid in keys:
        hasher.update(key + uid.encode())
    return hasher.hexdigest(length=16)
