"""How often judges without the image tell negatives from captions: raw, refined, and SugarCrepe beside them.

Run: python -m tests.benchmarks.bench_blind FLICKR_DIR [--limit N] [--offset M] [--new N] [--sugarcrepe DIR]
FLICKR_DIR holds Flickr8k.token.txt. Every generator of negatives that needs no model takes part (found among the
stages), then the gate of false negatives. Judges learn from half of the photographs and judge the other half; the last table of negatives is of
the neural judge, which refinement does not know, after learning from the many more negatives before refinement. On
SugarCrepe (DIR with its seven files) judges learn from half of each file's pictures; the judge of words reads Flickr's
captions too.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3

from curation.blind import judges
from curation.blind.judges import Judge, Pair, blind_accuracy, positive_of
from curation.blind.tokens import Float64s
from curation.engine.fits import Fit
from curation.engine.stage import MapStage
from curation.knowledge.open_graph import SeedGraph
from curation.stages import stage_classes
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from curation.stages.negatives.refine_negatives import RefineNegatives
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.curation.gru_judge import GruJudge
from tests.curation.listed_columns import ListedColumns

BATCH = 256
GATED = "true_negatives"
_FEW = 100
SCORERS = ("blind_learned", "blind_words", "blind_tags")
JUDGES: Mapping[str, Judge] = {**judges.JUDGES, "network": GruJudge()}


def read_flickr(folder: Path, limit: int, offset: int = 0) -> list[Sample]:
    """Return photographs with their captions, sorted by uid; names stand for image bytes, which nothing here reads."""
    captions: dict[str, list[str]] = {}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, _, caption = line.partition("\t")
        captions.setdefault(name.partition("#")[0], []).append(caption)
    chosen = list(captions.items())[offset : offset + limit]
    samples = [Sample(image_uid(name.encode()), name, ImageRef(name), tuple(texts)) for name, texts in chosen]
    return sorted(samples, key=lambda sample: sample.uid)


def generators() -> list[MapStage]:
    """Return every stage that makes negatives from captions and parses alone."""
    found = []
    for kind in stage_classes():
        wanted = [item.name for item in dataclasses.fields(kind) if item.default is dataclasses.MISSING]
        made_here = any(field.role == "negatives" for field in kind.provides)
        if issubclass(kind, MapStage) and made_here and not wanted:
            stage = kind()
            if not stage.superseded_fields() and set(stage.required_fields()) <= {"uid", "captions", "parses"}:
                found.append(stage)
    return found


def make(samples: Sequence[Sample], stages: Sequence[MapStage]) -> list[Sample]:
    """Parse, run the generators and the gate of false negatives; keep what refinement reads."""
    made = []
    gate = FindFalseNegatives(fields_of(stages), SeedGraph(), "exactly", like_swaps=True)
    for start in range(0, len(samples), BATCH):
        batch = list(samples[start : start + BATCH])
        for stage in (ParseCaptions(), *stages, gate):
            results = stage.process(batch)
            batch = [one.adding(row) for one, row in zip(batch, results, strict=True) if isinstance(row, Mapping)]
        for one in batch:
            parses = [{"words": parse["words"], "tags": parse["tags"]} for parse in one["parses"]]
            made.append(dataclasses.replace(one, fields={}).adding({"parses": parses, GATED: one[GATED]}))
    return made


def fields_of(stages: Sequence[MapStage]) -> list[str]:
    return [field.name for stage in stages for field in stage.provides if field.role == "negatives"]


def pairs_of(samples: Sequence[Sample], records: Iterable[Sequence[Mapping[str, Any]]]) -> list[Pair]:
    return [
        Pair(sample.uid, positive_of(one, sample.captions), one["text"], f"{one['operation']} {one['span_class']}")
        for sample, of_image in zip(samples, records, strict=True)
        for one in of_image
    ]


class TrainedOn:
    """A network that learns from given pairs of the images that it does not judge."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = sorted(set(pairs))

    def gaps(self, train: Sequence[Pair], captions: Sequence[str], test: Sequence[Pair]) -> Float64s:
        judged = {pair.uid for pair in test}
        return GruJudge().gaps([pair for pair in self._pairs if pair.uid not in judged], captions, test)


def show(
    title: str, rows: Mapping[str, Mapping[str, float]], counts: Mapping[str, int], given: Mapping[str, int]
) -> None:
    """Print one table: operations down, judges across, each with the half width of its 95 % interval."""
    print(f"\n{title}")
    print(f"{'':34}{'pairs':>8}{'yield':>8}" + "".join(f"{name:>16}" for name in rows))
    overall = sum(counts.values()), sum(given.values())
    rows = {judge: with_operations(found, counts) for judge, found in rows.items()}
    counts, given = with_sums(counts), with_sums(given)
    for name in [*sorted(counts), "overall"]:
        num, had = overall if name == "overall" else (counts[name], given[name])
        cells = "".join(_with_interval(found.get(name), num) for found in rows.values())
        few = f"  fewer than {_FEW}: tells nothing" if num < _FEW else ""
        print(f"{name:34}{num:>8}{100 * num / max(had, 1):>7.1f}%{cells}{few}", flush=True)


def applied(refine: RefineNegatives, samples: Sequence[Sample], fit: Fit) -> list[Any]:
    """Return the results of samples, batch by batch."""
    batches = (samples[start : start + BATCH] for start in range(0, len(samples), BATCH))
    return [result for batch in batches for result in refine.apply(batch, fit)]


