"""The operations that make negatives: from stored parses, and end to end beside a parser call for each caption.

Run: python -m tests.benchmarks.bench_negatives [NUM_CAPTIONS] [--repeat 10]
Reads Flickr8k's captions from CLIPCURATE_DATA. Three parts:

1. negatives/s of every operation from parses held in memory, as the engine runs stages, in two processes at once, each
   with half of the photographs, each photograph once per operation (processor time, since a core that others use too
   says nothing by wall clock);
2. in one process, the published generator of NegCLIP as described in section 4 of Yuksekgonul et al. 2023 and in the open implementation
   of FSC-CLIP: for each caption one call of the whole parser and, of each span class, one swap of two spans
   drawn at random; beside it `parse_captions` and `swap_words` on the same captions, in the same run, in turns;
3. in one process, memory: the operations over the captions `--repeat` times; the peak must not grow.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from curation.engine.engine import infrequent_garbage_collection
from curation.engine.stage import MapStage
from curation.models.parser import DEFAULT_MODEL
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.swap_words import SwapWords
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.curation.negative_checks import operations

DATA = Path(os.environ.get("CLIPCURATE_DATA", Path(__file__).parents[2] / "../shared/data"))
BATCH = 256
WARM = 100
"""Photographs that load word lists and dictionaries, and are not counted."""


def images(num_captions: int) -> list[Sample]:
    """Return images with their captions, unparsed, until there are enough captions."""
    path = DATA / "flickr8k/Flickr8k.token.txt"
    if not path.is_file():
        raise SystemExit(f"{path} is absent: set CLIPCURATE_DATA to a folder with flickr8k/Flickr8k.token.txt")
    captions: dict[str, list[str]] = {}
    for line in islice(path.read_text(encoding="utf-8").splitlines(), num_captions):
        name, _, caption = line.partition("\t")
        captions.setdefault(name.partition("#")[0], []).append(caption)
    return [Sample(image_uid(name.encode()), name, ImageRef(name), tuple(texts)) for name, texts in captions.items()]


def batches(samples: list[Sample]) -> Iterator[list[Sample]]:
    for start in range(0, len(samples), BATCH):
        yield samples[start : start + BATCH]


def parsed(samples: list[Sample]) -> list[Sample]:
    """Parse batch by batch, as the engine does."""
    stage, found = ParseCaptions(), []
    for batch in batches(samples):
        results = stage.process(batch)
        found += [one.adding(got) for one, got in zip(batch, results, strict=True) if isinstance(got, dict)]
    return found


def timed(work: Callable[[], int]) -> tuple[int, float]:
    started = time.process_time()
    count = work()
    return count, time.process_time() - started


def num_negatives(stage: MapStage, samples: list[Sample]) -> int:
    name = stage.provides[0].name
    return sum(len(got[name]) for batch in batches(samples) for got in stage.process(batch) if isinstance(got, dict))


def measure_operations(num_captions: int, _repeat: int, half: int = 0) -> dict[str, Any]:
    samples = parsed(images(num_captions)[half::2])
    stages = [SwapWords(), *(stage for stage in operations() if stage.name != "swap_words")]
    warm, samples = samples[:WARM], samples[WARM:]
    gc.collect()
    gc.freeze()
    found = {}
    with infrequent_garbage_collection():
        for stage in stages:
            num_negatives(stage, warm)
            count, seconds = timed(lambda stage=stage: num_negatives(stage, samples))  # type: ignore[misc]
            found[stage.name] = {"negatives": count, "seconds": seconds}
    return {"captions": sum(len(one.captions) for one in samples), "stages": found}


def published(nlp: Any, caption: str, rng: random.Random) -> list[str]:
    """Return one swapped text per span class, by the published procedure: draw up to two spans, give up if equal."""
    from spacy.matcher import Matcher
    from spacy.util import filter_spans

    doc = nlp(caption)
    matcher = Matcher(nlp.vocab)
    verb = [
        {"POS": "VERB", "OP": "?"},
        {"POS": "ADV", "OP": "*"},
        {"POS": "AUX", "OP": "*"},
        {"POS": "VERB", "OP": "+"},
    ]
    matcher.add("verb_phrase", [verb])
    classes = [
        [chunk for chunk in doc.noun_chunks if len(chunk) > 2],
        filter_spans([doc[first:stop] for _, first, stop in matcher(doc)]),
        *([doc[token.i : token.i + 1] for token in doc if token.tag_ == tag] for tag in ("NN", "NNS")),
        *([doc[token.i : token.i + 1] for token in doc if token.pos_ == pos] for pos in ("ADV", "ADJ")),
    ]
    found = []
    for spans in classes:
        drawn = sorted(rng.sample(spans, min(2, len(spans))), key=lambda span: span.start)
        if len(drawn) == 2 and drawn[0].end <= drawn[1].start and drawn[0].text != drawn[1].text:
            one, other = drawn
            middle = caption[one.end_char : other.start_char]
            found.append(caption[: one.start_char] + other.text + middle + one.text + caption[other.end_char :])
    return found


def measure_published(num_captions: int, _repeat: int, _half: int = 0) -> dict[str, Any]:
    """Time both in turns on slices of the same captions; the first slice of each is not counted."""
    import spacy

    nlp = spacy.load(DEFAULT_MODEL)
    samples, rng, stage, parser = images(num_captions), random.Random(0), SwapWords(), ParseCaptions()
    spent = {"published": 0.0, "parser": 0.0, "swaps": 0.0}
    made = {"published": 0, "ours": 0}
    captions = 0
    for number, batch in enumerate(batches([*samples[:20], *samples])):
        texts = [caption for one in batch for caption in one.captions]
        theirs = timed(lambda texts=texts: sum(len(published(nlp, text, rng)) for text in texts))  # type: ignore[misc]
        started = time.process_time()
        results = parser.process(batch)
        ready = [one.adding(got) for one, got in zip(batch, results, strict=True) if isinstance(got, dict)]
        after = time.process_time()
        ours = timed(lambda ready=ready: num_negatives(stage, ready))  # type: ignore[misc]
        if number == 0 and len(samples) > BATCH:
            continue
        captions += len(texts)
        for name, seconds in (("published", theirs[1]), ("parser", after - started), ("swaps", ours[1])):
            spent[name] += seconds
        made["published"] += theirs[0]
        made["ours"] += ours[0]
    return {"captions": captions, "spent": spent, "made": made}


def measure_memory(num_captions: int, repeat: int, _half: int = 0) -> dict[str, Any]:
    samples, stages, peaks, made = images(num_captions), operations(), [], 0
    for _ in range(repeat):
        for batch in batches(samples):
            ready = parsed(batch)
            made += sum(num_negatives(stage, ready) for stage in stages)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {"first": peaks[0], "last": peaks[-1], "negatives": made}


def child(name: str, num_captions: int, repeat: int, half: int = 0) -> dict[str, Any]:
    """Run one part in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.bench_negatives",
        "--child",
        name,
        str(num_captions),
        str(repeat),
        str(half),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "BLIS_NUM_THREADS": "1"}
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, num_captions, repeat, half = sys.argv[2], *map(int, sys.argv[3:6])
        part = {call.__name__: call for call in (measure_operations, measure_published, measure_memory)}[name]
        print(json.dumps(part(num_captions, repeat, half)))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("captions", nargs="?", type=int, default=3000)
    parser.add_argument("--repeat", type=int, default=10)
    options = parser.parse_args()
    if options.captions < 2_000:
        parser.error("give 2,000 captions or more: a hundred photographs of each half only warm up")
    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(lambda half: child("measure_operations", options.captions, 1, half), range(2)))
    print(f"from stored parses, {sum(one['captions'] for one in halves)} captions, two processes, processor time:")
    for name in halves[0]["stages"]:
        parts = [one["stages"][name] for one in halves]
        count, rate = sum(one["negatives"] for one in parts), sum(one["negatives"] / one["seconds"] for one in parts)
        print(f"  {name:18s} {count:7d} negatives   {rate:9.0f} negatives/s")
    sums = [[sum(one[key] for one in half["stages"].values()) for key in ("negatives", "seconds")] for half in halves]
    count, rate = sum(made for made, _ in sums), sum(made / seconds for made, seconds in sums)
    print(f"  {'all':18s} {count:7d} negatives   {rate:9.0f} negatives/s")
    got = child("measure_published", options.captions, options.repeat)
    spent, made, captions = got["spent"], got["made"], got["captions"]
    ours = spent["parser"] + spent["swaps"]
    print(f"end to end, {captions} captions, one core, processor time:")
    print(
        f"  nlp(text) for each caption   {captions / spent['published']:7.0f} captions/s   {made['published']} negatives"
    )
    print(f"  parse_captions + swap_words  {captions / ours:7.0f} captions/s   {made['ours']} negatives   "
          f"ratio {spent['published'] / ours:.2f}   parser {spent['parser'] / ours:.1%} of our time")  # fmt: skip
    got = child("measure_memory", min(options.captions, 1000), options.repeat)
    print(f"memory, parsing and all operations {options.repeat} times over: peak {got['first']:.0f} MiB after the first, "
          f"{got['last']:.0f} MiB after the last ({got['negatives']} negatives)")  # fmt: skip


if __name__ == "__main__":
    main()
