"""What samples left behind in a workspace: found by replaying which results were computed from which inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from curation.engine.replay import encode_sample
from curation.engine.store import STAGE_FILE, input_id_of
from data_manifests.absence import text_labels, uid_labels, unshared_texts
from data_manifests.byte_search import BytePatterns
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.sample import ImageRef, Sample

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_COMBINATIONS = 10_000
"""Inputs tried of one stage for one sample; beyond, all results of the stage are removed rather than some kept."""


@dataclass
class Traces:
    """What belongs to some samples; JSON values only, so that a half-finished removal can be resumed.

    Attributes:
        uids: The samples.
        names: What sources call them.
        captions: Their captions that no other sample's caption holds.
        texts: All texts: captions, negatives, views.
        rows: Results in the store: folder below it -> input ids, hex.
        folders: Folders of results that go whole: computed with the samples, or nobody knows from what.
        snapshots: Snapshots of sources that encode_sample them.
        questions: Keys of questions to a language model about them.
    """

    uids: list[str]
    names: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    rows: dict[str, list[str]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    def needles(self) -> BytePatterns:
        """Return what must not be found in anything that stays."""
        labels: dict[bytes, str] = {}
        for text in self.captions:
            labels |= text_labels(text, "caption")
        for uid in self.uids:
            labels |= uid_labels(uid)
        return BytePatterns(labels)


def local_versions(catalog: Catalog) -> Iterator[DatasetVersion]:
    """Yield every version of every data set whose files are in the workspace."""
    for name in catalog.names():
        for version in catalog.versions(name):
            if (catalog.folder(name, version) / "index.parquet").is_file():
                manifest = Manifest.load(catalog.manifest_path(name, version))
                yield DatasetVersion(manifest, catalog.folder(name, version))


def find_traces(catalog: Catalog, uids: Sequence[str]) -> Traces:
    """Find everything that some samples left in a workspace, whatever data set they were used for.

    Args:
        catalog: Where versions lie; the store, snapshots and answers lie in its workspace.
        uids: Full uids.
    """
    wanted = frozenset(uids)
    found = Traces(sorted(wanted))
    samples: dict[bytes, Sample] = {}
    for folder in snapshot_folders(catalog.workspace):
        table = _rows_of(folder / "samples.parquet", wanted)
        if table:
            found.snapshots.append(folder.name)
        for row in table:
            _keep(samples, row["uid"], row)
    texts: set[str] = set()
    for version in local_versions(catalog):
        for row in _published(version, wanted):
            _keep(samples, row["uid"], row)
            for name in ("negatives", "views"):
                texts |= {record["text"] for record in row.get(name) or []}
        for row in version.table("dropped.parquet").to_pylist():
            found.names += [row["name"]] if row["uid"] in wanted else []
    mine = {text for sample in samples.values() for text in sample.captions}
    found.names = sorted({*found.names, *(sample.name for sample in samples.values())} - {""})
    found.captions = unshared_texts(mine, other_captions(catalog, wanted))
    found.texts = sorted(texts | mine)
    _in_store(catalog, found, list(samples.values()))
    found.questions = _questions(catalog, list(samples.values()))
    return found


def snapshot_folders(workspace: Path) -> list[Path]:
    """Return the finished snapshots of sources."""
    return sorted(path.parent for path in (workspace / "intake").glob("*/samples.parquet"))


def other_captions(catalog: Catalog, without: frozenset[str]) -> Iterator[list[str]]:
    """Yield, in handfuls, the captions of all samples but some, in snapshots and versions."""
    import pyarrow.parquet as pq

    paths = [folder / "samples.parquet" for folder in snapshot_folders(catalog.workspace)]
    for version in local_versions(catalog):
        paths += [version.folder / f"{number:05d}.parquet" for number in range(len(version.manifest.body["shards"]))]
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=8192, columns=["uid", "captions"]):
                uids, texts = batch.column("uid").to_pylist(), batch.column("captions").to_pylist()
                yield [text for uid, some in zip(uids, texts, strict=True) if uid not in without for text in some]


def _keep(samples: dict[bytes, Sample], uid: str, row: Mapping[str, Any]) -> None:
    """Keep a sample as one snapshot or version has it; captions may have been edited in between."""
    attributes = orjson.loads(row["attributes"])
    sample = Sample(uid, row["name"], ImageRef(""), tuple(row["captions"]), row["split"], attributes)
    samples[orjson.dumps([uid, row["captions"], row["split"], attributes], option=orjson.OPT_SORT_KEYS)] = sample


def _rows_of(path: Path, uids: frozenset[str]) -> list[dict[str, Any]]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path, filters=pc.field("uid").isin(sorted(uids))).to_pylist()
    return rows


def _published(version: DatasetVersion, uids: frozenset[str]) -> Iterator[dict[str, Any]]:
    index = version.index(["uid", "shard"])
    shards = {
        shard for uid, shard in zip(index["uid"].to_pylist(), index["shard"].to_pylist(), strict=True) if uid in uids
    }
    for shard in sorted(shards):
        yield from _rows_of(version.folder / f"{shard:05d}.parquet", uids)


def _in_store(catalog: Catalog, found: Traces, samples: Sequence[Sample]) -> None:
    """Find rows and folders of the store that were computed from the samples."""
    store = catalog.workspace / "store"
    tables: dict[Path, _Results] = {}
    for folder in sorted(path for path in store.glob("*/*") if path.is_dir()):
        found.folders += _fitted_with(folder, store, found.uids)
        about = _about(catalog, folder)
        if about is not None:
            tables[folder] = _Results(folder, tuple(about))
        elif any(folder.glob("*.parquet")):
            found.folders.append(str(folder.relative_to(store)))
    corpus = {store / name for name in found.folders}
    for uid in found.uids:
        for results in tables.values():
            results.forget_seen()
        _reach(uid, [sample for sample in samples if sample.uid == uid], tables, corpus)
    needles = found.needles()
    for folder, results in tables.items():
        results.mark_holding(needles)
        name = str(folder.relative_to(store))
        if results.all_of_it:
            found.folders.append(name)
        elif results.marked:
            found.rows[name] = sorted(key.hex() for key in results.marked)


def _fitted_with(folder: Path, store: Path, uids: Sequence[str]) -> list[str]:
    """Return a corpus stage's folders that knew one of the samples: what they say of any was computed with all."""
    raw = {bytes.fromhex(uid) for uid in uids}
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    return [str(path.relative_to(store)) for path in inner if _Results(path, ()).ids & raw]


