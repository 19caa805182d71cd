"""Shards against webdataset, in one run: writing tars, reading them through, and reading single samples.

Run: python -m tests.benchmarks.bench_shards [NUM_SAMPLES]
Prints seconds and ratios (above 1: we are faster); the median of several rounds, the two taking turns.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import webdataset

from data_manifests.shards import ShardMember, ShardReader, ShardWriter, sample_key
from tests.data_manifests.tars import walk

ROUNDS = 5
IMAGE_BYTES = 35_000


def samples(count: int) -> list[tuple[str, bytes, bytes, bytes]]:
    """Return (key, image, JSON, text) of the sizes that photographs of 256 px have."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, IMAGE_BYTES, dtype=np.uint8).tobytes()
    return [(sample_key(0, n), image, b'{"caption": "a dog"}' * 20, b"a dog runs over the grass") for n in range(count)]


def write_ours(path: Path, rows: list[tuple[str, bytes, bytes, bytes]]) -> None:
    with ShardWriter(path) as writer:
        for key, image, meta, text in rows:
            writer.add(f"{key}.jpg", image)
            writer.add(f"{key}.json", meta)
            writer.add(f"{key}.txt", text)
        writer.finish()


def write_theirs(path: Path, rows: list[tuple[str, bytes, bytes, bytes]]) -> None:
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for key, image, meta, text in rows:
            writer.write({"__key__": key, "jpg": image, "json": meta, "txt": text})


def read_ours(path: Path, members: list[ShardMember]) -> int:
    with ShardReader(path.parent) as reader:
        return sum(len(reader.read(0, member.offset, member.size_bytes)) for member in members)


def read_theirs(path: Path) -> int:
    found = webdataset.WebDataset(str(path), shardshuffle=False)
    return sum(len(sample[name]) for sample in found for name in ("jpg", "json", "txt"))


def compare(what: str, ours: Callable[[], object], theirs: Callable[[], object], count: int) -> None:
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        for name, work in (("ours", ours), ("theirs", theirs)):
            started = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - started)
    mine, other = (statistics.median(times[name]) for name in ("ours", "theirs"))
    print(f"{what:<28} {count / mine:>9.0f}/s   webdataset {count / other:>9.0f}/s   ratio {other / mine:.1f}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    warnings.simplefilter("ignore")
    rows = samples(count)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "00000.tar", Path(folder) / "theirs.tar"

        def fresh(
            path: Path, write: Callable[[Path, list[tuple[str, bytes, bytes, bytes]]], None]
        ) -> Callable[[], None]:
            def work() -> None:
                path.unlink(missing_ok=True)
                write(path, rows)

            return work

        compare("write (hashed, fsynced)", fresh(ours, write_ours), fresh(theirs, write_theirs), count)
        print(f"bytes: ours {ours.stat().st_size}, webdataset {theirs.stat().st_size}")
        members = walk(ours)[0]
        assert read_ours(ours, members) == read_theirs(theirs)
        compare("read all by index", lambda: read_ours(ours, members), lambda: read_theirs(theirs), count)
        compare("index a tar", lambda: walk(ours)[0], lambda: list(_tarfile_names(ours)), count)


def _tarfile_names(path: Path) -> list[str]:
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
        return tar.getnames()


if __name__ == "__main__":
    main()
