"""Counts and statistics of a version, for its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.engine.intake import Snapshot
from curation.engine.stage import Drop, FieldRole, Stage
from data_manifests.caption_negatives import NEGATIVES_PER_CAPTION, NO_CANDIDATE
from data_manifests.sample import Sample

_MIN_PAIRS = 200
"""Fewer pairs of caption and negative are too few to measure the blind accuracy."""


def count_sample(
    sample: Sample,
    index: Mapping[str, Any],
    negatives: Sequence[Mapping[str, Any]],
    views: Sequence[Mapping[str, Any]],
    fields: Sequence[tuple[str, FieldRole, Any]] = (),
    generators: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return what a published sample adds to counts and statistics, as JSON values without its texts.

    Args:
        sample: The sample.
        index: Its columns of the index.
        negatives: Its negatives.
        views: Its views.
        fields: Stage, role and value of its fields that are ``rejects`` or ``usage``.
        generators: The stages that make negatives; empty if they are not known, None if there are none.
    """
    counted = {
        "words": [len(text.split()) for text in sample.captions],
        "negatives": Counter(f"{record['operation']} {record['span_class']}" for record in negatives),
        "views": Counter(f"{record['kind']} {record['family']}" for record in views),
        "split": sample.split or "none",
        "image_bytes": sample.image.size_bytes,
        # a stage that rejected nothing is listed too
        "rejected": {
            stage: Counter(item["reason"] for item in value) for stage, role, value in fields if role == "rejects"
        },
        "used": {stage: value for stage, role, value in fields if role == "usage"},
    }
    if generators is not None:
        rejects = [(stage, value) for stage, role, value in fields if role == "rejects"]
        counted["candidates"] = count_candidates(len(sample.captions), negatives, rejects, generators)
    # versions made before it was recorded have no `shown_differently`
    return counted | {name: index[name] for name in ("cluster_id", "shown_differently") if name in index}


def count_candidates(
    num_captions: int,
    negatives: Sequence[Mapping[str, Any]],
    rejects: Iterable[tuple[str, Sequence[Mapping[str, Any]]]],
    generators: Collection[str],
) -> dict[str, Any]:
    """Return how many negatives each caption of a sample has, and what became of what the generators made for it.

    Args:
        num_captions: Captions of the sample.
        negatives: Its negatives.
        rejects: The records that each stage rejected, in the order of the stages.
        generators: The stages that make negatives; without any, only the captions' numbers are returned.
    """
    kept = Counter(record["caption"] for record in negatives)
    candidates = [(record["source"], "", record["caption"]) for record in negatives]
    last_reasons: dict[int, Counter[str]] = {}
    for stage, records in rejects:
        lost = [(record.get("source", stage), record["reason"], record["caption"]) for record in records]
        lost = [item for item in lost if item[0] in generators]  # others reject rewrites or knowledge
        candidates += lost
        reasons: dict[int, Counter[str]] = {}
        for _, reason, caption in lost:
            reasons.setdefault(caption, Counter())[reason] += 1
        last_reasons |= reasons
    numbers: dict[str, Any] = {"of_captions": [kept[caption] for caption in range(num_captions)]}
    if not generators:
        return numbers
    without = [caption for caption in range(num_captions) if not kept[caption]]
    numbers["without"] = Counter(_commonest(last_reasons.get(caption)) for caption in without)
    numbers["made"] = {name: {"captions": 0, "kept": 0} for name in generators}
    numbers["lost"] = {name: Counter() for name in generators}
    for name, reason, _ in candidates:
        if reason:
            numbers["lost"][name][reason] += 1
        else:
            numbers["made"][name]["kept"] += 1
    for name, _ in {(name, caption) for name, _, caption in candidates}:
        numbers["made"][name]["captions"] += 1
    return numbers


def _commonest(reasons: Counter[str] | None) -> str:
    """Return the commonest reason, of several the first by name."""
    return min(reasons, key=lambda reason: (-reasons[reason], reason)) if reasons else NO_CANDIDATE


@dataclass
class CandidateCounter:
    """Negatives by caption, and what became of each stage's: the sums of what `count_candidates` returned."""

    captions: Counter[int] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)
    made: dict[str, Counter[str]] = field(default_factory=dict)
    lost: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, numbers: Mapping[str, Any]) -> None:
        """Add those of a sample; empty for a recipe without negatives."""
        self.captions.update(numbers.get("of_captions", ()))
        self.without.update(numbers.get("without", {}))
        for sums, name in ((self.made, "made"), (self.lost, "lost")):
            for generator, of_generator in numbers.get(name, {}).items():
                sums.setdefault(generator, Counter()).update(of_generator)

    def statistics(self) -> dict[str, Any]:
        """Return what `CaptionNegatives` reads, as a part of a manifest's statistics; empty without negatives."""
        if not self.captions:
            return {}
        found: dict[str, Any] = {"captions": _with_text_keys(self.captions)}
        if self.made:  # a selection of another version knows the numbers of its captions only
            found["without"] = _sorted(self.without)
            found |= {
                name: {generator: _sorted(numbers) for generator, numbers in sorted(sums.items())}
                for name, sums in (("made", self.made), ("lost", self.lost))
            }
        return {NEGATIVES_PER_CAPTION: found}


