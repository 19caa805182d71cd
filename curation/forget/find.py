"""Traces of samples in a workspace, found by replaying which results were computed from which inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from curation.engine.fits import FITS_FOLDER, Fit, Overlap
from curation.engine.replay import encode_sample
from curation.engine.store import STAGE_FILE, input_id_of
from data_manifests.absence import TracePatterns, own_texts, rows_with, text_labels, uid_labels
from data_manifests.manifest import Catalog, DatasetVersion, Manifest
from data_manifests.plugins import load_offered, offered
from data_manifests.sample import ImageRef, Sample
from data_manifests.seeds import canonical

if TYPE_CHECKING:
    import pyarrow as pa

_MAX_COMBINATIONS = 10_000
"""Inputs that are tried for one stage and sample; if there are more, all results of the stage are removed."""


@dataclass
class Traces:
    """What a workspace has of some samples; JSON values only, so that an interrupted removal can be resumed.

    Attributes:
        uids: The samples.
        names: Their names in sources.
        captions: Their captions that are not part of another sample's caption.
        runs: Runs of words of their captions that no other sample's caption has.
        texts: All texts: captions, negatives, views.
        rows: Results in the store: folder in the store -> input ids, hex.
        folders: Folders of results to remove as a whole: computed with the samples, or from unknown fields.
        fits: Hashes of fits that were, or may have been, learned from the samples.
        snapshots: Snapshots of sources that have them.
        questions: Keys of requests to a language model about them.
    """

    uids: list[str]
    names: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    rows: dict[str, list[str]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    fits: list[str] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    def needles(self) -> TracePatterns:
        """Return what must not be in anything that stays."""
        labels: dict[bytes, str] = {}
        for text in self.captions:
            labels |= text_labels(text, "caption")
        for uid in self.uids:
            labels |= uid_labels(uid)
        return TracePatterns(labels, self.runs)


def local_versions(catalog: Catalog) -> Iterator[DatasetVersion]:
    """Yield every version whose files are in the workspace."""
    for name in catalog.names():
        for version in catalog.versions(name):
            if (catalog.folder(name, version) / "index.parquet").is_file():
                manifest = Manifest.load(catalog.manifest_path(name, version))
                yield DatasetVersion(manifest, catalog.folder(name, version))


def find_traces(catalog: Catalog, uids: Sequence[str]) -> Traces:
    """Find everything that a workspace has of some samples, in all data sets.

    Args:
        catalog: Where versions are; the store, snapshots and answers are in its workspace.
        uids: Full uids.
    """
    forgotten = frozenset(uids)
    found = Traces(sorted(forgotten))
    samples: dict[bytes, Sample] = {}
    for folder in snapshot_folders(catalog.workspace):
        rows = _rows_of(folder / "samples.parquet", forgotten)
        found.snapshots += [folder.name] if rows else []
        for row in rows:
            _add_sample(samples, row)
    texts: set[str] = set()
    for version in local_versions(catalog):
        for row in _published_rows(version, forgotten):
            _add_sample(samples, row)
            texts |= {record["text"] for name in ("negatives", "views") for record in row.get(name) or []}
        dropped = version.table("dropped.parquet").to_pylist()
        found.names += [row["name"] for row in dropped if row["uid"] in forgotten]
    captions = {text for sample in samples.values() for text in sample.captions}
    found.names = sorted({*found.names, *(sample.name for sample in samples.values())} - {""})
    found.captions, found.runs = own_texts(captions, other_captions(catalog, forgotten))
    found.texts = sorted(texts | captions)
    _find_in_store(catalog, found, list(samples.values()))
    found.questions = _questions(catalog, list(samples.values()))
    return found


def snapshot_folders(workspace: Path) -> list[Path]:
    """Return the finished snapshots of sources."""
    return sorted(path.parent for path in (workspace / "intake").glob("*/samples.parquet"))


def other_captions(catalog: Catalog, forgotten: frozenset[str]) -> Iterator[list[str]]:
    """Yield, in batches, the captions of all other samples in snapshots and versions."""
    import pyarrow.parquet as pq

    paths = [folder / "samples.parquet" for folder in snapshot_folders(catalog.workspace)]
    for version in local_versions(catalog):
        paths += [version.folder / f"{number:05d}.parquet" for number in range(len(version.manifest.body["shards"]))]
    for path in paths:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=8192, columns=["uid", "captions"]):
                uids, texts = batch.column("uid").to_pylist(), batch.column("captions").to_pylist()
                yield [text for uid, own in zip(uids, texts, strict=True) if uid not in forgotten for text in own]


def _add_sample(samples: dict[bytes, Sample], row: Mapping[str, Any]) -> None:
    """Add a sample as one snapshot or version has it; captions may differ between them."""
    attributes = orjson.loads(row["attributes"])
    sample = Sample(row["uid"], row["name"], ImageRef(""), tuple(row["captions"]), row["split"], attributes)
    samples[canonical([row["uid"], row["captions"], row["split"], attributes])] = sample


def _rows_of(path: Path, uids: frozenset[str]) -> list[dict[str, Any]]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path, filters=pc.field("uid").isin(sorted(uids))).to_pylist()
    return rows


def _published_rows(version: DatasetVersion, uids: frozenset[str]) -> Iterator[dict[str, Any]]:
    index = version.index(["uid", "shard"]).to_pydict()
    shards = {shard for uid, shard in zip(index["uid"], index["shard"], strict=True) if uid in uids}
    for shard in sorted(shards):
        yield from _rows_of(version.folder / f"{shard:05d}.parquet", uids)


def _find_in_store(catalog: Catalog, found: Traces, samples: Sequence[Sample]) -> None:
    """Find rows and folders of the store that were computed from the samples."""
    store = catalog.workspace / "store"
    tables: dict[str, _Results] = {}
    folders = sorted(path for path in store.glob("*/*") if path.is_dir())
    applied = [path.parent for folder in folders for path in sorted(folder.glob(f"*/{STAGE_FILE}"))]
    for folder in (*folders, *applied):
        name = str(folder.relative_to(store))
        found.folders += _indexed_folders(folder, store, found.uids)
        fields = _input_fields(catalog, folder)
        if fields is not None:
            tables[name] = _Results(folder, fields)
        elif any(folder.glob("*.parquet")):
            found.folders.append(name)
    corpus = sorted(store / name for name in found.folders)
    for uid in found.uids:
        for results in tables.values():
            results.start_sample()
        _mark_derived(uid, [sample for sample in samples if sample.uid == uid], tables.values(), corpus)
    needles = found.needles()
    for name, results in tables.items():
        results.mark_mentions(needles)
        if results.remove_all:
            found.folders.append(name)
        elif results.marked:
            found.rows[name] = sorted(key.hex() for key in results.marked)
    for folder in folders:
        inputs = {name: results.marked for name, results in tables.items() if (store / name).parent == folder}
        _find_fits(found, folder, store, set().union(*inputs.values()))


def _find_fits(found: Traces, folder: Path, store: Path, inputs: set[bytes]) -> None:
    """Find a stage's fits that were, or may have been, learned from some inputs, and their results.

    A fit has the smallest hashes of its inputs; of larger ones it is not known whether it was learned from them.
    """
    for path in sorted((folder / FITS_FOLDER).glob("*.safetensors")):
        fit = Fit.load(path)
        overlap = Overlap.of(fit, inputs)
        if overlap.num_known or overlap.num_known + overlap.num_new < len(inputs):
            found.fits.append(path.stem)
            name = str((folder / path.stem).relative_to(store))
            found.folders.append(name)
            found.rows.pop(name, None)


def _indexed_folders(folder: Path, store: Path, uids: Sequence[str]) -> list[str]:
    """Return an indexed stage's folders whose inputs had one of the samples: all of their results depend on it."""
    keys = {bytes.fromhex(uid) for uid in uids}
    inner = sorted(path for path in folder.iterdir() if path.is_dir())
    return [str(path.relative_to(store)) for path in inner if not keys.isdisjoint(_Results(path, ()).ids)]


