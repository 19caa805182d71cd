"""Removal of traces: results in the store, answers of language models, values of samples that stay."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from blake3 import blake3

from curation.engine.fits import FIT_OF, FITS_FOLDER
from curation.engine.receipts import RECEIPTS_FOLDER
from curation.engine.store import write_parquet
from curation.forget.find import Traces
from curation.llm.journal import Journal
from data_manifests.absence import TracePatterns, mentions, rows_with
from data_manifests.atomic_files import write_table_atomically
from data_manifests.manifest import DatasetVersion
from data_manifests.run_files import FEEDBACK_FILE
from data_manifests.seeds import canonical
from data_manifests.shards import shard_name
from data_manifests.tar_copy import SampleRanges
from data_manifests.tar_index import Int64Array

_BENCHMARKS = "benchmarks"
_ROWS_DEPTH = 3
"""Rows of a stage are in STAGE/FINGERPRINT/FILE.parquet; `find_traces` has searched them."""


def purge_store(store: Path, traces: Traces) -> int:
    """Remove results from the memo store; return how many. May be repeated after a kill."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_removed = 0
    for folder in sorted(
        store.rglob(RECEIPTS_FOLDER)
    ):  # receipts have hashes of what is forgotten; they are made again
        shutil.rmtree(folder, ignore_errors=True)
    for name in traces.folders:
        num_removed += sum(pq.read_metadata(path).num_rows for path in (store / name).glob("*.parquet"))
        shutil.rmtree(store / name, ignore_errors=True)
    for name, keys in traces.rows.items():
        removed = frozenset(map(bytes.fromhex, keys))
        for path in sorted((store / name).glob("*.parquet")):
            stored = pq.ParquetFile(path).read(columns=["input_id"])["input_id"].to_pylist()
            kept = [row for row, key in enumerate(stored) if key not in removed]
            if len(kept) == len(stored):
                continue
            num_removed += len(stored) - len(kept)
            if kept:
                table = pq.ParquetFile(path).read().take(pa.array(kept)).combine_chunks()
                label = path.name.rpartition("-")[0]
                batch = blake3(b"".join(stored[row] for row in kept)).hexdigest(length=8)
                write_parquet(path.parent / f"{label}-{batch}.parquet", table)
            path.unlink()
    _remove_fits(store, frozenset(traces.fits))
    return num_removed


def _remove_fits(store: Path, hashes: frozenset[str]) -> None:
    """Remove fits, and the files that say from which inputs they were learned."""
    for folder in store.glob(f"*/*/{FITS_FOLDER}"):
        for path in folder.iterdir():
            if path.stem in hashes or (path.name.startswith(FIT_OF) and path.read_text() in hashes):
                path.unlink()


def purge_answers(path: Path, traces: Traces) -> int:
    """Remove requests to a language model about the samples, and answers that have their texts; return how many."""
    if not path.is_file():
        return 0
    needles = traces.needles()
    with closing(Journal(path)) as journal:
        return journal.erase(traces.questions, lambda text: needles.are_in(text.encode()))


def purge_files(workspace: Path, traces: Traces) -> int:
    """Remove files that have uids or texts of the samples and can be made again; return how many.

    These are cached test texts, and files in the store that are not a stage's rows, such as fits.
    """
    needles = traces.needles()
    files = [path for path in (workspace / _BENCHMARKS).rglob("*") if path.is_file()]
    for path in (workspace / "store").rglob("*"):
        is_rows = path.suffix == ".parquet" and len(path.relative_to(workspace / "store").parts) == _ROWS_DEPTH
        if path.is_file() and not is_rows:
            files.append(path)
    mentioning = [path for path in files if mentions(path, needles)]
    for path in mentioning:
        path.unlink()
    return len(mentioning)


def purge_feedback(run: Path, traces: Traces) -> int:
    """Remove what a run learned about the samples, and what has their texts, from its feedback; return how many rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run / FEEDBACK_FILE
    if not path.is_file():
        return 0
    table = pq.read_table(path)
    kept = ~np.isin(np.array(table["uid"].to_pylist(), dtype=object), traces.uids)
    kept[list(rows_with(table, traces.needles()))] = False
    if not kept.all():
        write_table_atomically(path, table.filter(pa.array(kept)).combine_chunks())
    return int((~kept).sum())


def samples_mentioning(
    version: DatasetVersion, uids: Iterable[str], needles: TracePatterns
) -> dict[int, dict[str, Any]]:
    """Return the redacted JSON of other samples that have a forgotten one's uid or texts, by row of the index."""
    index = version.index()
    ranges = SampleRanges.of(index, version.ref)
    forgotten = frozenset(uids)
    stays = np.array([uid not in forgotten for uid in index["uid"].to_pylist()], dtype=bool)
    shard = index["shard"].to_numpy()
    found: dict[int, dict[str, Any]] = {}
    for number in np.unique(shard).tolist():
        rows: Int64Array = np.flatnonzero(shard == number)
        data = np.memmap(version.folder / shard_name(number), dtype=np.uint8, mode="r")
        positions = np.array([position for position, _ in needles.find(data)], dtype=np.int64)
        starts = ranges.start[rows]
        for row in np.unique(rows[np.searchsorted(starts, positions, side="right") - 1]).tolist():
            if stays[row]:
                low = int(ranges.start[row] + ranges.offsets[row, 1])
                payload = orjson.loads(data[low : low + int(ranges.json_bytes[row])].tobytes())
                found[row] = redact(payload, version.manifest.body["fields"], needles)
        del data
    return found


def redact(
    payload: Mapping[str, Any], published: Iterable[Mapping[str, str]], needles: TracePatterns
) -> dict[str, Any]:
    """Return a sample's JSON without the uids and texts of forgotten samples.

    Elements that have them are removed from lists, and the same positions from lists of the same stage and length, because
    those correspond (neighbours and their similarities). A text becomes empty, any other value null.
    """
    # negatives and views are collected from several stages and correspond to no other list
    stages = {item["name"]: item["stage"] for item in published if item["name"] not in ("negatives", "views")}
    clean = dict(payload)
    for name, value in payload.items():
        if not needles.are_in(canonical(value)):
            continue
        if not isinstance(value, list):
            clean[name] = "" if isinstance(value, str) else None
            continue
        kept = [not needles.are_in(canonical(item)) for item in value]
        for other, values in payload.items():
            corresponds = name in stages and stages.get(other) == stages[name]
            if other == name or (corresponds and isinstance(values, list) and len(values) == len(value)):
                items = itertools.compress(values, kept)
                clean[other] = [item for item in items if not needles.are_in(canonical(item))]
    return clean