def show_new(results: Sequence[Any], new: Sequence[Any]) -> None:
    """Print yield and accuracy of each scorer, by operation, of the photographs learned from and of new ones."""
    print(f"\nlearned from, and {len(new)} new photographs: kept of given, preferred captions by {', '.join(SCORERS)}")
    for operation in sorted({one.split()[1] for result in results for one in result["refine_usage"]}):
        cells = []
        for part in (results, new):
            usage = sum((Counter(result["refine_usage"]) for result in part), Counter())
            given, kept = (
                sum(number for name, number in usage.items() if name.startswith(f"{what} {operation} "))
                for what in ("given", "kept")
            )
            of_part = (one for result in part for one in result["refined_negatives"] if one["operation"] == operation)
            signs = np.sign([[json.loads(one["scores"])[name] for name in SCORERS] for one in of_part])
            shares = " ".join(f"{100 * share:5.1f}" for share in (0.5 + signs.mean(axis=0) / 2 if kept else ()))
            cells.append(f"{kept:6} of {given:6} {100 * kept / max(given, 1):5.1f} %  {shares:17}")
        print(f"{operation:12}" + "   ".join(cells))


def classes_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the span classes of each operation that has several."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(f"{name.partition(' ')[0]}, all", []).append(name)
    return {operation: classes for operation, classes in found.items() if len(classes) > 1}


def with_sums(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts of span classes, and of whole operations."""
    return {**counts, **{name: sum(counts[one] for one in own) for name, own in classes_of(counts).items()}}


def with_operations(shares: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, float]:
    """Return the shares of span classes, and of whole operations: each pair counts once."""
    found = dict(shares)
    for name, own in classes_of(counts).items():
        right = sum(shares.get(one, 0.0) * counts[one] for one in own)
        found[name] = right / max(sum(counts[one] for one in own), 1)
    return found


def _with_interval(share: float | None, num: int) -> str:
    """Return a share in per cent with half its 95 % interval (normal approximation, pairs taken for independent)."""
    if share is None or not num:
        return f"{'-':>16}"
    half = 1.96 * max(share * (1 - share), 1 / num) ** 0.5 / num**0.5
    return f"{100 * share:>9.1f} ±{100 * half:>5.1f}"


def judged(pairs: Sequence[Pair], captions: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return each judge's accuracies, saying how long it took."""
    found: dict[str, Any] = {}
    for name in JUDGES:
        busy = time.process_time()
        found[name] = blind_accuracy(pairs, JUDGES[name], captions=captions)
        print(
            f"  {name}: {found[name]['overall']} overall, {time.process_time() - busy:.0f} s of processor time",
            flush=True,
        )
    return found


def sugarcrepe(folder: Path, captions: Sequence[tuple[str, str]]) -> None:
    """Print the same judges on SugarCrepe's files."""
    pairs = []
    for path in sorted(folder.glob("*.json")):
        for item in json.loads(path.read_text(encoding="utf-8")).values():
            uid = blake3(item["filename"].encode()).hexdigest(length=16)
            pairs.append(Pair(uid, item["caption"], item["negative_caption"], path.stem))
    counts = Counter(pair.operation for pair in pairs)
    rows: dict[str, Any] = {name: {} for name in JUDGES}
    for operation in counts:
        own = [pair for pair in pairs if pair.operation == operation]
        for name in JUDGES:
            rows[name][operation] = blind_accuracy(own, JUDGES[name], captions=captions)["overall"]
    show("SugarCrepe, each judge taught on half of the same file", rows, counts, counts)


def main() -> None:
    """Make negatives, refine them, ask the judges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flickr", type=Path)
    parser.add_argument("--limit", type=int, default=1500, help="photographs")
    parser.add_argument("--offset", type=int, default=0, help="photographs of the list that are passed over first")
    parser.add_argument("--sugarcrepe", type=Path)
    parser.add_argument("--rounds", type=int, default=RefineNegatives.num_rounds)
    parser.add_argument("--least-share", type=float, default=RefineNegatives.least_share)
    parser.add_argument("--new", type=int, default=0, help="photographs after these, treated with their fit")
    asked = parser.parse_args()
    stages = generators()
    samples = make(read_flickr(asked.flickr, asked.limit, asked.offset), stages)
    every = [(sample.uid, text) for sample in samples for text in sample.captions]
    print(f"{len(samples)} photographs, {len(every)} captions; " + ", ".join(stage.name for stage in stages))
    refine = RefineNegatives(fields=(GATED,), num_rounds=asked.rounds, least_share=asked.least_share)
    started, busy = time.perf_counter(), time.process_time()
    fit = refine.fit(ListedColumns(samples, BATCH))
    results = applied(refine, samples, fit)
    print(
        f"refined in {time.process_time() - busy:.0f} s of processor time ({time.perf_counter() - started:.0f} s wall); "
        f"the fit has {len(fit.to_bytes()) / 1e6:.1f} MB; "
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )
    if asked.new:
        new = make(read_flickr(asked.flickr, asked.new, asked.offset + asked.limit), stages)
        show_new(results, applied(refine, new, fit))
    raw = pairs_of(samples, (sample[GATED] for sample in samples))
    refined = pairs_of(samples, (result["refined_negatives"] for result in results))
    given, kept = (Counter(pair.operation for pair in pairs) for pairs in (raw, refined))
    some = len({(pair.uid, pair.caption) for pair in refined})
    print(f"captions with a refined negative: {some} ({100 * some / len(every):.1f} %)")
    shown = Counter({name: kept[name] for name in given})
    show("refined", judged(refined, every), shown, given)
    show("raw", judged(raw, every), given, given)
    taught = {"network, raw": blind_accuracy(refined, TrainedOn(raw), captions=every)}
    show("refined, judged by who has learned from raw ones", taught, shown, given)
    if asked.sugarcrepe:
        sugarcrepe(asked.sugarcrepe, every)


if __name__ == "__main__":
    main()
