"""Samples on their way from the store to their shards: each one's texts, index columns and counts, written to a spool.

The unit of work is a span of samples. It is a pure function of what its arguments name, so that any process can run it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from blake3 import blake3

from curation.engine.engine import infrequent_garbage_collection
from curation.engine.intake import Snapshot
from curation.engine.replay import EncodedSample, FinishedStage, Positions, Replay, release_samples
from curation.engine.stage import Field, Stage
from curation.engine.store import Partition, Store
from curation.versions.spool import NUMBERS, SampleNumbers, SpooledSample, SpoolWriter
from curation.versions.statistics import count_sample
from data_manifests.sample import REQUIRABLE, Sample
from data_manifests.seeds import canonical

DEFAULTS: Mapping[str, dict[str, Any]] = {
    "negatives": {"tokens": [], "difficulty": None, "scores": "{}", "against": ""},
    "views": {},
}
"""Roles whose records are published as one list of all stages -> keys that every record of it has.

Readers that put JSON into typed tables need the same keys everywhere.
"""

PublishedFields = Sequence[tuple[Stage, Field]]

_SAMPLES_AT_ONCE = 512
"""Samples whose values are in memory at once."""


@dataclass(frozen=True)
class SpoolJob:
    """What is the same for all spans of a version.

    Attributes:
        snapshot: Folder of the snapshot.
        store: The memo store.
        finished: All stages, with where their results are.
        folder: Where the spool's files are written.
        published: The published fields.
        counted: The fields that are counted.
        generators: The stages that make negatives; None if there are none.
    """

    snapshot: Path
    store: Path
    finished: tuple[FinishedStage, ...]
    folder: Path
    published: PublishedFields
    counted: PublishedFields
    generators: Sequence[str] | None

    @property
    def field_names(self) -> list[str]:
        """Names of the fields that are read."""
        return [spec.name for _, spec in (*self.published, *self.counted)]

    @property
    def key_names(self) -> list[str]:
        """Names of the fields of which equal ones give equal published samples."""
        return [*self.field_names, *REQUIRABLE, "name"]


@dataclass(frozen=True)
class SpoolUnit:
    """A span of samples.

    Attributes:
        number: Its place among all spans, which is the number of its file.
        partition: The samples.
        positions: Which of the partition's samples that no stage dropped; the others are in the earlier version.
    """

    number: int
    partition: Partition
    positions: Positions


@dataclass
class SpooledSpan:
    """What is known of a span's samples without reading the spool, in their order.

    Attributes:
        numbers: Their numbers.
        uids: Their uids.
        num_negatives: Their numbers of negatives.
        findings: Values that are the same in every sample, by stage.
        rejects: Stage and records of what was rejected of each; empty for a recipe that rejects nothing.
    """

    numbers: SampleNumbers
    uids: list[str]
    num_negatives: list[int] = field(default_factory=list)
    findings: dict[str, Any] = field(default_factory=dict)
    rejects: list[list[tuple[str, Any]]] = field(default_factory=list)


def spool_unit(job: SpoolJob, unit: SpoolUnit) -> SpooledSpan:
    """Spool a span in a process that knows nothing of the samples yet."""
    with infrequent_garbage_collection():
        samples = Replay(Snapshot.load(job.snapshot), Store(job.store), unit.partition, job.finished)
        keys = samples.keys(job.key_names)
        found = spool_span(
            job, unit.number, samples, unit.positions, [keys[place] for place in unit.positions.tolist()]
        )
        release_samples()
    return found


def spool_span(job: SpoolJob, number: int, samples: Replay, positions: Positions, keys: Sequence[bytes]) -> SpooledSpan:
    """Write some samples to a file of the spool.

    Args:
        job: What is the same for all spans.
        number: The number of the file.
        samples: Samples after the stages.
        positions: Which of them.
        keys: Their keys.
    """
    found = SpooledSpan(np.zeros(len(positions), NUMBERS), samples.uids_at(positions))
    with SpoolWriter(job.folder, number) as writer:
        for row, (key, item) in enumerate(zip(keys, _encoded(job, samples, positions), strict=True)):
            found.numbers[row] = _spool(job, found, writer, key, item)
    return found


def _encoded(job: SpoolJob, samples: Replay, positions: Positions) -> Iterator[EncodedSample]:
    """Yield samples, of which some are in memory at once."""
    for first in range(0, len(positions), _SAMPLES_AT_ONCE):
        yield from samples.encoded(job.field_names, positions[first : first + _SAMPLES_AT_ONCE])
        release_samples()


def _spool(
    job: SpoolJob, span: SpooledSpan, writer: SpoolWriter, key: bytes, item: EncodedSample
) -> tuple[int, int, int, int, int, float]:
    """Write a sample to the spool, and add to its span what is known of it; return its numbers."""
    sample = item.sample
    lists = {role: records_of(sample, job.published, role) for role in DEFAULTS}
    payload, index, arrays = _encode(job.published, item, sample, lists)
    text = orjson.dumps(payload)
    values = [(stage.name, spec.role, sample[spec.name]) for stage, spec in job.counted]
    counted = count_sample(sample, index, lists["negatives"], lists["views"], values, job.generators)
    place = writer.put(SpooledSample(sample.uid, sample.image, index, text, key, canonical(counted), arrays))
    span.num_negatives.append(len(lists["negatives"]))
    for stage, role, value in values:
        if role == "finding":  # the same in every sample
            span.findings.setdefault(stage, value)
    if any(spec.role == "rejects" for _, spec in job.counted):
        span.rejects.append([(stage, value) for stage, role, value in values if role == "rejects"])
    order = index.get("cluster_id", 0), index.get("difficulty", 0.0)
    return -1, place, sample.image.size_bytes, len(text), *order


def records_of(sample: Sample, published: PublishedFields, role: str) -> list[dict[str, Any]]:
    """Return a sample's records of all fields with a role."""
    return [
        {"source": stage.name} | DEFAULTS[role] | record | ({"kind": spec.name} if role == "views" else {})
        for stage, spec in published
        if spec.role == role
        for record in sample[spec.name]
    ]