def _input_fields(catalog: Catalog, folder: Path) -> tuple[str, ...] | None:
    """Return the fields that a stage's results were computed from, by the store or a manifest; None if unknown."""
    path = folder / STAGE_FILE
    if path.is_file():
        return tuple(orjson.loads(path.read_bytes())["requires"])
    for record in _stage_records(catalog):
        if record["fingerprint"] == folder.name and "requires" in record:
            return tuple(record["requires"])
    return None


def _stage_records(catalog: Catalog) -> Iterator[dict[str, Any]]:
    for name in catalog.names():
        for version in catalog.versions(name):
            yield from Manifest.load(catalog.manifest_path(name, version)).body["stages"]
    for path in sorted((catalog.workspace / "store").glob(f"*/*/{STAGE_FILE}")):
        yield orjson.loads(path.read_bytes())


class _Results:
    """All results in a folder of the store, by id.

    Attributes:
        marked: Results to remove.
        remove_all: Whether to remove the whole folder, as there are too many inputs to try.
    """

    def __init__(self, folder: Path, requires: tuple[str, ...]) -> None:
        self.marked: set[bytes] = set()
        self.remove_all = False
        self._requires = requires
        self._files = sorted(folder.glob("*.parquet"))
        self._seen: set[bytes] = set()
        self._positions = {
            key: (path, row)
            for path in self._files
            for row, key in enumerate(_read(path, ["input_id"])["input_id"].to_pylist())
        }

    def start_sample(self) -> None:
        """Start with another sample: a result of two samples adds to the values of both."""
        self._seen.clear()

    @property
    def ids(self) -> Iterable[bytes]:
        """Ids of all results."""
        return self._positions.keys()

    def values(self, key: bytes) -> dict[str, bytes] | None:
        """Return the encoded fields of a result, or None if there is none."""
        if key not in self._positions:
            return None
        path, row = self._positions[key]
        values = _read(path, None).slice(row, 1).to_pylist()[0]
        return {name: value for name, value in values.items() if name not in ("input_id", "drop") and value is not None}

    def mark_computed_from(self, values: dict[str, set[bytes]]) -> None:
        """Mark results with inputs among these values of a sample's fields, and add the fields they have to the values."""
        pools = [sorted(values.get(name, ())) for name in self._requires]
        if np.prod([len(pool) for pool in pools], dtype=float) > _MAX_COMBINATIONS:
            self.remove_all = True
            return
        for inputs in itertools.product(*pools):
            key = input_id_of(self._requires, dict(zip(self._requires, inputs, strict=True)))
            if key in self._seen or (fields := self.values(key)) is None:
                continue
            self._seen.add(key)
            self.marked.add(key)
            _merge(values, fields)

    def mark_mentions(self, needles: TracePatterns) -> None:
        """Mark results of other samples that have a sample's uid or words in them, such as lists of neighbours."""
        for path in self._files:
            table = _read(path, None)
            keys = table["input_id"].to_pylist()
            self.marked |= {keys[row] for row in rows_with(table.drop_columns(["input_id"]), needles)}


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read(columns=columns)


