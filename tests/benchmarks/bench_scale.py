"""Curating as data grows: seconds, samples a second and peak memory beside webdataset's plain copy of the same tars.

    python -m tests.benchmarks.bench_scale --samples 100000 300000 1000000 --recipe clip

The source is generated: JPEGs of 72 px with captions of a small grammar, one caption a picture, as webdataset tars. Each size is
curated by a command of its own. "Peak" is the largest resident set of any of its processes, as the kernel counts it. The copy
reads samples with webdataset and writes them with its TarWriter, in one process; a ratio above 1 means that we are faster.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import simplejpeg
import webdataset

from data_manifests.shards import ShardWriter, sample_key

SAMPLES_PER_TAR = 10_000
SIDE, CELL = 72, 8
_COLOURS = ("red", "blue", "green", "white", "black", "yellow", "brown", "grey")
_THINGS = ("dog", "bag", "car", "chair", "boat", "horse", "lamp", "jacket", "bottle", "bird", "bench", "truck")
_PLACES = ("on the street", "in a field", "near a lake", "on a table", "in front of a wall", "beside the road")
_DOINGS = ("stands", "lies", "is seen", "waits", "is shown", "rests")


def write_tar(folder: Path, count: int, number: int) -> None:
    """Write one tar of generated samples; the same number gives the same bytes."""
    rng = np.random.default_rng(number)
    first, end = number * SAMPLES_PER_TAR, min(count, (number + 1) * SAMPLES_PER_TAR)
    with ShardWriter(folder / f"{number:05d}.tar") as writer:
        for place in range(end - first):
            cells = rng.integers(0, 256, (SIDE // CELL, SIDE // CELL, 3), np.uint8)
            image = np.ascontiguousarray(cells.repeat(CELL, 0).repeat(CELL, 1))
            key = sample_key(number, place)
            writer.add(f"{key}.jpg", simplejpeg.encode_jpeg(image, quality=85))
            writer.add(f"{key}.txt", caption(rng, first + place).encode())
        writer.finish()


def caption(rng: np.random.Generator, number: int) -> str:
    """Return a sentence; its number makes it differ from all others."""
    one, two = (f"{_COLOURS[rng.integers(len(_COLOURS))]} {_THINGS[rng.integers(len(_THINGS))]}" for _ in range(2))
    doing, place = _DOINGS[rng.integers(len(_DOINGS))], _PLACES[rng.integers(len(_PLACES))]
    return f"a {one} {doing} beside the {two} {place}, picture {number}"


def copy_plainly(source: Path, target: Path) -> None:
    """Read all samples with webdataset and write them with its TarWriter."""
    target.mkdir()
    for path in sorted(source.glob("*.tar")):
        with webdataset.TarWriter(str(target / path.name), encoder=False) as writer:
            for sample in samples_of(path):
                writer.write(sample)


def samples_of(path: Path) -> Iterator[dict[str, bytes | str]]:
    """Yield what webdataset reads of a tar."""
    for sample in webdataset.WebDataset(str(path), shardshuffle=False):
        yield {name: sample[name] for name in ("__key__", "jpg", "txt")}


def curate(source: Path, folder: Path, options: argparse.Namespace) -> tuple[float, float, dict[str, object]]:
    """Run the command; return seconds, the peak of any of its processes in MiB, and what it printed as JSON."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_scale", "--measure", "--"]
    command += [
        sys.executable,
        "-m",
        "flows.cli.main",
        "--workspace",
        str(folder / "w"),
        "--manifests",
        str(folder / "m"),
    ]
    command += [
        "curate",
        options.recipe,
        "--source",
        f"webdataset:{source}",
        "--name",
        "scale",
        "--no-prefect",
        "--json",
    ]
    command += ["--workers", str(options.workers), *(f"--set={item}" for item in options.set)]
    command += ["--model", options.model] if options.model else []
    started = time.perf_counter()
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    wall = time.perf_counter() - started
    *_, peak_line = found.stdout.splitlines()
    return wall, float(peak_line) / 1024, orjson.loads(b"\n".join(found.stdout.splitlines()[:-1]))


def measure(command: list[str]) -> None:
    """Run a command; print what it prints and then its largest process's peak in KiB."""
    subprocess.run(command, check=True)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def main() -> None:
    """Run the benchmark."""
    if "--measure" in sys.argv:
        measure(sys.argv[sys.argv.index("--") + 1 :])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--recipe", default="clip")
    parser.add_argument("--model", default="")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="passed on to curate")
    parser.add_argument("--folder", help="where the inputs are made and kept; default: a temporary one")
    parser.add_argument("--no-copy", action="store_true", help="without webdataset's copy")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for count in options.samples:
            run_size(count, Path(options.folder or scratch), Path(scratch) / str(count), options)


def run_size(count: int, inputs: Path, folder: Path, options: argparse.Namespace) -> None:
    """Measure one size and print a line."""
    folder.mkdir()
    source = inputs / f"source-{count}"
    if not source.exists():
        draft = folder / "draft"
        draft.mkdir()
        with ProcessPoolExecutor(options.workers) as pool:
            list(pool.map(partial(write_tar, draft, count), range(-(-count // SAMPLES_PER_TAR))))
        draft.rename(source)
    plain = 0.0
    if not options.no_copy:
        started = time.perf_counter()
        copy_plainly(source, folder / "copy")
        plain = time.perf_counter() - started
    wall, peak, found = curate(source, folder, options)
    print(
        f"{count:>9,} samples {options.recipe}: {wall:.1f} s, {count / wall:,.0f} a second, peak {peak:,.0f} MiB"
        + (f"; webdataset's copy {plain:.1f} s, ratio {plain / wall:.2f}" if plain else "")
        + f"; {orjson.dumps(found['seconds']).decode()}",
        flush=True,
    )


if __name__ == "__main__":
    main()
