"""Publication: writes the results of finished stages as a folder of shards, sidecars and an index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
from blake3 import blake3

from curation.blind.judges import JudgedImages, PairSample
from curation.engine.engine import infrequent_garbage_collection
from curation.engine.fits import fit_path
from curation.engine.intake import Snapshot
from curation.engine.replay import EncodedSample, FinishedStage, Positions, Replay, release_samples
from curation.engine.stage import Field, Stage
from curation.engine.store import Store, partitions
from curation.versions.layout import Layout, difficulty_band
from curation.versions.reuse import EarlierVersion, records_schema
from curation.versions.spool import NUMBERS, SampleNumbers, Spool, SpooledSample
from curation.versions.statistics import CandidateCounter, StatisticsCounter, count_candidates, count_sample
from curation.versions.tables import REJECTS_FILE, IndexParts, RejectsWriter, VersionContents, drops_table, fit_file
from curation.versions.write_shards import write_shards
from data_manifests.sample import REQUIRABLE, Sample
from data_manifests.seeds import canonical
from data_manifests.tar_index import Int64Array

DEFAULT_SHARD_BYTES = 64 * 2**20

_DEFAULTS: Mapping[str, dict[str, Any]] = {
    "negatives": {"tokens": [], "difficulty": None, "scores": "{}", "against": ""},
    "views": {},
}
"""Roles whose records are published as one list of all stages -> keys that every record of it has.