@dataclass
class StatisticsCounter:
    """Counts and statistics of a version: the sums of what its samples add."""

    num_samples: int = 0
    words: Counter[int] = field(default_factory=Counter)
    captions: Counter[int] = field(default_factory=Counter)
    negatives: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    used: dict[str, Counter[str]] = field(default_factory=dict)
    findings: dict[str, Any] = field(default_factory=dict)
    splits: Counter[str] = field(default_factory=Counter)
    clusters: Counter[int] = field(default_factory=Counter)
    image_bytes: int = 0
    shown_differently: Counter[bool] = field(default_factory=Counter)
    drops: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    candidates: CandidateCounter = field(default_factory=CandidateCounter)

    def add_drop(self, stage: Stage, sample: Sample, drop: Drop) -> None:
        """Count a sample that a stage dropped."""
        self.drops.append((sample.uid, sample.name, stage.name, drop.reason, drop.detail))

    def add(self, counted: Mapping[str, Any]) -> None:
        """Add what `count_sample` returned of a sample."""
        self.num_samples += 1
        self.image_bytes += counted["image_bytes"]
        self.words.update(counted["words"])
        self.captions[len(counted["words"])] += 1
        self.splits[counted["split"]] += 1
        for sums, name in ((self.negatives, "negatives"), (self.views, "views")):
            if counted[name]:  # quicker than to add nothing
                sums.update(counted[name])
        for stage, reasons in counted["rejected"].items():
            self.rejected.setdefault(stage, Counter()).update(reasons)
        for stage, numbers in counted["used"].items():
            self.used.setdefault(stage, Counter()).update(numbers)
        if "shown_differently" in counted:
            self.shown_differently[counted["shown_differently"]] += 1
        if "cluster_id" in counted:
            self.clusters[counted["cluster_id"]] += 1
        if "candidates" in counted:
            self.candidates.add(counted["candidates"])

    @property
    def has_enough_pairs(self) -> bool:
        """Whether there are enough pairs of caption and negative to measure the blind accuracy."""
        return self.negatives.total() >= _MIN_PAIRS

    def counts(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the manifest's counts; every record is counted either as a sample or under ``dropped``."""
        dropped = [("intake", reason) for _, reason, _ in snapshot.rejected]
        dropped += [(stage, reason) for _, _, stage, reason, _ in self.drops]
        return self.text_counts() | {
            "records": snapshot.num_records,
            "dropped": count_reasons(dropped),
            "rejected": {stage: _sorted(reasons) for stage, reasons in sorted(self.rejected.items())},
        }

    def text_counts(self) -> dict[str, int]:
        """Return the numbers of samples and of their texts."""
        return {
            "samples": self.num_samples,
            "captions": sum(number * times for number, times in self.captions.items()),
            "negatives": self.negatives.total(),
            "views": self.views.total(),
        }

    def statistics(self, blind_accuracy: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the manifest's statistics.

        Args:
            blind_accuracy: How well judges that see no image tell captions from negatives; chance is one half. None if
                it was not measured.
        """
        return {
            "caption_words": _with_text_keys(self.words),
            "captions_per_sample": _with_text_keys(self.captions),
            "negatives": _sorted(self.negatives),
            "views": _sorted(self.views),
            "usage": {stage: _sorted(numbers) for stage, numbers in sorted(self.used.items())},
            "splits": _sorted(self.splits),
            "cluster_sizes": _with_text_keys(self.clusters),
            "image_bytes": self.image_bytes,
            # by readers that decode with Pillow's convert("RGB") alone; see `ImageFacts`
            **({"images_shown_differently": self.shown_differently[True]} if self.shown_differently else {}),
            **self.candidates.statistics(),
            "quality": ({"blind_accuracy": blind_accuracy} if blind_accuracy else {}) | _sorted(self.findings),
        }


def count_reasons(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Return stage -> reason -> number of these (stage, reason) pairs, sorted."""
    found: dict[str, dict[str, int]] = {}
    for (stage, reason), number in sorted(Counter(pairs).items()):
        found.setdefault(stage, {})[reason] = number
    return found


def _sorted(values: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(values.items()))


def _with_text_keys(counter: Counter[int]) -> dict[str, int]:
    """Return a counter for JSON: text keys, in numeric order."""
    return {str(key): counter[key] for key in sorted(counter)}
