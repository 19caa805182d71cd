"""Publication: writes the results of finished stages as a folder of shards, sidecars and an index."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from blake3 import blake3

from curation.engine.fits import fit_path
from curation.engine.intake import Snapshot
from curation.engine.replay import EncodedSample, FinishedStage, Replay
from curation.engine.stage import Field, Stage
from curation.engine.store import Store, partitions
from curation.versions.layout import difficulty_band
from curation.versions.statistics import StatisticsCounter
from curation.versions.tables import RejectsWriter, VersionContents, drops_table, fit_file, index_table, sidecar_table
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from data_manifests.seeds import canonical
from data_manifests.shards import ShardWriter, sample_key, shard_name, split_into_shards

DEFAULT_SHARD_BYTES = 64 * 2**20

_DEFAULTS: Mapping[str, dict[str, Any]] = {
    "negatives": {"tokens": [], "difficulty": None, "scores": "{}", "against": ""},
    "views": {},
}
"""Roles whose records are published as one list of all stages -> keys that every record of it has.

Readers that put JSON into typed tables need the same keys everywhere.
"""

_TEXT_UNIT_BYTES = 1024
"""To how much the mean size of a sample's texts is rounded up where shards are divided."""

_PublishedFields = Sequence[tuple[Stage, Field]]


@dataclass(slots=True)
class _SpooledSample:
    """What is in memory of a sample until its shard is written; its payload and arrays are in the spool.

    Attributes:
        uid: The sample's uid.
        image: Its image.
        order: Cluster, band of difficulty, uid: the order of samples in the version.
        payload: Offset and length of its JSON in the spool.
        arrays: Offset and length of each array field in the spool.
        index: Its columns of index.parquet, except those of its place in a shard.
    """

    uid: str
    image: ImageRef
    order: tuple[int, int, str]
    payload: tuple[int, int]
    arrays: dict[str, tuple[int, int]]
    index: dict[str, Any]


class _Spool:
    """Payloads on disk in uid order, so that writing shards in another order needs no memory for them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def put(self, data: bytes) -> tuple[int, int]:
        offset = self._file.tell()
        self._file.write(data)
        return offset, len(data)

    def get(self, position: tuple[int, int]) -> bytes:
        self._file.seek(position[0])
        return self._file.read(position[1])


def write_contents(
    folder: Path,
    finished: Sequence[FinishedStage],
    snapshot: Snapshot,
    store: Path,
    shard_bytes: int,
    bands: int,
    progress: Callable[[int], None] | None = None,
) -> VersionContents:
    """Write shards, sidecars, index, sizes and the list of drops into an empty folder.

    Samples are sorted by cluster, then by band of difficulty if there are bands, then by uid.

    Args:
        folder: An empty folder that is not published yet.
        finished: All stages, with where their results are.
        snapshot: The samples.
        store: The memo store.
        shard_bytes: Target size of a shard.
        bands: Bands of difficulty; 0 for none.
        progress: Called with the number of samples written so far.
    """
    fields = [(item.stage, field) for item in finished for field in item.stage.provides]
    superseded = {name for item in finished for name in item.stage.superseded_fields()}
    published = [(stage, field) for stage, field in fields if field.publish != "store" and field.name not in superseded]
    counted = [(stage, field) for stage, field in fields if field.role in ("rejects", "usage", "finding")]
    counter = StatisticsCounter()
    has_rejects = "rejects" in [field.role for _, field in counted]
    rejects = RejectsWriter(folder / "rejected.parquet") if has_rejects else None
    contents = VersionContents(folder, _describe_fields(published))
    samples: list[_SpooledSample] = []
    with open(folder / ".spool", "w+b") as file:
        spool = _Spool(file)
        for part in partitions(snapshot.num_samples):
            replayed = Replay(snapshot, Store(store), part, finished)
            for drop in replayed.drops():
                counter.add_drop(*drop)
            for item in replayed.encoded([field.name for _, field in (*published, *counted)]):
                sample = item.sample
                lists = {role: _records(sample, published, role) for role in _DEFAULTS}
                samples.append(_spool_sample(spool, item, sample, published, lists, bands))
                counter.add_sample(sample, samples[-1].index, lists["negatives"], lists["views"])
                for stage, field in counted:
                    counter.add_field(stage, field.role, sample[field.name])
                    if rejects is not None and field.role == "rejects":
                        rejects.add(sample.uid, stage.name, sample[field.name])
        samples.sort(key=attrgetter("order"))
        index = _write_shards(contents, spool, samples, published, shard_bytes, progress)
    (folder / ".spool").unlink()
    contents.add_index(index_table(index))
    contents.add_table("dropped.parquet", drops_table(snapshot, counter.drops))
    if rejects is not None:
        rejects.close()
        contents.add_file("rejected.parquet")
    _add_fits(contents, finished, Store(store))
    contents.counts, contents.statistics = counter.counts(snapshot), counter.statistics()
    return contents


def _describe_fields(published: _PublishedFields) -> list[dict[str, str]]:
    """Return the manifest's list of published fields."""
    return [
        {"name": field.role if field.role in _DEFAULTS else field.name, "stage": stage.name, "where": field.publish}
        for stage, field in published
    ]