Readers that put JSON into typed tables need the same keys everywhere.
"""

_PublishedFields = Sequence[tuple[Stage, Field]]


@infrequent_garbage_collection()
def write_contents(
    folder: Path,
    samples: Replay,
    layout: Layout,
    records: IO[bytes],
    before: EarlierVersion | None = None,
    progress: Callable[[int], None] | None = None,
) -> VersionContents:
    """Write shards, sidecars, index, sizes and the list of drops into an empty folder.

    Samples are sorted by cluster, then by band of difficulty if there are bands, then by uid. In memory are about fifty
    bytes of each while shards are written, and the columns of the index at the end.

    Args:
        folder: An empty folder that is not published yet.
        samples: All samples after the stages.
        layout: Target size of a shard, and bands of difficulty.
        records: An empty file, which receives what `save_record` writes for the next version.
        before: An earlier version: samples that are the same there are taken from its files. The bytes do not depend on it.
        progress: Called with the number of samples written so far.
    """
    finished = samples.finished
    fields = [(item.stage, field) for item in finished for field in item.stage.provides]
    superseded = {name for item in finished for name in item.stage.superseded_fields()}
    published = [(stage, field) for stage, field in fields if field.publish != "store" and field.name not in superseded]
    counted = [(stage, field) for stage, field in fields if field.role in ("rejects", "usage", "finding")]
    generators = generator_names([item.stage for item in finished])
    contents = VersionContents(folder, _describe_fields(published))
    if before is not None and before.version.manifest.body["fields"] != contents.fields:
        before = None
    with open(folder / ".spool", "w+b") as file:
        draft = _Draft(folder, Spool(file), published, counted, generators, before)
        draft.add_samples(samples)
        samples.forget()
        draft.write(contents, layout, records, progress)
        accuracy = draft.blind_accuracy() if draft.counter.has_enough_pairs else None
    (folder / ".spool").unlink()
    contents.add_table("dropped.parquet", drops_table(samples.snapshot, draft.counter.drops))
    if draft.rejects is not None:
        draft.rejects.close()
        contents.add_file(REJECTS_FILE)
    _add_fits(contents, finished, samples.store)
    contents.counts, contents.statistics = draft.counter.counts(samples.snapshot), draft.counter.statistics(accuracy)
    contents.judged = draft.judged
    return contents


def generator_names(stages: Sequence[Stage]) -> list[str]:
    """Return the names of the stages that make negatives; those that judge the negatives of others make none."""
    return [
        stage.name
        for stage in stages
        if any(field.role == "negatives" for field in stage.provides) and not stage.judges_negatives
    ]


def candidate_statistics(finished: Sequence[FinishedStage], snapshot: Snapshot, store: Path) -> dict[str, Any]:
    """Return the part of a manifest's statistics on negatives per caption, without publishing anything.

    Args:
        finished: All stages, with where their results are.
        snapshot: The samples.
        store: The memo store.
    """
    fields = [(item.stage, field) for item in finished for field in item.stage.provides]
    superseded = {name for item in finished for name in item.stage.superseded_fields()}
    negatives = [
        (stage, field) for stage, field in fields if field.role == "negatives" and field.name not in superseded
    ]
    rejects = [(stage, field) for stage, field in fields if field.role == "rejects"]
    names = [field.name for _, field in (*negatives, *rejects)]
    generators, counter = generator_names([item.stage for item in finished]), CandidateCounter()
    for part in partitions(snapshot.num_samples):
        for item in Replay(snapshot, Store(store), part, finished).encoded(names):
            sample = item.sample
            lost = [(stage.name, sample[field.name]) for stage, field in rejects]
            kept = _records(sample, negatives, "negatives")
            counter.add(count_candidates(len(sample.captions), kept, lost, generators))
    return counter.statistics()


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


class _Draft:
    """The samples of a version while it is written.

    Args:
        folder: The version's folder.
        spool: Holds samples that are written from the store.
        published: The published fields.
        counted: The fields that are counted.
        generators: The stages that make negatives.
        before: An earlier version with the same fields.
    """

    def __init__(
        self,
        folder: Path,
        spool: Spool,
        published: _PublishedFields,
        counted: _PublishedFields,
        generators: Sequence[str],
        before: EarlierVersion | None,
    ) -> None:
        self.counter, self.judged = StatisticsCounter(), ""
        self._spool, self._published, self._counted, self._before = spool, published, counted, before
        self._generators = generators or None
        self._numbers: list[SampleNumbers] = []
        self._judged: JudgedImages[tuple[int, int]] = JudgedImages()
        self.rejects = None
        if "rejects" in [field.role for _, field in counted]:
            self.rejects = RejectsWriter(folder / REJECTS_FILE, before.path(REJECTS_FILE) if before else None)

    def add_samples(self, replayed: Replay) -> None:
        """Take samples from the earlier version where they are the same, and spool the others."""
        names = [field.name for _, field in (*self._published, *self._counted)]
        keys = replayed.keys([*names, *REQUIRABLE, "name"])
        for positions in replayed.blocks():
            self._add_block(replayed, names, positions, keys[positions[0] : positions[-1] + 1])
            release_samples()
        for drop in replayed.drops():
            self.counter.add_drop(*drop)

    def _add_block(self, replayed: Replay, names: Sequence[str], positions: Positions, keys: Sequence[bytes]) -> None:
        numbers, uids = np.zeros(len(keys), NUMBERS), replayed.uids_at(positions)
        numbers["row"] = -1 if self._before is None else self._before.records.rows_of(keys)
        is_new = numbers["row"] < 0
        if self._before is not None and not is_new.all():
            self._take(self._before, numbers, np.flatnonzero(~is_new), uids)
        new = iter(replayed.encoded(names, positions[is_new])) if is_new.any() else iter(())
        for place, (uid, key) in enumerate(zip(uids, keys, strict=True)):
            if is_new[place]:
                numbers[place] = self._add(key, next(new))
            elif self.rejects is not None:
                self.rejects.keep(uid)
        self._numbers.append(numbers)

    def write(
        self, contents: VersionContents, layout: Layout, records: IO[bytes], progress: Callable[[int], None] | None
    ) -> None:
        """Write shards, sidecars, index and records of the samples, and count the samples; see `write_contents`."""
        import pyarrow as pa

        index, samples = IndexParts(contents.folder / ".index"), self._sorted(layout.bands)
        arrays = [field for _, field in self._published if field.kind == "array"]
        shards = write_shards(contents, index, self._spool, self._before, samples, arrays, layout.shard_bytes)
        with pa.ipc.new_stream(records, records_schema(), options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
            for written in shards:
                release_samples()
                stream.write_table(written)
                for counts in written["counts"].to_pylist():
                    self.counter.add(orjson.loads(counts))
                if progress:
                    progress(self.counter.num_samples)
        contents.add_index(index.joined())

    def _sorted(self, bands: int) -> SampleNumbers:
        """Return the samples by cluster, then by band of difficulty, then by uid; they were added in the order of uids."""
        numbers = np.concatenate([np.zeros(0, NUMBERS), *self._numbers])
        self._numbers = []
        found = [difficulty_band(value, bands) for value in numbers["difficulty"].tolist()] if bands else 0
        return numbers[np.lexsort((np.broadcast_to(found, len(numbers)), numbers["cluster"]))]

    def _take(self, before: EarlierVersion, numbers: SampleNumbers, places: Int64Array, uids: Sequence[str]) -> None:
        """Fill in the numbers of samples of the earlier version."""
        rows = numbers["row"][places]
        numbers["text_bytes"][places] = before.records.text_bytes[rows]
        for name, column in (("image_bytes",) * 2, ("cluster", "cluster_id"), ("difficulty",) * 2):
            if column in before.index.column_names:
                numbers[name][places] = before.column(column)[rows]
        for place, row, count in zip(
            places.tolist(), rows.tolist(), before.column("num_negatives")[rows].tolist(), strict=True
        ):
            self._judged.add(uids[place], count, (row, 0))
        for stage, value in before.quality.items():
            if stage != "blind_accuracy":
                self.counter.findings.setdefault(stage, value)

    def _add(self, key: bytes, item: EncodedSample) -> tuple[int, int, int, int, int, float]:
        """Add a sample from the store; return its numbers."""
        sample = item.sample
        lists = {role: _records(sample, self._published, role) for role in _DEFAULTS}
        payload, index, arrays = self._encode(item, sample, lists)
        text = orjson.dumps(payload)
        values = [(stage.name, field.role, sample[field.name]) for stage, field in self._counted]
        counted = count_sample(sample, index, lists["negatives"], lists["views"], values, self._generators)
        place = self._spool.put(SpooledSample(sample.uid, sample.image, index, text, key, canonical(counted), arrays))
        self._judged.add(sample.uid, len(lists["negatives"]), (-1, place))
        for stage, role, value in values:
            if role == "finding":  # the same in every sample
                self.counter.findings.setdefault(stage, value)
            if self.rejects is not None and role == "rejects":
                self.rejects.add(sample.uid, stage, value)
        order = index.get("cluster_id", 0), index.get("difficulty", 0.0)
        return -1, place, sample.image.size_bytes, len(text), *order

    def _encode(
        self, item: EncodedSample, sample: Sample, lists: Mapping[str, list[dict[str, Any]]]
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
        for _, field in self._published:
            name = field.name
            if field.role == "views":
                # trainers that read one key of the JSON take the next of their list when this one is empty
                payload[name] = next((record["text"] for record in sample[name]), "")
            if field.role in _DEFAULTS or name == "image_info":
                continue
            if field.kind == "array":
                arrays.append(item.encoded[name])
            else:
                payload[name] = sample[name]
            if field.publish == "index":
                index[name] = sample[name]
            else:
                index[f"h_{name}"] = hash64(item.encoded[name])
        return payload, index, arrays

    def blind_accuracy(self) -> dict[str, dict[str, Any]]:
        """Return how well judges that see no image tell captions from negatives.

        It is that of the earlier version if the judged pairs are the same.
        """
        images = self._judged.items()
        self.judged = blake3(canonical([self._hashes(*found) for found in images])).hexdigest(length=16)
        if self._before is not None and self._before.judged == self.judged:
            return dict(self._before.quality["blind_accuracy"])
        pairs = PairSample()
        for row, place in images:
            payload = self._spool.get(place).texts() if self._before is None or row < 0 else self._before.texts(row)
            pairs.add(payload["uid"], payload["captions"], payload["negatives"])
        return pairs.accuracy()

    def _hashes(self, row: int, place: int) -> list[Any]:
        """Return the uid of a sample and the hashes of its captions and negatives."""
        columns = ("h_captions", "h_negatives")
        if self._before is None or row < 0:
            sample = self._spool.get(place)
            return [sample.uid, *(sample.in_index[name] for name in columns)]
        return [self._before.index[name][row].as_py() for name in ("uid", *columns)]
