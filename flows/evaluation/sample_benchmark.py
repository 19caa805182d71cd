"""What benchmarks over a source of images with captions share: reading it, and embedding its samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import orjson
from blake3 import blake3

from curation.engine.denylist import Denylist
from curation.engine.engine import run_stages
from curation.engine.intake import Snapshot, read_source
from curation.engine.replay import WorkUnit, replay
from curation.engine.stage import Stage
from curation.engine.store import partitions
from curation.sources import open_source
from curation.stages.hygiene.check_images import CheckImages
from flows.evaluation.interface import Benchmark, EvalOptions, Target
from training.evaluate.blind import ReferenceTexts
from training.evaluate.features import EvalFeatures, EvalProgress, encode_samples

if TYPE_CHECKING:
    from data_manifests.sample import Sample
    from training.model.clip_model import ClipModel


class SampleBenchmark(Benchmark):
    """A benchmark over a source; entries that cannot be decoded are left out and counted.

    Attributes:
        snapshot: The source as it was read.
        samples: Its usable samples, sorted by uid.
    """

    source_prefix: ClassVar[str] = ""

    def __init__(self, target: Target, eval_options: EvalOptions) -> None:
        super().__init__(target, eval_options)
        self.snapshot: Snapshot = self.read(self.source_prefix + target.source, eval_options.limit)
        self.notes.extend(self.snapshot.notes)
        self.samples: list[Sample] = usable_samples(self.snapshot)
        total = len(self.snapshot.rejected) + self.snapshot.num_samples
        self.count(total, total - len(self.samples))

    def read(self, source: str, limit: int | None) -> Snapshot:
        """Return at most `limit` samples of a source; those to be forgotten are left out."""
        options = self.eval_options
        return read_source(
            open_source(source, options.split),
            options.catalog.workspace / "intake",
            location=f"{Path.cwd()}|{source}",
            limit=limit,
            denylist=Denylist.load(options.catalog.manifests),
        )

    def features(self, model: ClipModel, report: EvalProgress) -> EvalFeatures:
        """Return the embeddings of all images and captions."""
        return encode_samples(model, self.samples, report)

    def identity(self) -> str:
        """Return a short hash of images and captions; tests drawn from them are kept under it."""
        return blake3(orjson.dumps([[sample.uid, sample.captions] for sample in self.samples])).hexdigest(length=8)

    def reference_texts(self) -> ReferenceTexts:
        """Return what blind judges may learn from: the captions of all samples, or the user's texts."""
        own = tuple((sample.uid, text) for sample in self.samples for text in sample.captions)
        return ReferenceTexts(own, self.eval_options.blind_texts)


def usable_samples(snapshot: Snapshot) -> list[Sample]:
    """Return the samples whose images can be decoded, sorted by uid."""
    samples = snapshot.samples()
    verdicts = CheckImages().process(samples)
    return [sample for sample, verdict in zip(samples, verdicts, strict=True) if isinstance(verdict, dict)]


def samples_with_fields(
    stages: Sequence[Stage], snapshot: Snapshot, workspace: Path, fields: Sequence[str]
) -> Iterator[Sample]:
    """Run stages over a source and yield its samples with some of the fields that the stages added."""
    store = workspace / "store"
    done, _ = run_stages(stages, snapshot, store)
    for part in partitions(snapshot.num_samples):
        for replayed in replay(WorkUnit(stages[-1], tuple(done), snapshot.folder, store, part), fields):
            yield replayed.sample
