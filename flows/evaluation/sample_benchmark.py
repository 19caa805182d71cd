"""What benchmarks over a source of images with captions share: reading it, and embedding its samples."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
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
from data_manifests.image_decoder import decode_image
from flows.evaluation.interface import Benchmark, CaseName, EvalOptions, ShownCase, Target, cases_by_name
from training.evaluate.blind import ReferenceTexts
from training.evaluate.features import EvalFeatures, EvalProgress, encode_samples

if TYPE_CHECKING:
    from PIL import Image

    from data_manifests.sample import Sample
    from training.evaluate.blind import Case
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
        self.samples: Sequence[Sample] = usable_samples(self.snapshot)
        total = len(self.snapshot.rejected) + self.snapshot.num_samples
        self.count(total, total - len(self.samples))

    def read(self, source: str, limit: int | None) -> Snapshot:
        """Return at most `limit` samples of a source; those to be forgotten are left out."""
        options = self.eval_options
        return read_source(
            open_source(source, options.split, options.catalog.workspace),
            options.catalog.workspace / "intake",
            location=f"{Path.cwd()}|{source}",
            limit=limit,
            denylist=Denylist.load(options.catalog.manifests),
        )

    def features(self, model: ClipModel, report: EvalProgress) -> EvalFeatures:
        """Return the embeddings of all images and captions."""
        return encode_samples(model, self.samples, report)

    def cases(self) -> Sequence[Case]:
        """Return the cases of a test of texts; none where there is no false text."""
        return ()

    def case_samples(self) -> Sequence[Sample]:
        """Return the samples whose pictures the cases are about."""
        return self.samples

    def show_cases(self, names: Collection[CaseName]) -> dict[CaseName, ShownCase]:
        """Return those of retrieval, which are images or captions, and those of `cases`."""
        samples = {sample.uid: sample for sample in self.case_samples()}
        found: dict[CaseName, ShownCase] = {}
        for name in names:
            if name.metric.startswith(("image_to_text", "text_to_image")):
                sample, number = samples[name.image], name.id.partition("/")[2]
                texts = [sample.captions[int(number)]] if number else sample.captions
                found[name] = ShownCase(_picture(sample), texts)
        for name, case in cases_by_name(self.cases(), names).items():
            found[name] = ShownCase(_picture(samples[case.image]), case.right, case.wrong)
        return found

    def identity(self) -> str:
        """Return a short hash of images and captions; tests drawn from them are kept under it."""
        return blake3(orjson.dumps([[sample.uid, sample.captions] for sample in self.samples])).hexdigest(length=8)

    def reference_texts(self) -> ReferenceTexts:
        """Return what blind judges may learn from: the captions of all samples, or the user's texts."""
        own = tuple((sample.uid, text) for sample in self.samples for text in sample.captions)
        return ReferenceTexts(own, self.eval_options.blind_texts)


@functools.lru_cache(maxsize=4)
def usable_samples(snapshot: Snapshot) -> tuple[Sample, ...]:
    """Return the samples whose images can be decoded, sorted by uid; benchmarks of one source decode them once for it."""
    samples = snapshot.samples()
    verdicts = CheckImages().process(samples)
    return tuple(sample for sample, verdict in zip(samples, verdicts, strict=True) if isinstance(verdict, dict))


def _picture(sample: Sample) -> Image.Image:
    return decode_image(sample.image.read(), sample.name)


def samples_with_fields(
    stages: Sequence[Stage], snapshot: Snapshot, workspace: Path, fields: Sequence[str]
) -> Iterator[Sample]:
    """Run stages over a source and yield its samples with some of the fields that the stages added."""
    store = workspace / "store"
    done, _ = run_stages(stages, snapshot, store)
    for part in partitions(snapshot.num_samples):
        for replayed in replay(WorkUnit(stages[-1], tuple(done), snapshot.folder, store, part), fields):
            yield replayed.sample
