"""The graph store: building, opening and asking it, beside conceptnet-lite doing the same lookups in the same run.

Run: python -m tests.benchmarks.bench_graph [ASSERTIONS.csv.gz] [--edges 3400000]
Builds the given file and a generated one in the same format (seeded; few concepts have most of the edges, as words
have). Each build and each reader is a process of its own, so that its peak memory is its own; files are in the system's
cache when they are read. CPU seconds stand beside wall seconds, which on a busy machine say little. conceptnet-lite gets the first `--theirs` lines of each file, and as it is asked concept by
concept it gets fewer concepts: rates are compared, on a store of the same lines.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import itertools
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from curation.knowledge.build import GraphSource, build_graph
from curation.knowledge.formats.rows import Keep
from curation.knowledge.open_graph import GraphFile

NUM_ASKED = 10_000
THEIR_SECONDS = 240
RELATIONS = ("AtLocation", "CapableOf", "HasA", "HasProperty", "IsA", "PartOf", "RelatedTo", "Synonym", "UsedFor")
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]


def name_of(number: int) -> str:
    """Return a made-up word, different for each number."""
    letters = []
    while True:
        number, digit = divmod(number, len(SYLLABLES))
        letters.append(SYLLABLES[digit])
        if not number:
            return "_".join("".join(letters[at : at + 3]) for at in range(0, len(letters), 3))


def write_generated(path: Path, num_edges: int) -> None:
    """Write assertions: heads of density 1/sqrt(rank), tails of density 1/rank."""
    rng, num_concepts = np.random.default_rng(0), max(10, num_edges // 3)
    with gzip.open(path, "wt", compresslevel=1, encoding="utf-8") as file:
        for start in range(0, num_edges, 1 << 16):
            size = min(1 << 16, num_edges - start)
            heads = (num_concepts * rng.random(size) ** 2).astype(int)
            tails = (num_concepts ** rng.random(size)).astype(int)
            kinds, weights = rng.integers(len(RELATIONS), size=size), rng.integers(1, 9, size=size) / 2
            for head, tail, kind, weight in zip(heads, tails, kinds, weights, strict=True):
                a, b, relation = name_of(int(head)), name_of(int(tail)), RELATIONS[kind]
                details = {"dataset": "/d/made", "license": "cc0", "weight": float(weight)}
                file.write(
                    f"/a/[/r/{relation}/,/c/en/{a}/,/c/en/{b}/]\t/r/{relation}\t/c/en/{a}\t/c/en/{b}\t{json.dumps(details)}\n"
                )


def child(*words: str, limit: float | None = None) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_graph", "--child", *words]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=limit)
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def build_ours(assertions: str, store: str) -> dict[str, Any]:
    started, busy = time.perf_counter(), time.process_time()
    built = build_graph([GraphSource("assertions", Path(assertions))], Path(store), Keep(), lambda _what, _count: None)
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - busy,
        "edges": built.info.num_edges,
        "concepts": built.info.num_concepts,
    }


def ask_ours(store: str, concepts: str) -> dict[str, Any]:
    asked = json.loads(Path(concepts).read_text())
    graph = GraphFile(store)
    started, busy = time.perf_counter(), time.process_time()
    graph.content_hash()
    opened = time.perf_counter()
    outward = graph.edges_from(asked)
    after_from = time.perf_counter()
    inward = graph.edges_to(asked)
    done = time.perf_counter()
    return {
        "open": opened - started,
        "from": after_from - opened,
        "cpu": time.process_time() - busy,
        "to": done - after_from,
        "edges_from": sum(map(len, outward.values())),
        "edges_to": sum(map(len, inward.values())),
    }


def build_theirs(lines: str, database: str) -> dict[str, Any]:
    db = importlib.import_module("conceptnet_lite.db")
    started = time.perf_counter()
    db.load_dump_to_db(dump_path=Path(lines), db_path=Path(database), delete_dump=False)
    return {"seconds": time.perf_counter() - started}


def ask_theirs(database: str, concepts: str) -> dict[str, Any]:
    lite = importlib.import_module("conceptnet_lite")
    lite.connect(database, db_download_url=None)
    asked = json.loads(Path(concepts).read_text())

    def read(edges: Any) -> int:
        return sum(1 for edge in edges if (edge.relation.name, edge.start.text, edge.end.text, edge.etc["weight"]))

    started = time.perf_counter()
    single = sum(read(lite.edges_from(lite.Label.get(text=w.replace(" ", "_"), language="en").concepts)) for w in asked)
    after_single = time.perf_counter()
    texts = [words.replace(" ", "_") for words in asked]
    found = list(lite.Concept.select().join(lite.Label).where(lite.Label.text.in_(texts)))
    batched = read(lite.edges_from(found))
    done = time.perf_counter()
    return {"single": after_single - started, "batched": done - after_single, "edges": single, "edges_batched": batched}


def sampled(store: Path, count: int, *, heads: bool) -> list[str]:
    """Return concepts of a store: any, or the heads with most edges."""
    db = GraphFile(str(store)).reader()._db
    if heads:
        sql = "SELECT words FROM concept JOIN (SELECT head, count(*) AS n FROM edge GROUP BY 1) ON head = id ORDER BY n DESC, id LIMIT ?"
        return [words for (words,) in db.execute(sql, (count,))]
    held = [words for (words,) in db.execute("SELECT DISTINCT words FROM concept JOIN edge ON head = id ORDER BY 1")]
    return random.Random(0).sample(held, min(count, len(held)))


def measure(what: str, assertions: Path, folder: Path, num_theirs: int, asked_theirs: int) -> None:
    store, words = folder / f"{what}.graph", folder / "concepts.json"
    built = child("build_ours", str(assertions), str(store))
    print(f"\n{what}: {built['edges']} edges, {built['concepts']} concepts")
    print(f"  build           {built['seconds']:8.1f} s (CPU {built['cpu']:.1f} s)   peak {built['peak_mib']:.0f} MiB   "
          f"{assertions.stat().st_size / 2**20:.1f} MiB gz -> {store.stat().st_size / 2**20:.1f} MiB")  # fmt: skip
    for name, heads in (("any heads", False), ("top heads", True)):
        words.write_text(json.dumps(sampled(store, NUM_ASKED, heads=heads)))
        got = child("ask_ours", str(store), str(words))
        print(f"  {NUM_ASKED} {name} open {got['open'] * 1e3:.1f} ms   from {got['from']:.3f} s ({got['edges_from']} edges)   "
              f"to {got['to']:.3f} s ({got['edges_to']} edges)   CPU of all {got['cpu']:.3f} s   peak {got['peak_mib']:.0f} MiB")  # fmt: skip
    beside(what, assertions, folder, num_theirs, asked_theirs)


def beside(what: str, assertions: Path, folder: Path, num_theirs: int, asked_theirs: int) -> None:
    """Ask both packages for the edges from the same concepts of the same lines."""
    lines, words = folder / f"{what}.csv", folder / "concepts.json"
    with gzip.open(assertions, "rb") as packed, lines.open("wb") as plain:
        plain.writelines(itertools.islice(packed, num_theirs))
    ours, theirs = folder / f"{what}.part.graph", folder / f"{what}.db"
    mine = child("build_ours", str(lines), str(ours))
    try:
        other = child("build_theirs", str(lines), str(theirs), limit=THEIR_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"  conceptnet-lite: its build took over {THEIR_SECONDS} s; give fewer lines (--theirs)")
        return
    print(f"  first {num_theirs} lines: build ours {mine['seconds']:.1f} s, conceptnet-lite {other['seconds']:.1f} s; "
          f"size ours {ours.stat().st_size / 2**20:.1f} MiB, conceptnet-lite {theirs.stat().st_size / 2**20:.1f} MiB")  # fmt: skip
    asked = sampled(ours, NUM_ASKED, heads=False)
    words.write_text(json.dumps(asked))
    got = child("ask_ours", str(ours), str(words))
    our_rate = len(asked) / (got["open"] + got["from"])
    part = asked[:asked_theirs]
    words.write_text(json.dumps(part))
    ask = child("ask_theirs", str(theirs), str(words), limit=THEIR_SECONDS)
    print(
        f"  ours             {our_rate:9.0f} concepts/s ({len(asked)} asked, opening included, {got['edges_from']} edges)"
    )
    for name, edges in (("single", ask["edges"]), ("batched", ask["edges_batched"])):
        rate = len(part) / ask[name]
        print(
            f"  conceptnet-lite  {rate:9.0f} concepts/s ({len(part)} asked, {name}, {edges} edges)   ratio {our_rate / rate:.0f}"
        )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, *words = sys.argv[2:]
        work = {call.__name__: call for call in (build_ours, ask_ours, build_theirs, ask_theirs)}[name]
        found = work(*words)
        print(json.dumps({**found, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("assertions", nargs="?", type=Path)
    parser.add_argument("--edges", type=int, default=3_400_000)
    parser.add_argument("--theirs", type=int, default=100_000, help="lines that conceptnet-lite gets")
    parser.add_argument("--asked-theirs", type=int, default=1000, help="concepts that it is asked for")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-graph-"))
    try:
        if options.assertions:
            measure("given", options.assertions, folder, options.theirs, options.asked_theirs)
        if options.edges:
            made = folder / "made.csv.gz"
            started = time.perf_counter()
            write_generated(made, options.edges)
            print(f"\ngenerated in {time.perf_counter() - started:.0f} s")
            measure("generated", made, folder, options.theirs, options.asked_theirs)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
