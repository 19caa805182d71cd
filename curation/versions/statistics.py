"""Counts and statistics that a manifest holds of its version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.blind.judges import PairSample
from curation.engine.intake import Snapshot
from curation.engine.stage import Drop, Stage
from data_manifests.sample import Sample

_FEWEST_PAIRS = 200
"""Fewer pairs of caption and negative say nothing about how well one is told from the other."""


@dataclass
class StatisticsCounter:
    """Counts and statistics of a version, gathered while its samples pass.

    Attributes:
        judged: Whether judges that see no image are asked about the negatives: seconds, however few samples there are.
    """

    judged: bool = True
    num_samples: int = 0
    words: Counter[int] = field(default_factory=Counter)
    captions: Counter[int] = field(default_factory=Counter)
    negatives: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    used: dict[str, Counter[str]] = field(default_factory=dict)
    findings: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    blind: PairSample = field(default_factory=PairSample)
    num_pairs: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    clusters: Counter[int] = field(default_factory=Counter)
    image_bytes: int = 0
    drops: list[tuple[str, str, str, str, str]] = field(default_factory=list)

    def drop(self, stage: Stage, sample: Sample, drop: Drop) -> None:
        """Count a sample that a stage dropped."""
        self.drops.append((sample.uid, sample.name, stage.name, drop.reason, drop.detail))

    def rejects(self, stage: Stage, records: Sequence[Mapping[str, Any]]) -> None:
        """Count texts that a stage's gate refused; a stage that refused none is told as such."""
        self.rejected.setdefault(stage.name, Counter()).update(record["reason"] for record in records)

    def usage(self, stage: Stage, numbers: Mapping[str, int]) -> None:
        """Add up what a stage used for a sample."""
        self.used.setdefault(stage.name, Counter()).update(numbers)

    def finding(self, stage: Stage, value: Mapping[str, Any]) -> None:
        """Keep what a corpus stage found out of the whole; every sample says the same."""
        self.findings.setdefault(stage.name, value)

    def sample(
        self,
        sample: Sample,
        index: Mapping[str, Any],
        negatives: Sequence[Mapping[str, Any]],
        views: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Count a sample that is published."""
        self.num_samples += 1
        self.image_bytes += sample.image.size_bytes
        self.words.update(len(text.split()) for text in sample.captions)
        self.captions[len(sample.captions)] += 1
        self.splits[sample.split or "none"] += 1
        if self.judged:
            self.blind.add(sample.uid, sample.captions, negatives)
        self.num_pairs += len(negatives)
        for record in negatives:
            self.negatives[f"{record['operation']} {record['span_class']}"] += 1
        self.views.update(f"{record['kind']} {record['family']}" for record in views)
        if "cluster_id" in index:
            self.clusters[index["cluster_id"]] += 1

    def counts(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return the manifest's counts; every record is either a sample or under ``dropped``."""
        dropped = Counter(("intake", reason) for _, reason, _ in snapshot.rejected)
        dropped.update((stage, reason) for _, _, stage, reason, _ in self.drops)
        by_stage: dict[str, dict[str, int]] = {}
        for (stage, reason), number in sorted(dropped.items()):
            by_stage.setdefault(stage, {})[reason] = number
        return {
            "records": snapshot.num_records,
            "samples": self.num_samples,
            "captions": sum(number * times for number, times in self.captions.items()),
            "negatives": sum(self.negatives.values()),
            "views": sum(self.views.values()),
            "dropped": by_stage,
            "rejected": {stage: dict(sorted(reasons.items())) for stage, reasons in sorted(self.rejected.items())},
        }

    def statistics(self) -> dict[str, Any]:
        """Return the manifest's statistics."""
        return {
            "caption_words": _text_keys(self.words),
            "captions_per_sample": _text_keys(self.captions),
            "negatives": dict(sorted(self.negatives.items())),
            "views": dict(sorted(self.views.items())),
            "usage": {stage: dict(sorted(numbers.items())) for stage, numbers in sorted(self.used.items())},
            "splits": dict(sorted(self.splits.items())),
            "cluster_sizes": _text_keys(self.clusters),
            "image_bytes": self.image_bytes,
            # how well judges that see no image tell captions from negatives; half is chance
            "quality": (
                {"blind_accuracy": self.blind.accuracy()} if self.judged and self.num_pairs >= _FEWEST_PAIRS else {}
            )
            | dict(sorted(self.findings.items())),
        }


def _text_keys(counter: Counter[int]) -> dict[str, int]:
    """Return a counter as JSON wants it: text keys, in numeric order."""
    return {str(key): counter[key] for key in sorted(counter)}
