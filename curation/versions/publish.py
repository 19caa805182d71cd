"""Publication: turn finished stages into a folder of shards, sidecars and an index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from blake3 import blake3

from curation.engine.intake import Snapshot
from curation.engine.replay import EncodedSample, FinishedStage, WorkUnit, replay
from curation.engine.stage import Field, Stage
from curation.engine.store import partitions
from curation.versions.layout import difficulty_band
from curation.versions.statistics import StatisticsCounter
from curation.versions.tables import RejectsWriter, write_drops, write_index, write_json, write_sidecar
from data_manifests.errors import InputError
from data_manifests.sample import ImageRef, Sample, image_uid
from data_manifests.seeds import canonical
from data_manifests.shards import (
    ShardWriter,
    WrittenFile,
    sample_key,
    shard_name,
    split_into_shards,
)

DEFAULT_SHARD_BYTES = 64 * 2**20

_BLANK: Mapping[str, dict[str, Any]] = {
    "negatives": {"tokens": [], "difficulty": None, "scores": "{}", "against": ""},
    "views": {},
}
"""Keys that every published record has: readers that put JSON into typed tables want them uniform."""
_LISTED = tuple(_BLANK)
"""Roles whose records several stages add to one published list."""

_TEXT_OVERHEAD_BYTES = 4 * 512
"""Tar headers and padding of a sample's three members, roughly; only shard boundaries depend on it."""


@dataclass(slots=True)
class _SpooledSample:
    """What must be known of a sample to place it and to find its payload again."""

    uid: str
    image: ImageRef
    extension: str
    order: tuple[int, float, str]
    payload_offset: int
    payload_bytes: int
    arrays: dict[str, tuple[int, int]]
    index: dict[str, Any]


@dataclass
class _Spool:
    """Payloads on disk in uid order, so that writing shards in another order needs no memory for them."""

    file: BinaryIO
    entries: list[_SpooledSample] = field(default_factory=list)

    def put(self, data: bytes) -> tuple[int, int]:
        offset = self.file.tell()
        self.file.write(data)
        return offset, len(data)

    def get(self, place: tuple[int, int]) -> bytes:
        self.file.seek(place[0])
        return self.file.read(place[1])


@dataclass(frozen=True)
class VersionContents:
    """A finished folder: its files and what the manifest says of them."""

    files: list[WrittenFile]
    shards: list[dict[str, Any]]
    counts: dict[str, Any]
    statistics: dict[str, Any]
    published: list[dict[str, str]]


def write_contents(
    folder: Path,
    done: Sequence[FinishedStage],
    snapshot: Snapshot,
    store: Path,
    layout: tuple[int, int],
    progress: Callable[[int], None] | None = None,
) -> VersionContents:
    """Write shards, sidecars, index, sizes and the list of drops into an empty folder.

    Samples lie cluster by cluster, within a cluster by band of difficulty (without bands, by difficulty), then by uid.

    Args:
        folder: An empty folder that no reader looks at.
        done: All stages, with where their results lie.
        snapshot: The samples.
        store: The memo store.
        layout: Wished bytes of a shard, and bands of difficulty (0: none).
        progress: Called with the number of samples written so far.
    """
    shard_bytes, bands = layout
    specs = [(done_stage.stage, spec) for done_stage in done for spec in done_stage.stage.provides]
    passed_on = {name for item in done for name in item.stage.superseded_fields()}
    published = [(stage, spec) for stage, spec in specs if spec.publish != "store" and spec.name not in passed_on]
    tally = StatisticsCounter()
    refusing = any(spec.role == "rejects" for _, spec in specs)
    rejects = RejectsWriter(folder / "rejected.parquet") if refusing else None
    with open(folder / ".spool", "w+b") as file:
        spool = _Spool(file)
        counted = [(stage, spec) for stage, spec in specs if spec.role in ("rejects", "usage", "finding")]
        _spool_all(spool, done, snapshot, store, published, counted, tally, rejects)
        entries = sorted(
            spool.entries, key=lambda one: (one.order[0], difficulty_band(one.order[1], bands), one.order[2])
        )
        files, shards, rows = _write_shards(folder, spool, entries, published, shard_bytes, progress)
    (folder / ".spool").unlink()
    files.append(write_index(folder, rows))
    files.append(write_json(folder / "sizes.json", {shard["name"]: shard["samples"] for shard in shards}))
    files.append(write_drops(folder, snapshot, tally.drops))
    if rejects is not None:
        files.append(rejects.finish())
    counts = tally.counts(snapshot)
    return VersionContents(
        files,
        shards,
        counts,
        tally.statistics(),
        [
            {
                "name": spec.role if spec.role in _LISTED else spec.name,
                "stage": stage.name,
                "where": spec.publish,
            }
            for stage, spec in published
        ],
    )


def _spool_all(
    spool: _Spool,
    done: Sequence[FinishedStage],
    snapshot: Snapshot,
    store: Path,
    published: Sequence[tuple[Stage, Field]],
    counted: Sequence[tuple[Stage, Field]],
    tally: StatisticsCounter,
    rejects: RejectsWriter | None,
) -> None:
    need = [spec.name for _, spec in (*published, *counted)]
    for part in partitions(snapshot.num_samples):
        unit = WorkUnit(done[-1].stage, tuple(done), snapshot.folder, store, part)
        for item in replay(unit, need, tally.drop):
            entry, listed = _spool_one(spool, item, published)
            spool.entries.append(entry)
            tally.sample(item.sample, entry.index, listed["negatives"], listed["views"])
            for stage, spec in counted:
                value = item.sample[spec.name]
                if spec.role != "rejects":
                    (tally.usage if spec.role == "usage" else tally.finding)(stage, value)
                    continue
                tally.rejects(stage, value)
                if rejects is not None:
                    rejects.add(item.sample.uid, stage.name, value)


