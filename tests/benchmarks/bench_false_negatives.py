"""False negatives per operation before and after the gate, on generated scenes, where the truth is known.

Run: python -m tests.benchmarks.bench_false_negatives [--scenes 1000] [--seed 77] [--numbers at_least]
Generators are all stages that provide a field of negatives and consume none; those that need more than captions and
parses, or settings of their own, are named and left out. `judged` are the texts that the oracle can read.
"""

from __future__ import annotations

import argparse
import inspect
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from curation.engine.stage import MapStage
from curation.knowledge.open_graph import SeedGraph
from curation.sources.scenes import ScenesSource
from curation.stages import stage_classes
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from data_manifests.sample import ImageRef, Sample, image_uid
from tests.benchmarks.scene_truth import denial_holds, exactly_true, truth_of

READABLE = {"uid", "captions", "parses"}


def generators() -> tuple[list[MapStage], list[str]]:
    """Return the stages that make negatives from captions and parses alone, and the names of the others."""
    found, left = [], []
    for kind in stage_classes():
        if not any(item.role == "negatives" for item in kind.provides) or kind is FindFalseNegatives:
            continue
        settings = inspect.signature(kind).parameters.values()
        bare = all(setting.default is not inspect.Parameter.empty for setting in settings)
        stage = kind() if bare else None
        if (
            isinstance(stage, MapStage)
            and not stage.superseded_fields()
            and READABLE.issuperset(stage.required_fields())
        ):
            found.append(stage)
        else:
            left.append(kind.name)
    return found, left


def scene_samples(count: int, seed: int) -> list[Sample]:
    """Return parsed samples of generated scenes, each with its scene in its attributes."""
    samples = [
        Sample(
            image_uid(record.name.encode()),
            record.name,
            ImageRef(record.name),
            record.captions,
            None,
            record.attributes,
        )
        for record in ScenesSource(f"{count}@{seed}").records()
    ]
    return with_fields(ParseCaptions(), samples)


def with_fields(stage: MapStage, samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with what a stage adds."""
    results = stage.process(samples)
    return [one.adding(result) for one, result in zip(samples, results, strict=True) if isinstance(result, dict)]


def fields_of(stages: Iterable[MapStage]) -> tuple[str, ...]:
    """Return the fields of negatives that stages provide."""
    return tuple(item.name for stage in stages for item in stage.provides if item.role == "negatives")


Counts = dict[str, Counter[tuple[bool | None, bool]]]
"""Operation -> (truth, whether the gate let it pass) -> negatives."""


def judged(
    samples: Sequence[Sample], results: Sequence[Any], numbers: str = "at_least"
) -> tuple[Counts, Counter[tuple[str, bool | None]]]:
    """Count truth and verdict per operation, and reasons by truth."""
    counts: Counts = {}
    exactly = numbers == "exactly"
    reasons: Counter[tuple[str, bool | None]] = Counter()
    for sample, result in zip(samples, results, strict=True):
        scene = sample.attributes["scene"]
        made = {
            (record["caption"], record["text"], record.get("rule", "")): record
            for name in sample.fields
            if name.endswith("_negatives") and name != "true_negatives"
            for record in sample[name]
        }
        for kept, records in ((True, result["true_negatives"]), (False, result["negatives_rejected"])):
            for record in records:
                if record.get("reason") == "repeated":
                    continue
                full = made[record["caption"], record["text"], record.get("rule", "")]
                operation = operation_of(full)
                true = truth_of(scene, full, sample.captions[full["caption"]], exactly=exactly)
                counts.setdefault(operation, Counter())[true, kept] += 1
                if not kept:
                    reasons[record["reason"], true] += 1
    return counts, reasons


def operation_of(record: Mapping[str, Any]) -> str:
    return f"{record['operation']}/{record['span_class']}"


def rates(count: Counter[tuple[bool | None, bool]]) -> tuple[int, float, float, float]:
    """Return (judged, false-negative rate before, after, share of true negatives lost)."""
    before = {true: count[true, True] + count[true, False] for true in (True, False)}
    passed = {true: count[true, True] for true in (True, False)}
    return (
        sum(before.values()),
        before[True] / max(1, sum(before.values())),
        passed[True] / max(1, sum(passed.values())),
        count[False, False] / max(1, before[False]),
    )


def table(counts: Counts) -> str:
    """Return the table of rates, a line for each operation and one for all."""
    lines = [f"{'operation':34} {'all':>6} {'judged':>6} {'before':>7} {'after':>7} {'lost':>7}"]
    total: Counter[tuple[bool | None, bool]] = Counter()
    for operation in sorted(counts):
        total.update(counts[operation])
    for operation, count in [*sorted(counts.items()), ("all", total)]:
        known, before, after, lost = rates(count)
        lines.append(f"{operation:34} {count.total():6} {known:6} {before:7.2%} {after:7.2%} {lost:7.2%}")
    return "\n".join(lines)


def views_false(samples: Sequence[Sample]) -> dict[str, Counter[bool | None]]:
    """Count the true texts beside negatives that the oracle finds true, and those it finds false."""
    found: dict[str, Counter[bool | None]] = {"denial": Counter(), "count": Counter()}
    for sample in samples:
        scene = sample.attributes["scene"]
        for view in sample.fields.get("denial", ()):
            found["denial"][denial_holds(scene, view["text"], sample.captions[view["caption"]])] += 1
        for view in sample.fields.get("count", ()):
            found["count"][exactly_true(scene, view["text"])] += 1
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--scenes", type=int, default=1000)
    options.add_argument("--seed", type=int, nargs="+", default=[77], help="seeds of scenes, judged together")
    options.add_argument("--numbers", default="at_least", help="at_least, or exactly: for the gate and for the truth")
    options.add_argument("--show", type=int, default=0, help="so many false negatives that passed")
    given = options.parse_args()
    makers, left = generators()
    print("generators:", ", ".join(stage.name for stage in makers), "| left out:", ", ".join(left) or "none")
    samples = [one for seed in given.seed for one in scene_samples(given.scenes, seed)]
    for stage in makers:
        samples = with_fields(stage, samples)
    gate = FindFalseNegatives(fields_of(makers), SeedGraph(), given.numbers)
    started = time.perf_counter()
    results = gate.process(samples)
    seconds = time.perf_counter() - started
    counts, reasons = judged(samples, results, given.numbers)
    print(table(counts))
    for kind, count in views_false(samples).items():
        print(f"views {kind}: {count[True]} true, {count[False]} false, {count[None]} not judged")
    print(f"{sum(count.total() for count in counts.values()) / seconds:.0f} negatives/s")
    for (reason, true), number in sorted(reasons.items(), key=str):
        print(f"  {reason:24} {'true' if true else 'false' if true is False else 'not judged':11} {number}")
    shown = 0
    for sample, result in zip(samples, results, strict=True):
        for record in result["true_negatives"] if isinstance(result, dict) else ():
            own = sample.captions[record["caption"]]
            exactly = given.numbers == "exactly"
            if shown < given.show and truth_of(sample.attributes["scene"], record, own, exactly=exactly):
                shown += 1
                print(f"{operation_of(record)} | {sample.captions[record['caption']]} => {record['text']}")
                print("".join(f"      - {caption}\n" for caption in sample.captions), end="")


if __name__ == "__main__":
    main()
