"""Counts and statistics of a version, for its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.blind.judges import PairSample
from curation.engine.intake import Snapshot
from curation.engine.stage import Drop, FieldRole, Stage
from data_manifests.sample import Sample

_MIN_PAIRS = 200
"""Fewer pairs of caption and negative are too few to measure the blind accuracy."""


@dataclass
class StatisticsCounter:
    """Counts and statistics of a version, collected while its samples are read.

    Attributes:
        with_blind_accuracy: Whether to measure how well judges that see no image tell captions from negatives. It takes
            seconds, however few samples there are.
    """

    with_blind_accuracy: bool = True
    num_samples: int = 0
    words: Counter[int] = field(default_factory=Counter)
    captions: Counter[int] = field(default_factory=Counter)
    negatives: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    used: dict[str, Counter[str]] = field(default_factory=dict)
    findings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    pairs: PairSample = field(default_factory=PairSample)
    splits: Counter[str] = field(default_factory=Counter)
    clusters: Counter[int] = field(default_factory=Counter)
    image_bytes: int = 0
    shown_differently: Counter[bool] = field(default_factory=Counter)
    drops: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def add_drop(self, stage: Stage, sample: Sample, drop: Drop) -> None:
        """Count a sample that a stage dropped."""
        self.drops.append((sample.uid, sample.name, stage.name, drop.reason, drop.detail))

    def add_field(self, stage: Stage, role: FieldRole, value: Any) -> None:
        """Count a sample's value of a field that is ``rejects``, ``usage`` or ``finding``."""
        if role == "rejects":  # a stage that rejected nothing is listed too
            self.rejected.setdefault(stage.name, Counter()).update(record["reason"] for record in value)
        elif role == "usage":
            self.used.setdefault(stage.name, Counter()).update(value)
        else:  # the same in every sample
            self.findings.setdefault(stage.name, value)

    def add_sample(
        self,
        sample: Sample,
        index: Mapping[str, Any],
        negatives: Sequence[Mapping[str, Any]],
        views: Sequence[Mapping[str, Any]],
    ) -> None:
        """Count a published sample."""
        self.num_samples += 1
        self.image_bytes += sample.image.size_bytes
        self.words.update(len(text.split()) for text in sample.captions)
        self.captions[len(sample.captions)] += 1
        self.splits[sample.split or "none"] += 1
        if self.with_blind_accuracy:
            self.pairs.add(sample.uid, sample.captions, negatives)
        self.negatives.update(f"{record['operation']} {record['span_class']}" for record in negatives)
        self.views.update(f"{record['kind']} {record['family']}" for record in views)
        if "shown_differently" in index:  # not in versions made before it was recorded
            self.shown_differently[index["shown_differently"]] += 1
        if "cluster_id" in index:
            self.clusters[index["cluster_id"]] += 1

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

    def statistics(self) -> dict[str, Any]:
        """Return the manifest's statistics."""
        measured = self.with_blind_accuracy and self.negatives.total() >= _MIN_PAIRS
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
            # blind accuracy: how well judges that see no image tell captions from negatives; chance is one half
            "quality": ({"blind_accuracy": self.pairs.accuracy()} if measured else {}) | _sorted(self.findings),
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
