"""Replay: samples as they are after a list of finished stages, read from the snapshot and the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from blake3 import blake3

from curation.engine.fits import FitRecord
from curation.engine.intake import Snapshot
from curation.engine.stage import Drop, Field, IndexedStage, Stage
from curation.engine.store import PREFIXES, Partition, StageResult, Store, input_id_of, partitions
from data_manifests.sample import REQUIRABLE, Sample
from data_manifests.seeds import canonical

ALL_SAMPLES = Partition(0, PREFIXES - 1)

_CACHED_PARTITIONS = 16
"""Partitions, of about 512 samples, whose samples a process keeps for the next stage."""


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
    """

    stage: Stage
    upstream: tuple[FinishedStage, ...]
    snapshot: Path
    store: Path
    partition: Partition
    fit: str = ""


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


def replay(
    unit: WorkUnit,
    fields: Iterable[str],
    on_drop: Callable[[Stage, Sample, Drop], None] | None = None,
    *,
    partial: bool = False,
) -> list[EncodedSample]:
    """Return a partition's samples as they are after the upstream stages, with the given fields filled in.

    Args:
        unit: Partition, upstream stages and where their results are.
        fields: Fields that the caller will read.
        on_drop: Called for every sample that a stage dropped.
        partial: Leave out samples that lack a result, instead of raising.

    Raises:
        LookupError: the store lacks a result of an upstream stage.
    """
    needed = _fields_to_load([finished.stage for finished in unit.upstream], fields)
    store = Store(unit.store)
    samples: Sequence[EncodedSample] = _encoded_partition(Snapshot.load(unit.snapshot), unit.partition)
    for finished in unit.upstream:
        stage = finished.stage
        added = [field for field in stage.provides if field.name in needed]
        if added or stage.drops:
            folder = store.folder(stage, finished.key)
            results = store.rows(folder, unit.partition, [field.name for field in added])
            samples = list(_add_results(stage, samples, results, added, on_drop, partial=partial))
    return list(samples)


@lru_cache(maxsize=_CACHED_PARTITIONS)
def _encoded_partition(snapshot: Snapshot, partition: Partition) -> tuple[EncodedSample, ...]:
    """Return the samples of a partition as the source has them; the snapshot has a hash of its content."""
    return tuple(encode_sample(sample) for sample in snapshot.samples(partition))


def _add_results(
    stage: Stage,
    samples: Sequence[EncodedSample],
    results: Mapping[bytes, StageResult],
    fields: Sequence[Field],
    on_drop: Callable[[Stage, Sample, Drop], None] | None,
    *,
    partial: bool,
) -> Iterator[EncodedSample]:
    names, by_uid = stage.required_fields(), isinstance(stage, IndexedStage)
    for item in samples:
        result = results.get(bytes.fromhex(item.uid) if by_uid else input_id_of(names, item.encoded))
        if result is None and partial:
            continue
        if result is None:
            raise LookupError(f"store has no result of '{stage.name}' for sample {item.uid}")
        if result.drop is not None:
            if on_drop:
                on_drop(stage, item.source, result.drop)
            continue
        yield EncodedSample(item.source, {**item.encoded, **result.values}, (*item.added, *fields))


def _fields_to_load(stages: Sequence[Stage], fields: Iterable[str]) -> set[str]:
    """Return the fields to load for `fields` and for the input id of every stage on the way."""
    needed = set(fields)
    for stage in reversed(stages):
        if not isinstance(stage, IndexedStage) and (stage.drops or needed & {field.name for field in stage.provides}):
            needed |= set(stage.required_fields())
    return needed - set(REQUIRABLE)


def replay_partitions(unit: WorkUnit, fields: Iterable[str]) -> Iterator[list[EncodedSample]]:
    """Yield `replay` of every partition of the data set, in uid order."""
    names = tuple(fields)
    for part in partitions(Snapshot.load(unit.snapshot).num_samples):
        yield replay(replace(unit, partition=part), names)


def inputs_hash(keys: Iterable[tuple[bytes, str]]) -> str:
    """Return the hash of all samples' input ids and uids, in uid order."""
    hasher = blake3()
    for key, uid in keys:
        hasher.update(key + uid.encode())
    return hasher.hexdigest(length=16)


def partition_key(unit: WorkUnit) -> str:
    """Return a hash of everything that the inputs of a unit are computed from: samples and results of upstream stages.

    While it stays the same, the results that the unit has computed are complete.
    """
    store, needed = (
        Store(unit.store),
        _fields_to_load([finished.stage for finished in unit.upstream], unit.stage.required_fields()),
    )
    parts: list[object] = [Snapshot.load(unit.snapshot).content_of(unit.partition)]
    for finished in unit.upstream:
        stage = finished.stage
        if not stage.drops and needed.isdisjoint(field.name for field in stage.provides):
            continue
        if isinstance(stage, IndexedStage):  # its files are named by their content
            files = store.files(store.folder(stage, finished.key), unit.partition)
            parts.append([stage.name, [path.name for path in files]])
        else:
            parts.append([stage.name, stage.fingerprint(), finished.key])
    return blake3(canonical(parts)).hexdigest(length=16)
