"""Publication: writes the results of finished stages as a folder of shards, sidecars and an index."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
from blake3 import blake3

from curation.blind.judges import JudgedImages, PairSample
from curation.engine.engine import infrequent_garbage_collection
from curation.engine.fits import fit_path
from curation.engine.intake import Snapshot
from curation.engine.replay import FinishedStage, Replay, release_samples
from curation.engine.stage import Stage
from curation.engine.store import Store, partitions
from curation.versions.layout import Layout, difficulty_band
from curation.versions.reuse import EarlierVersion, records_schema
from curation.versions.spool import NUMBERS, SampleNumbers, Spool
from curation.versions.spool_samples import (
    DEFAULTS,
    PublishedFields,
    SpooledSpan,
    SpoolJob,
    SpoolUnit,
    records_of,
    spool_span,
    spool_unit,
)
from curation.versions.statistics import CandidateCounter, StatisticsCounter, count_candidates
from curation.versions.tables import REJECTS_FILE, IndexParts, RejectsWriter, VersionContents, drops_table, fit_file
from curation.versions.write_shards import FEW_SAMPLES, ProcessMap, ShardJob, write_shards
from data_manifests.seeds import canonical
from data_manifests.tar_index import Int64Array

DEFAULT_SHARD_BYTES = 64 * 2**20

SAMPLES_PER_SPAN = 8192
"""Samples that are spooled as one unit of work."""


@infrequent_garbage_collection()
def write_contents(
    folder: Path,
    samples: Replay,
    layout: Layout,
    records: IO[bytes],
    before: EarlierVersion | None = None,
    progress: Callable[[int], None] | None = None,
    processes: ProcessMap = map,
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
        processes: Calls a function of these modules for each of many values, as `map` does; it may do so in other processes.
    """
    finished = samples.finished
    fields = [(item.stage, field) for item in finished for field in item.stage.provides]
    superseded = {name for item in finished for name in item.stage.superseded_fields()}
    published = [(stage, field) for stage, field in fields if field.publish != "store" and field.name not in superseded]
    counted = [(stage, field) for stage, field in fields if field.role in ("rejects", "usage", "finding")]
    contents = VersionContents(folder, _describe_fields(published))
    if before is not None and before.version.manifest.body["fields"] != contents.fields:
        before = None
    # absolute: a worker may run in another folder
    job = SpoolJob(
        samples.snapshot.folder.absolute(),
        samples.store.root.absolute(),
        tuple(finished),
        folder.absolute() / ".spool",
        published,
        counted,
        generator_names([item.stage for item in finished]) or None,
    )
    job.folder.mkdir()
    with Spool(job.folder) as spool:
        draft = _Draft(folder, spool, job, before)
        draft.add_samples(samples, processes)
        samples.forget()
        draft.write(contents, layout, records, progress, processes)
        accuracy = draft.blind_accuracy() if draft.counter.has_enough_pairs else None
    shutil.rmtree(job.folder)
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
            kept = records_of(sample, negatives, "negatives")
            counter.add(count_candidates(len(sample.captions), kept, lost, generators))
    return counter.statistics()


def _describe_fields(published: PublishedFields) -> list[dict[str, str]]:
    """Return the manifest's list of published fields."""
    return [
        {"name": field.role if field.role in DEFAULTS else field.name, "stage": stage.name, "where": field.publish}
        for stage, field in published
    ]


def _add_fits(contents: VersionContents, finished: Sequence[FinishedStage], store: Store) -> None:
    """Copy the fits into the version's folder, so that they travel with it."""
    for item in finished:
        if item.fit is not None:
            contents.add_copy(fit_path(store.folder(item.stage), item.fit.hash), fit_file(item.stage.name))


class _Draft:
    """The samples of a version while it is written.

    Args:
        folder: The version's folder.
        spool: Holds samples that are written from the store.
        job: What is the same for all samples.
        before: An earlier version with the same fields.
    """

    def __init__(self, folder: Path, spool: Spool, job: SpoolJob, before: EarlierVersion | None) -> None:
        self.counter, self.judged = StatisticsCounter(), ""
        self._spool, self._job, self._before = spool, job, before
        self._numbers: list[SampleNumbers] = []
        self._judged: JudgedImages[tuple[int, int]] = JudgedImages()
        self.rejects = None
        if "rejects" in [field.role for _, field in job.counted]:
            self.rejects = RejectsWriter(folder / REJECTS_FILE, before.path(REJECTS_FILE) if before else None)

    def add_samples(self, replayed: Replay, processes: ProcessMap) -> None:
        """Take samples from the earlier version where they are the same, and spool the others."""
        keys, before = replayed.keys(self._job.key_names), self._before
        rows = np.full(len(keys), -1) if before is None else before.records.rows_of(keys)
        spans = list(replayed.spans(SAMPLES_PER_SPAN))
        units = [
            SpoolUnit(number, part, np.flatnonzero(rows[first:end] < 0))
            for number, (part, first, end) in enumerate(spans)
        ]
        if processes is not map and int((rows < 0).sum()) > FEW_SAMPLES:
            found = processes(partial(spool_unit, self._job), units)
        else:
            found = (
                spool_span(self._job, unit.number, replayed, places, [keys[place] for place in places.tolist()])
                for unit, (_, first, _) in zip(units, spans, strict=True)
                for places in [unit.positions + first]
            )
        for (_, first, end), span in zip(spans, found, strict=True):
            self._add_span(span, rows[first:end], replayed.uids_at(np.arange(first, end)))
        for drop in replayed.drops():
            self.counter.add_drop(*drop)

    def _add_span(self, span: SpooledSpan, rows: Int64Array, uids: Sequence[str]) -> None:
        """Add the samples of a span, of which those without a row in the earlier version are spooled."""
        numbers, is_new = np.zeros(len(rows), NUMBERS), rows < 0
        numbers["row"], numbers[is_new] = rows, span.numbers
        if self._before is not None and not is_new.all():
            self._take(self._before, numbers, np.flatnonzero(~is_new), uids)
        for uid, count, place in zip(span.uids, span.num_negatives, span.numbers["place"].tolist(), strict=True):
            self._judged.add(uid, count, (-1, place))
        self.counter.findings = {**span.findings, **self.counter.findings}
        if self.rejects is not None:
            rejects = iter(span.rejects)
            for uid, of_store in zip(uids, is_new.tolist(), strict=True):
                if of_store:
                    for stage, records in next(rejects):
                        self.rejects.add(uid, stage, records)
                else:
                    self.rejects.keep(uid)
        self._numbers.append(numbers)

    def write(
        self,
        contents: VersionContents,
        layout: Layout,
        records: IO[bytes],
        progress: Callable[[int], None] | None,
        processes: ProcessMap,
    ) -> None:
        """Write shards, sidecars, index and records of the samples, and count the samples; see `write_contents`."""
        import pyarrow as pa

        index, samples = IndexParts(contents.folder / ".index"), self._sorted(layout.bands)
        arrays = [field for _, field in self._job.published if field.kind == "array"]
        # absolute: a worker may run in another folder
        job = ShardJob(contents.folder.absolute(), self._job.folder, index.folder.absolute(), arrays)
        shards = write_shards(contents, index, job, self._spool, self._before, samples, layout.shard_bytes, processes)
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
