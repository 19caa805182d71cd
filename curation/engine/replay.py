"""Replay: samples as they stand after a list of finished stages, read back from the snapshot and the store."""

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
    """One stage over one partition: all that a worker needs to know."""

    stage: Stage
    upstream: tuple[FinishedStage, ...]
    snapshot: Path
    store: Path
    partition: Partition


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """A sample together with the canonical bytes of its fields, from which input ids are made."""

    sample: Sample
    encoded: Mapping[str, bytes]


def encode_sample(sample: Sample) -> EncodedSample:
    """Encode a fresh sample's built-in fields; an image is known by its uid."""
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
    need: Iterable[str],
    on_drop: Callable[[Stage, Sample, Drop], None] | None = None,
    *,
    partial: bool = False,
) -> list[EncodedSample]:
    """Return a partition's samples as they stand after the upstream stages, with the needed fields filled in.

    Args:
        unit: Partition, upstream stages and where their results lie.
        need: Fields that the caller will read.
        on_drop: Called for every sample that a stage dropped.
        partial: Leave out samples that lack a result, instead of raising.

    Raises:
        LookupError: the store lacks a result that an upstream stage should have left there.
    """
    wanted = _closure([done.stage for done in unit.upstream], need)
    store = Store(unit.store)
    held = [encode_sample(sample) for sample in Snapshot.load(unit.snapshot).samples(unit.partition)]
    for done in unit.upstream:
        fields = [item for item in done.stage.provides if item.name in wanted]
        if not fields and not done.stage.drops:
            continue
        rows = store.rows(store.folder(done.stage, done.inputs), unit.partition, [item.name for item in fields])
        held = list(_apply(done, held, rows, fields, on_drop, partial=partial))
    return held


def _apply(
    done: FinishedStage,
    held: list[EncodedSample],
    rows: Mapping[bytes, StageResult],
    fields: Sequence[Field],
    on_drop: Callable[[Stage, Sample, Drop], None] | None,
    *,
    partial: bool,
) -> Iterator[EncodedSample]:
    for item in held:
        row = rows.get(result_id(done.stage, item))
        if row is None and partial:
            continue
        if row is None:
            raise LookupError(f"store has no result of '{done.stage.name}' for sample {item.sample.uid}")
        if row.drop is not None:
            if on_drop:
                on_drop(done.stage, item.sample, row.drop)
            continue
        added = {spec.name: spec.decode(row.values[spec.name]) for spec in fields}
        yield EncodedSample(item.sample.adding(added), {**item.encoded, **row.values})


def result_id(stage: Stage, held: EncodedSample) -> bytes:
    """Return the key of a sample's row: its input id, or for a corpus stage its uid."""
    return bytes.fromhex(held.sample.uid) if isinstance(stage, CorpusStage) else input_id(stage, held.encoded)


def _closure(stages: Sequence[Stage], need: Iterable[str]) -> set[str]:
    """Return the fields to load so that `need` and every stage's input id on the way can be had."""
    wanted = set(need)
    for stage in reversed(stages):
        if stage.drops or wanted & {item.name for item in stage.provides}:
            wanted |= set() if isinstance(stage, CorpusStage) else set(stage.required_fields())
    return wanted - set(REQUIRABLE)


def corpus_input_hash(stage: Stage, held: Sequence[EncodedSample]) -> str:
    """Return the hash of a corpus stage's inputs: what each sample, sorted by uid, brings to it."""
    return blake3(b"".join(input_id(stage, item.encoded) + item.sample.uid.encode() for item in held)).hexdigest(
        length=16
    )
