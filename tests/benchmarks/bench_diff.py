"""Diff of two versions of a million samples, against the same comparison written with pandas.

    python tests/benchmarks/bench_diff.py [NUM_SAMPLES]

Each contestant runs in a process of its own and reports seconds and peak memory. The peer does what a
careful pandas user would write: read both indexes, merge on uid, compare the content columns (the core of
datacompy). Both must find the same numbers, or the benchmark fails.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from data_manifests.diff import diff_versions
from data_manifests.manifest import FORMAT, DatasetVersion, Manifest

PER_SHARD = 10_000
SHARE_EDITED = 0.01
FIELDS = ("captions", "attributes", "negatives", "info")


def make(folder: Path, num_samples: int, *, edited: bool) -> None:
    """Write an index and the JSON of synthetic samples: the new version has edits, moves, removals and additions."""
    folder.mkdir(parents=True)
    rng = np.random.Generator(np.random.PCG64(1))
    digits = rng.integers(0, 256, (num_samples + num_samples // 100, 16), dtype=np.uint8)
    uids = np.array([row.tobytes().hex() for row in digits])
    contents = rng.integers(0, 2**63, (len(uids), 4), dtype=np.uint64)
    clusters, difficulty = rng.integers(0, num_samples // 64, len(uids)), rng.random(len(uids))
    rows = np.arange(num_samples)
    if edited:
        contents[rng.random(len(uids)) < SHARE_EDITED, 0] += np.uint64(1)
        clusters[rng.random(len(uids)) < SHARE_EDITED] = 0
        difficulty += 0.01 * rng.standard_normal(len(uids))
        rows = np.arange(num_samples // 100, len(uids))
    order = rows[np.lexsort((uids[rows], clusters[rows]))]
    shard = np.arange(len(order), dtype=np.int32) // PER_SHARD
    sizes = np.zeros(len(order), dtype=np.int64)
    offsets = np.zeros(len(order), dtype=np.int64)
    for number in range(shard[-1] + 1):
        here = np.flatnonzero(shard == number)
        payloads = [payload(uids[row], int(row), int(contents[row, 0])) for row in order[here]]
        sizes[here] = [len(data) for data in payloads]
        offsets[here] = np.cumsum([0, *sizes[here][:-1]])
        # no headers and no pictures: a diff reads JSON by byte range and nothing else of a shard
        (folder / f"{number:05d}.tar").write_bytes(b"".join(payloads))
    columns: dict[str, object] = {
        "uid": uids[order],
        "shard": shard,
        "key": [f"{number:05d}{place % PER_SHARD:04d}" for place, number in enumerate(shard)],
        "image_offset": offsets,
        "image_bytes": sizes,
        "json_offset": offsets,
        "json_bytes": sizes,
        "split": ["train"] * len(order),
        "cluster_id": clusters[order].astype(np.int32),
        "difficulty": difficulty[order],
    }
    columns |= {f"h_{name}": contents[order, place] for place, name in enumerate(FIELDS)}
    pq.write_table(pa.table(columns), folder / "index.parquet", compression="zstd")


def payload(uid: str, row: int, content: int) -> bytes:
    """Return a sample's JSON; the caption follows its content hash."""
    captions = [f"photograph {row} of a dog", f"hash {content % 97} words here"]
    values = {"uid": uid, "name": f"{row}.jpg", "caption": captions[0], "captions": captions, "negatives": []}
    return orjson.dumps(values)


def version(folder: Path) -> DatasetVersion:
    """Return a synthetic folder as a version."""
    names = ("caption_words", "captions_per_sample", "negatives", "splits", "cluster_sizes")
    statistics: dict[str, dict[str, int]] = {name: {} for name in names}
    counts = {"records": 0, "samples": 0, "captions": 0, "negatives": 0, "dropped": {}}
    body = {
        "format": FORMAT,
        "name": "synthetic",
        "version": folder.name,
        "stages": [],
        "recipe": {},
        "source": {},
        "counts": counts,
        "statistics": {**statistics, "image_bytes": 0},
    }
    return DatasetVersion(Manifest.seal(body), folder)


def ours(old: Path, new: Path) -> dict[str, int]:
    """Diff with words, negatives, clusters and difficulty."""
    diff = diff_versions(version(old), version(new))
    return {"added": diff.num_added, "removed": diff.num_removed, "edited": diff.num_edited}


def pandas_merge(old: Path, new: Path) -> dict[str, int]:
    """Compare the indexes by an inner merge, column by column.

    Not by the usual outer merge with an indicator: its missing values turn the 64-bit hashes into floats, and
    99 edits of 100 go unseen.
    """
    import pandas as pd

    before, after = (pd.read_parquet(folder / "index.parquet") for folder in (old, new))
    common = before.merge(after, on="uid", suffixes=("", "@new"))
    differs = np.zeros(len(common), dtype=bool)
    for name in [column for column in before.columns if column.startswith("h_")] + ["split"]:
        differs |= (common[name] != common[f"{name}@new"]).to_numpy()
    added, removed = ~after["uid"].isin(common["uid"]), ~before["uid"].isin(common["uid"])
    return {"added": int(added.sum()), "removed": int(removed.sum()), "edited": int(differs.sum())}


def main() -> None:
    """Run both contestants and print the ratio."""
    num_samples = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as root:
        folders = [Path(root) / name for name in ("1.0.0", "2.0.0")]
        for place, folder in enumerate(folders):
            make(folder, num_samples, edited=bool(place))
        runs = {name: measure(name, folders) for name in ("pandas_merge", "ours", "pandas_merge", "ours")}
    for name, run in runs.items():
        print(f"{name:13} {run['seconds']:6.2f} s  {run['peak_bytes'] / 2**20:6.0f} MiB  {run['found']}")
    mine, peer = runs["ours"], runs["pandas_merge"]
    ratios = [f"{what} {mine[key] / peer[key]:.2f}x" for what, key in (("time", "seconds"), ("memory", "peak_bytes"))]
    print(f"{', '.join(ratios)} of pandas, which does no word diff, clusters or difficulty")
    if mine["found"] != peer["found"]:
        sys.exit("the contestants disagree")


def measure(name: str, folders: list[Path]) -> dict[str, Any]:
    """Run one contestant in a fresh process."""
    command = [sys.executable, __file__, "--run", name, *map(str, folders)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def run_one(name: str, old: str, new: str) -> None:
    """Run one contestant and print its measurements as JSON."""
    import pandas as pd
    import polars as pl

    assert pd.__version__
    assert pl.__version__
    started = time.perf_counter()
    found = {"ours": ours, "pandas_merge": pandas_merge}[name](Path(old), Path(new))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "found": found}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run_one(*sys.argv[2:])
    else:
        main()