def _encode(
    published: PublishedFields, item: EncodedSample, sample: Sample, lists: Mapping[str, list[dict[str, Any]]]
) -> tuple[dict[str, Any], dict[str, Any], list[bytes]]:
    """Return a sample's JSON, columns of the index and encoded arrays."""
    payload, arrays = _payload(sample, lists), []
    index: dict[str, Any] = {
        "image_ext": sample["image_info"]["extension"],
        "width": payload["width"],
        "height": payload["height"],
        "shown_differently": sample["image_info"]["shown_differently"],
        "split": sample.split,
        "num_captions": len(sample.captions),
        **{f"num_{role}": len(records) for role, records in lists.items()},
        **{f"h_{name}": hash64(item.encoded[name]) for name in ("split", "captions", "attributes")},
        **{f"h_{role}": hash64(canonical(records)) for role, records in lists.items()},
    }
    for _, spec in published:
        name = spec.name
        if spec.role == "views":
            # trainers that read one key of the JSON take the next of their list when this one is empty
            payload[name] = next((record["text"] for record in sample[name]), "")
        if spec.role in DEFAULTS or name == "image_info":
            continue
        if spec.kind == "array":
            arrays.append(item.encoded[name])
        else:
            payload[name] = sample[name]
        if spec.publish == "index":
            index[name] = sample[name]
        else:
            index[f"h_{name}"] = hash64(item.encoded[name])
    return payload, index, arrays


def _payload(sample: Sample, lists: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the part of a sample's JSON that no recipe changes; keys and spelling are img2dataset's where it has them."""
    info = sample["image_info"]
    return {
        "uid": sample.uid,
        "name": sample.name,
        "split": sample.split,
        "url": sample.attributes.get("url"),
        "captions": list(sample.captions),
        "negatives": lists["negatives"],
        "views": lists["views"],
        # as text: readers that put JSON into typed tables cannot read values of varying types
        "attributes": canonical(dict(sample.attributes)).decode(),
        "width": info["width"],
        "height": info["height"],
        "original_width": info["width"],
        "original_height": info["height"],
        "status": "success",
        "error_message": None,
    }


def hash64(data: bytes) -> int:
    """Return a 64-bit hash of a field; `diff` compares these before it reads texts."""
    return int.from_bytes(blake3(data).digest(length=8), "little")
