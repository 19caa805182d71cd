"""Removal of what traces tell: rows of the store, answers of language models, values of samples that stay."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from blake3 import blake3

from curation.engine.store import write_parquet
from curation.forget.find import Traces
from curation.llm.journal import Journal
from data_manifests.byte_search import BytePatterns
from data_manifests.manifest import DatasetVersion
from data_manifests.seeds import canonical
from data_manifests.shards import shard_name
from data_manifests.tar_copy import SampleRanges
from data_manifests.tar_index import Int64Array

_BENCHMARKS = "benchmarks"


def purge_store(store: Path, traces: Traces) -> int:
    """Remove results from the memo store; return how many rows went. Safe to repeat after a kill."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    gone = 0
    for name in traces.folders:
        for path in sorted((store / name).glob("*.parquet")):
            gone += pq.read_metadata(path).num_rows
        shutil.rmtree(store / name, ignore_errors=True)
    for name, keys in traces.rows.items():
        doomed = frozenset(map(bytes.fromhex, keys))
        for path in sorted((store / name).glob("*.parquet")):
            held = pq.ParquetFile(path).read(columns=["input_id"])["input_id"].to_pylist()
            kept = [row for row, key in enumerate(held) if key not in doomed]
            if len(kept) == len(held):
                continue
            gone += len(held) - len(kept)
            if kept:
                table = pq.ParquetFile(path).read().take(pa.array(kept)).combine_chunks()
                label = path.name.rpartition("-")[0]
                batch = blake3(b"".join(held[row] for row in kept)).hexdigest(length=8)
                write_parquet(path.parent / f"{label}-{batch}.parquet", table)
            path.unlink()
    return gone


def purge_answers(path: Path, traces: Traces) -> int:
    """Remove what a language model was asked about the samples, and answers that hold their words."""
    if not path.is_file():
        return 0
    needles = traces.needles()
    with closing(Journal(path)) as journal:
        return journal.erase(traces.questions, lambda text: any(True for _ in needles.find(text.encode())))


def purge_benchmarks(workspace: Path, traces: Traces) -> int:
    """Remove kept test texts that hold words of the samples; an evaluation makes them again. Returns how many files."""
    needles, gone = traces.needles(), 0
    for path in sorted((workspace / _BENCHMARKS).glob("*")):
        if path.is_file() and any(True for _ in needles.find(path.read_bytes())):
            path.unlink()
            gone += 1
    return gone


def samples_mentioning(
    version: DatasetVersion, uids: Iterable[str], needles: BytePatterns
) -> dict[int, dict[str, Any]]:
    """Return the redacted JSON of samples that stay but name a forgotten one or hold its words, by row of the index."""
    index = version.index()
    ranges = SampleRanges.of(index, version.ref)
    gone = frozenset(uids)
    stays = np.array([uid not in gone for uid in index["uid"].to_pylist()], dtype=bool)
    shard = index["shard"].to_numpy()
    found: dict[int, dict[str, Any]] = {}
    for number in np.unique(shard).tolist():
        rows: Int64Array = np.flatnonzero(shard == number)
        data = np.memmap(version.folder / shard_name(number), dtype=np.uint8, mode="r")
        places = np.array([place for place, _ in needles.find(data)], dtype=np.int64)
        starts = ranges.start[rows]
        for row in np.unique(rows[np.searchsorted(starts, places, side="right") - 1]).tolist():
            if stays[row]:
                low = int(ranges.start[row] + ranges.offsets[row, 1])
                payload = orjson.loads(data[low : low + int(ranges.json_bytes[row])].tobytes())
                found[row] = redact(payload, version.manifest.body["fields"], needles)
        del data
    return found


def redact(payload: Mapping[str, Any], published: Iterable[Mapping[str, str]], needles: BytePatterns) -> dict[str, Any]:
    """Return a sample's JSON without what names or quotes a forgotten one.

    A list loses the elements that do; lists of equal length by the same stage lose the same places, because they run
    side by side (neighbours and their similarities). A text becomes empty, anything else null.
    """
    # negatives and views are gathered from several stages and run beside nothing
    stages = {item["name"]: item["stage"] for item in published if item["name"] not in ("negatives", "views")}
    clean = dict(payload)
    for name, value in payload.items():
        if not _holds(value, needles):
            continue
        if not isinstance(value, list):
            clean[name] = "" if isinstance(value, str) else None
            continue
        places = {place for place, item in enumerate(value) if _holds(item, needles)}
        for other, values in payload.items():
            beside = name in stages and stages.get(other) == stages[name]
            if other == name or (beside and isinstance(values, list) and len(values) == len(value)):
                left = [item for place, item in enumerate(values) if place not in places]
                clean[other] = [item for item in left if not _holds(item, needles)]
    return clean


def _holds(value: Any, needles: BytePatterns) -> bool:
    return any(True for _ in needles.find(canonical(value)))
