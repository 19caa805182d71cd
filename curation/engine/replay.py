"""Replay: samples as they are after a list of finished stages, read from the snapshot and the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from curation.engine.intake import Snapshot
from curation.engine.stage import CorpusStage, Drop, Field, Stage
from curation.engine.store import PREFIXES, Partition, StageResult, Store, input_id
from data_manifests.sample import REQUIRABLE, Sample
from data_manifests.seeds import canonical

ALL_SAMPLES = Partition(0, PREFIXES - 1)


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """A stage whose results are in the store.

    Attributes:
        stage: The stage.
        inputs: For a corpus stage, the hash of its sorted inputs.
    """

    stage: Stage
    inputs: str = ""


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """One stage over one partition: everything a worker needs to know."""

    stage: Stage
    upstream: tuple[FinishedStage, ...]
    snapshot: Path
    store: Path
    partition: Partition


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """A sample and the canonical bytes of its fields, from which input ids are computed."""

    sample: Sample
    encoded: Mapping[str, bytes]


def encode_sample(sample: Sample) -> EncodedSample:
    """Encode the built-in fields of a sample without stage results; its uid stands for the image."""
    return EncodedSample(
        sample,
        {
            "uid": sample.uid.encode(),
            "image": sample.uid.encode(),
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
    samples = [encode_sample(sample) for sample in Snapshot.load(unit.snapshot).samples(unit.partition)]
    for finished in unit.upstream:
        stage = finished.stage
        added = [field for field in stage.provides if field.name in needed]
        if added or stage.drops:
            folder = store.folder(stage, finished.inputs)
            results = store.rows(folder, unit.partition, [field.name for field in added])
            samples = list(_add_results(stage, samples, results, added, on_drop, partial=partial))
    return samples


def _add_results(
    stage: Stage,
    samples: Sequence[EncodedSample],
    results: Mapping[bytes, StageResult],
    fields: Sequence[Field],
    on_drop: Callable[[Stage, Sample, Drop], None] | None,
    *,
    partial: bool,
) -> Iterator[EncodedSample]:
    for item in samples:
        result = results.get(result_id(stage, item))
        if result is None and partial:
            continue
        if result is None:
            raise LookupError(f"store has no result of '{stage.name}' for sample {item.sample.uid}")
        if result.drop is not None:
            if on_drop:
                on_drop(stage, item.sample, result.drop)
            continue
        added = {field.name: field.decode(result.values[field.name]) for field in fields}
        yield EncodedSample(item.sample.adding(added), {**item.encoded, **result.values})


def result_id(stage: Stage, item: EncodedSample) -> bytes:
    """Return the key of a sample's result: its input id, or for a corpus stage its uid."""
    return bytes.fromhex(item.sample.uid) if isinstance(stage, CorpusStage) else input_id(stage, item.encoded)


def _fields_to_load(stages: Sequence[Stage], fields: Iterable[str]) -> set[str]:
    """Return the fields to load for `fields` and for the input id of every map stage on the way."""
    needed = set(fields)
    for stage in reversed(stages):
        if not isinstance(stage, CorpusStage) and (stage.drops or needed & {field.name for field in stage.provides}):
            needed |= set(stage.required_fields())
    return needed - set(REQUIRABLE)


def corpus_input_hash(stage: Stage, samples: Sequence[EncodedSample]) -> str:
    """Return the hash of a corpus stage's inputs: every sample's input id and uid, sorted by uid."""
    inputs = b"".join(input_id(stage, item.encoded) + item.sample.uid.encode() for item in samples)
    return blake3(inputs).hexdigest(length=16)