def _about(catalog: Catalog, folder: Path) -> list[str] | None:
    """Return the fields that a stage's results were computed from, as the store or a manifest tells."""
    path = folder / STAGE_FILE
    if path.is_file():
        return list(orjson.loads(path.read_bytes())["requires"])
    for record in _stage_records(catalog):
        if record["fingerprint"] == folder.name and "requires" in record:
            return list(record["requires"])
    return None


def _stage_records(catalog: Catalog) -> Iterator[dict[str, Any]]:
    for name in catalog.names():
        for version in catalog.versions(name):
            yield from Manifest.load(catalog.manifest_path(name, version)).body["stages"]
    for path in sorted((catalog.workspace / "store").glob(f"*/*/{STAGE_FILE}")):
        yield orjson.loads(path.read_bytes())


class _Results:
    """All rows of a folder of the store, by id."""

    def __init__(self, folder: Path, requires: tuple[str, ...]) -> None:
        self.folder, self.requires = folder, requires
        self.marked: set[bytes] = set()
        self._seen: set[bytes] = set()
        self.all_of_it = False
        self._place = {
            key: (path, row)
            for path in sorted(folder.glob("*.parquet"))
            for row, key in enumerate(_read(path, ["input_id"])["input_id"].to_pylist())
        }

    def forget_seen(self) -> None:
        """Begin with another sample: a row that two share adds to what is known of both."""
        self._seen.clear()

    @property
    def ids(self) -> set[bytes]:
        """Return the ids of all rows."""
        return set(self._place)

    def values(self, key: bytes) -> dict[str, bytes] | None:
        """Return the encoded fields of a row, or None."""
        if key not in self._place:
            return None
        path, row = self._place[key]
        values = _read(path, None).slice(row, 1).to_pylist()[0]
        return {name: value for name, value in values.items() if name not in ("input_id", "drop") and value is not None}

    def mark_made_from(self, values: dict[str, set[bytes]]) -> None:
        """Mark rows whose inputs are among some values of a sample's fields, and add what they hold to those."""
        pools = [sorted(values.get(name, ())) for name in self.requires]
        if np.prod([len(pool) for pool in pools], dtype=float) > _MAX_COMBINATIONS:
            self.all_of_it = True
            return
        for parts in itertools.product(*pools):
            key = input_id_of(self.requires, dict(zip(self.requires, parts, strict=True)))
            if key in self._seen or (row := self.values(key)) is None:
                continue
            self._seen.add(key)
            self.marked.add(key)
            for name, data in row.items():
                values.setdefault(name, set()).add(data)

    def mark_holding(self, needles: BytePatterns) -> None:
        """Mark rows of other samples that hold a sample's uid or words, such as lists of neighbours."""
        for path in sorted(self.folder.glob("*.parquet")):
            table = _read(path, None).combine_chunks()
            keys = table["input_id"].to_pylist()
            for name in table.column_names:
                for array in table[name].chunks if name != "input_id" else ():
                    self.marked |= {keys[row] for row in _rows_with(array, needles)}


def _rows_with(array: pa.Array, needles: BytePatterns) -> set[int]:
    """Return the rows of a binary column in which something is found."""
    _, offsets, data = array.buffers()
    if data is None:
        return set()
    wide = "large" in str(array.type)
    starts = np.frombuffer(offsets, dtype=np.int64 if wide else np.int32)[array.offset : array.offset + len(array) + 1]
    places = np.array([place for place, _ in needles.find(data)], dtype=np.int64)
    return set((np.searchsorted(starts, places, side="right") - 1).tolist())


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read(columns=columns)


def _reach(uid: str, samples: Sequence[Sample], tables: Mapping[Path, _Results], corpus: set[Path]) -> None:
    """Mark every row that can be reached from a sample: what a stage made of it, and what others made of that."""
    values: dict[str, set[bytes]] = {}
    for sample in samples:
        for name, data in encode_sample(sample).encoded.items():
            values.setdefault(name, set()).add(data)
    for folder in sorted(corpus):
        for name, data in (_Results(folder, ()).values(bytes.fromhex(uid)) or {}).items():
            values.setdefault(name, set()).add(data)
    before = -1
    while before != (before := sum(map(len, values.values()))):
        for results in tables.values():
            results.mark_made_from(values)


def _questions(catalog: Catalog, samples: Sequence[Sample]) -> list[str]:
    """Return the keys of every question that could have been asked about the samples."""
    path = catalog.workspace / "answers.sqlite"
    if not path.is_file():
        return []
    from curation.llm.journal import Journal
    from curation.stages.captions.rewrite_captions import request_keys

    journal = Journal(path)
    models = journal.models()
    journal.close()
    settings = [record["config"] for record in _stage_records(catalog) if record["name"] == "rewrite_captions"]
    return sorted({key for config in settings for model in models for key in request_keys(config, model, samples)})
