"""Resharding against webdataset in one run: a selection of a version's samples into new tars.

Run: python -m tests.benchmarks.bench_reshard WORKSPACE MANIFESTS NAME@VER [SHARE]
Theirs reads every sample undecoded and writes those that are kept with `TarWriter`; ours copies byte ranges by the
index, renames keys and hashes. Input samples per second of CPU and of wall time, the best of several rounds, the two
taking turns; then every payload is compared. Ours also as the whole command, with tables, statistics and manifest.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import webdataset

from curation.versions.layout import Layout
from curation.versions.reshard import reshard
from data_manifests.manifest import Catalog, DatasetVersion
from data_manifests.shards import ShardReader, shard_name, split_into_shards
from data_manifests.tar_copy import SampleRanges, copy_shard
from tests.data_manifests.tars import walk

ROUNDS = 5
SHARD_BYTES = 64 * 2**20


def ours(version: DatasetVersion, rows: np.ndarray, out: Path) -> None:
    ranges = SampleRanges.of(version.index(), version.ref).take(rows)
    for number, (first, end) in enumerate(split_into_shards(ranges.length.tolist(), SHARD_BYTES)):
        copy_shard(version.folder, out, number, ranges.take(np.arange(first, end)), {})


def theirs(version: DatasetVersion, kept: frozenset[str], out: Path) -> None:
    paths = [str(version.folder / shard["name"]) for shard in version.manifest.body["shards"]]
    with webdataset.TarWriter(str(out / "theirs.tar"), encoder=False) as writer:
        for sample in webdataset.WebDataset(paths, shardshuffle=False):
            if sample["__key__"] in kept:
                writer.write(
                    {name: value for name, value in sample.items() if name in ("__key__", "jpg", "json", "txt")}
                )


def compare(what: str, count: int, mine: Callable[[], object], other: Callable[[], object]) -> None:
    best: dict[str, tuple[float, float]] = {"ours": (9e9, 9e9), "theirs": (9e9, 9e9)}
    for _ in range(ROUNDS):
        for name, work in (("ours", mine), ("theirs", other)):
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            spent = (time.process_time() - cpu, time.perf_counter() - wall)
            best[name] = (min(best[name][0], spent[0]), min(best[name][1], spent[1]))
    for place, kind in enumerate(("CPU", "wall")):
        a, b = best["ours"][place], best["theirs"][place]
        print(f"{what:<24} {kind:<5} ours {count / a:>9.0f}/s   theirs {count / b:>9.0f}/s   ratio {b / a:.1f}")


def main() -> None:
    warnings.simplefilter("ignore")
    catalog = Catalog(Path(sys.argv[2]), Path(sys.argv[1]))
    version = catalog.open(sys.argv[3])
    share = float(sys.argv[4]) if len(sys.argv) > 4 else 0.3
    index = version.index()
    rows = np.sort(np.random.default_rng(0).permutation(index.num_rows)[: round(index.num_rows * share)])
    kept = frozenset(index["key"].take(rows).to_pylist())
    uids = frozenset(index["uid"].take(rows).to_pylist())
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        out = Path(folder)

        def fresh(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                shutil.rmtree(out)
                out.mkdir()
                work()

            return run

        mine, other = fresh(lambda: ours(version, rows, out)), fresh(lambda: theirs(version, kept, out))
        compare(f"reshard {share:.0%}", index.num_rows, mine, other)
        mine()
        theirs(version, kept, out)
        with tarfile.open(out / "theirs.tar") as tar:
            payloads = {item.name: tar.extractfile(item).read() for item in tar}
        found = [item for number in range(len(list(out.glob("0*.tar")))) for item in named(out, number)]
        assert len(found) == len(payloads) == 3 * len(rows)
        keys = index["key"].take(rows).to_pylist()
        for place, (name, data) in enumerate(found):
            old = keys[place // 3]
            wanted = payloads[f"{old}.{name.partition('.')[2]}"]
            assert data == wanted.replace(b'"key":"%s"' % old.encode(), b'"key":"%s"' % name[:9].encode()), name
        print(f"payloads: {len(found)} members identical, the key in each JSON aside")
        first = version.folder / shard_name(0)
        compare(
            "index a tar",
            version.manifest.body["shards"][0]["samples"],
            lambda: walk(first),
            lambda: walked(first),
        )
    at, cpu = time.perf_counter(), time.process_time()
    made = reshard(catalog, version.ref, Layout(SHARD_BYTES, keep=uids), "bench-reshard")
    cpu, at = time.process_time() - cpu, time.perf_counter() - at
    print(f"whole command: {index.num_rows / cpu:.0f} input samples/s of CPU, {cpu:.1f} s of CPU, {at:.1f} s")
    shutil.rmtree(catalog.folder("bench-reshard", made.manifest.version))
    catalog.manifest_path("bench-reshard", made.manifest.version).unlink()


def named(folder: Path, number: int) -> list[tuple[str, bytes]]:
    members, _ = walk(folder / shard_name(number))
    with ShardReader(folder) as reader:
        return [(name, reader.read(number, offset, size)) for name, offset, size in members]


def walked(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


if __name__ == "__main__":
    main()