def _mark_derived(uid: str, samples: Sequence[Sample], tables: Iterable[_Results], corpus: Sequence[Path]) -> None:
    """Mark every result that was computed from a sample, directly or from other marked results."""
    values: dict[str, set[bytes]] = {}
    for sample in samples:
        _merge(values, encode_sample(sample).encoded)
    for folder in corpus:
        _merge(values, _Results(folder, ()).values(bytes.fromhex(uid)) or {})
    before = -1
    while before != (before := sum(map(len, values.values()))):
        for results in tables:
            results.mark_computed_from(values)


def _merge(values: dict[str, set[bytes]], fields: Mapping[str, bytes]) -> None:
    """Add fields to the values of each field."""
    for name, data in fields.items():
        values.setdefault(name, set()).add(data)


def _questions(catalog: Catalog, samples: Sequence[Sample]) -> list[str]:
    """Return the keys of every request to a language model that could have been made about the samples."""
    path = catalog.workspace / "answers.sqlite"
    if not path.is_file():
        return []
    from curation.llm.interface import AsksModel
    from curation.llm.journal import Journal
    from curation.stages import stage_classes

    with closing(Journal(path)) as journal:
        models = journal.models()
    records = [*_stage_records(catalog)]
    of_packages = [
        load_offered("stages", name) for name in {record["name"] for record in records} & {*offered("stages")}
    ]
    asking: dict[str, type[AsksModel]] = {
        stage.name: stage for stage in (*stage_classes(), *of_packages) if issubclass(stage, AsksModel)
    }
    records = [record for record in records if record["name"] in asking]
    keys: set[str] = set()
    for record, model in itertools.product(records, models):
        keys.update(asking[record["name"]].question_keys(record["config"], model, samples))
    return sorted(keys)