def _spool_one(
    spool: _Spool, item: EncodedSample, published: Sequence[tuple[Stage, Field]]
) -> tuple[_SpooledSample, dict[str, list[dict[str, Any]]]]:
    sample = item.sample
    listed = {
        role: [
            {"source": stage.name} | _BLANK[role] | record | ({"kind": spec.name} if role == "views" else {})
            for stage, spec in published
            if spec.role == role
            for record in sample[spec.name]
        ]
        for role in _LISTED
    }
    payload = _payload(sample, listed)
    index: dict[str, Any] = {
        "image_ext": sample["image_info"]["extension"],
        "width": payload["width"],
        "height": payload["height"],
        "split": sample.split,
        "num_captions": len(sample.captions),
        "num_negatives": len(listed["negatives"]),
        "num_views": len(listed["views"]),
        "h_split": hash64(item.encoded["split"]),
        "h_captions": hash64(item.encoded["captions"]),
        "h_attributes": hash64(item.encoded["attributes"]),
        "h_negatives": hash64(canonical(listed["negatives"])),
        "h_views": hash64(canonical(listed["views"])),
    }
    arrays = {}
    for _, spec in published:
        if spec.role == "views":
            # trainers that read one key of the JSON take the next of their list when this one is empty
            payload[spec.name] = next((record["text"] for record in sample[spec.name]), "")
        if spec.role in _LISTED or spec.name == "image_info":
            continue
        if spec.kind == "array":
            arrays[spec.name] = spool.put(item.encoded[spec.name])
        else:
            payload[spec.name] = sample[spec.name]
        if spec.publish == "index":
            index[spec.name] = sample[spec.name]
        else:
            index[f"h_{spec.name}"] = hash64(item.encoded[spec.name])
    order = (sample.fields.get("cluster_id", 0), sample.fields.get("difficulty", 0.0), sample.uid)
    offset, length = spool.put(orjson.dumps(payload))
    return _SpooledSample(
        sample.uid, sample.image, sample["image_info"]["extension"], order, offset, length, arrays, index
    ), listed


def _payload(sample: Sample, listed: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return what a sample's JSON holds whatever the recipe; keys and spellings as img2dataset's where it has them."""
    info = sample["image_info"]
    return {
        "uid": sample.uid,
        "name": sample.name,
        "split": sample.split,
        "url": sample.attributes.get("url"),
        "captions": list(sample.captions),
        "negatives": listed["negatives"],
        "views": listed["views"],
        # as text: readers that put JSON into typed tables cannot hold values of changing shape
        "attributes": canonical(dict(sample.attributes)).decode(),
        "width": info["width"],
        "height": info["height"],
        "original_width": info["width"],
        "original_height": info["height"],
        "status": "success",
        "error_message": None,
    }


def hash64(data: bytes) -> int:
    """Return 64 bits that change when the field changes; what `diff` compares first."""
    return int.from_bytes(blake3(data).digest(length=8), "little")


def _write_shards(
    folder: Path,
    spool: _Spool,
    entries: list[_SpooledSample],
    published: Sequence[tuple[Stage, Field]],
    shard_bytes: int,
    progress: Callable[[int], None] | None,
) -> tuple[list[WrittenFile], list[dict[str, Any]], list[dict[str, Any]]]:
    files: list[WrittenFile] = []
    shards: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    arrays = [spec for _, spec in published if spec.kind == "array"]
    sizes = [item.image.size_bytes + item.payload_bytes + _TEXT_OVERHEAD_BYTES for item in entries]
    for number, (first, end) in enumerate(split_into_shards(sizes, shard_bytes)):
        sidecar = []
        with ShardWriter(folder / shard_name(number)) as writer:
            for position, entry in enumerate(entries[first:end]):
                row, payload = _write_sample(writer, spool, entry, sample_key(number, position))
                rows.append({"uid": entry.uid, "shard": number, **row, **entry.index})
                decoded = {spec.name: spec.decode(spool.get(entry.arrays[spec.name])) for spec in arrays}
                sidecar.append({**payload, **decoded})
                if progress:
                    progress(len(rows))
            written = writer.finish()
        files.append(written)
        shards.append({**written.to_json(), "samples": end - first})
        files.append(write_sidecar(folder / f"{number:05d}.parquet", sidecar, arrays))
        stats = {"count": end - first, "successes": end - first, "status_dict": {"success": end - first}}
        files.append(write_json(folder / f"{number:05d}_stats.json", stats))
    return files, shards, rows


def _write_sample(
    writer: ShardWriter, spool: _Spool, entry: _SpooledSample, key: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    data = entry.image.read()
    if image_uid(data) != entry.uid:
        raise InputError(
            f"{entry.image.path}: image was changed while the data set was being made", fix="run the same command again"
        )
    payload = orjson.loads(spool.get((entry.payload_offset, entry.payload_bytes)))
    payload |= {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "caption": payload["captions"][0]}
    views = {f"caption_{number}": text for number, text in enumerate(payload["captions"]) if number}
    image = writer.add(f"{key}.{entry.extension}", data)
    member = writer.add(f"{key}.json", canonical({**payload, **views}))
    text = writer.add(f"{key}.txt", payload["caption"].encode())
    return {
        "key": key,
        "image_offset": image.offset,
        "image_bytes": image.size_bytes,
        "json_offset": member.offset,
        "json_bytes": member.size_bytes,
        "text_offset": text.offset,
        "text_bytes": text.size_bytes,
    }, payload