def _add_fits(contents: VersionContents, finished: Sequence[FinishedStage], store: Store) -> None:
    """Copy the fits into the version's folder, so that they travel with it."""
    for item in finished:
        if item.fit is not None:
            contents.add_copy(fit_path(store.folder(item.stage), item.fit.hash), fit_file(item.stage.name))


def _records(sample: Sample, published: _PublishedFields, role: str) -> list[dict[str, Any]]:
    """Return a sample's records of all fields with a role."""
    return [
        {"source": stage.name} | _DEFAULTS[role] | record | ({"kind": field.name} if role == "views" else {})
        for stage, field in published
        if field.role == role
        for record in sample[field.name]
    ]


def _spool_sample(
    spool: _Spool,
    item: EncodedSample,
    sample: Sample,
    published: _PublishedFields,
    lists: Mapping[str, list[dict[str, Any]]],
    bands: int,
) -> _SpooledSample:
    payload = _payload(sample, lists)
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
    arrays = {}
    for _, field in published:
        name = field.name
        if field.role == "views":
            # trainers that read one key of the JSON take the next of their list when this one is empty
            payload[name] = next((record["text"] for record in sample[name]), "")
        if field.role in _DEFAULTS or name == "image_info":
            continue
        if field.kind == "array":
            arrays[name] = spool.put(item.encoded[name])
        else:
            payload[name] = sample[name]
        if field.publish == "index":
            index[name] = sample[name]
        else:
            index[f"h_{name}"] = hash64(item.encoded[name])
    band = difficulty_band(sample.fields.get("difficulty", 0.0), bands)
    order = (sample.fields.get("cluster_id", 0), band, sample.uid)
    return _SpooledSample(sample.uid, sample.image, order, spool.put(orjson.dumps(payload)), arrays, index)


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


def _write_shards(
    contents: VersionContents,
    spool: _Spool,
    samples: Sequence[_SpooledSample],
    published: _PublishedFields,
    shard_bytes: int,
    progress: Callable[[int], None] | None,
) -> list[dict[str, Any]]:
    """Write all shards with their sidecars; return the rows of the index."""
    rows: list[dict[str, Any]] = []
    arrays = [field for _, field in published if field.kind == "array"]
    # the mean, not each one's own size: an edited caption then moves no sample to another shard
    mean_text = sum(sample.payload[1] for sample in samples) / max(len(samples), 1)
    text_bytes = math.ceil(mean_text / _TEXT_UNIT_BYTES) * _TEXT_UNIT_BYTES
    sizes = [sample.image.size_bytes + text_bytes for sample in samples]
    for number, (first, end) in enumerate(split_into_shards(sizes, shard_bytes)):
        sidecar = []
        with ShardWriter(contents.folder / shard_name(number)) as writer:
            for position, sample in enumerate(samples[first:end]):
                row, payload = _write_sample(writer, spool, sample, sample_key(number, position))
                rows.append({"uid": sample.uid, "shard": number, **row, **sample.index})
                decoded = {field.name: field.decode(spool.get(sample.arrays[field.name])) for field in arrays}
                sidecar.append({**payload, **decoded})
                if progress:
                    progress(len(rows))
            shard = writer.finish()
        contents.add_shard(number, shard, sidecar_table(sidecar, arrays))
    return rows


def _write_sample(
    writer: ShardWriter, spool: _Spool, sample: _SpooledSample, key: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write a sample's three members; return its key and offsets, and its JSON."""
    data = sample.image.read()
    if image_uid(data) != sample.uid:
        raise InputError(
            f"{sample.image.path}: the image changed while the data set was written", fix="run the same command again"
        )
    payload = orjson.loads(spool.get(sample.payload))
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
