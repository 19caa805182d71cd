"""Benchmarks over any source of images with captions: retrieval, order of words, generated scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
from blake3 import blake3

from curation.engine.denylist import Denylist
from curation.engine.intake import Snapshot, read_source
from curation.models.parser import SpacyParser
from curation.sources import open_source
from curation.stages.hygiene.check_images import CheckImages
from flows.evaluation.registry import EvalOptions, Target

if TYPE_CHECKING:
    from data_manifests.sample import Sample
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.blind import ReferenceTexts
    from training.evaluate.features import EvalFeatures, ReportProgress
    from training.model.clip_model import ClipModel

LEAST_CASES = 20
"""A kind of swap with fewer cases is shown, but is no part of the mean."""


class SampleBenchmark:
    """What these benchmarks share: a source is read, and what cannot be decoded is left out and counted.

    Attributes:
        snapshot: The source as it was read.
        samples: Its usable samples, sorted by uid.
    """

    options: ClassVar[tuple[str, ...]] = ()
    has_blind: ClassVar[bool] = True

    def __init__(self, place: Target, eval_options: EvalOptions) -> None:
        self.place, self.eval_options = place, eval_options
        self.snapshot: Snapshot = read_source(
            open_source(self._source(), eval_options.split),
            eval_options.workspace / "intake",
            location=f"{Path.cwd()}|{self._source()}",
            limit=eval_options.limit,
            denylist=Denylist.load(eval_options.catalog.manifests),
        )
        samples = self.snapshot.samples()
        verdicts = CheckImages().process(samples)
        self.samples: list[Sample] = [
            sample for sample, verdict in zip(samples, verdicts, strict=True) if isinstance(verdict, dict)
        ]
        self._num_refused = len(self.snapshot.rejected) + len(samples) - len(self.samples)

    @property
    def num_samples(self) -> int:
        """How many images are evaluated."""
        return len(self.samples)

    @property
    def num_refused(self) -> int:
        """How many entries were refused at intake or cannot be decoded."""
        return self._num_refused

    def features(self, model: ClipModel, report: ReportProgress) -> EvalFeatures:
        """Return the embeddings of all images and captions."""
        from training.evaluate.features import encode_samples

        return encode_samples(model, self.samples, report=report)

    def identity(self) -> str:
        """Return a short hash of images and captions, by which what is drawn from them is kept."""
        return blake3(orjson.dumps([[one.uid, one.captions] for one in self.samples])).hexdigest(length=8)

    def reading(self) -> ReferenceTexts:
        """Return what blind judges may read: the captions of all samples, or what the user gives."""
        from training.evaluate.blind import ReferenceTexts

        return ReferenceTexts(
            tuple((one.uid, text) for one in self.samples for text in one.captions), self.eval_options.blind_texts
        )

    def _source(self) -> str:
        return self.place.source


class RetrievalBenchmark(SampleBenchmark):
    """``retrieval:SRC``."""

    has_blind: ClassVar[bool] = False

    def run(self, model: ClipModel, report: ReportProgress) -> BenchmarkResult:
        """Return recall, ranks and precision both ways."""
        from training.evaluate.retrieval import retrieval

        return retrieval(self.features(model, report))


class ScenesBenchmark(SampleBenchmark):
    """``scenes:COUNT@SEED``: generated pictures, their retrieval and their foils."""

    def _source(self) -> str:
        return f"scenes:{self.place.source}"

    def run(self, model: ClipModel, report: ReportProgress) -> BenchmarkResult:
        """Return retrieval and foils."""
        from flows.evaluation.blind import with_blind_judges
        from training.evaluate.benchmark_result import BenchmarkResult, merge_results
        from training.evaluate.features import TextEmbeddingCache
        from training.evaluate.retrieval import retrieval
        from training.evaluate.word_order import foil_cases, scenes_foils

        embed, cases = TextEmbeddingCache(model, report), foil_cases(self.samples)
        if self.eval_options.blind:
            return with_blind_judges(embed, BenchmarkResult({"num_cases": len(cases)}), "foils", cases, self.reading())
        features = self.features(model, report)
        found = scenes_foils(model, self.samples, features, embed)
        return merge_results(retrieval(features), with_blind_judges(embed, found, "foils", cases, self.reading()))


class OrderBenchmark(SampleBenchmark):
    """``order:SRC``: ARO's test of word order over any captions."""

    def run(self, model: ClipModel, report: ReportProgress) -> BenchmarkResult:
        """Return how often the true order wins."""
        from flows.evaluation.blind import blind_gaps, with_blind_judges
        from training.evaluate.benchmark_result import BenchmarkResult
        from training.evaluate.blind import ReferenceTexts, set_overall_blind_accuracy, true_texts
        from training.evaluate.features import TextEmbeddingCache
        from training.evaluate.word_order import clean, order_accuracy, order_cases

        test, embed = self._test(), TextEmbeddingCache(model, report)
        whole, single = order_cases(test)
        # judges read captions as the test writes them: lower case, without marks
        given = tuple(clean(text) for text in self.eval_options.blind_texts)
        reading = ReferenceTexts(true_texts(whole), given)
        if self.eval_options.blind:
            found = BenchmarkResult({"num_cases": len(test.cases)})
        else:
            found = order_accuracy(model, self.features(model, report), test, embed)
        found = with_blind_judges(embed, found, "by_perturbation", single, reading)
        return set_overall_blind_accuracy(found, whole, blind_gaps(embed, whole, reading))

    def _test(self) -> Any:
        """Return the seeded order test of these captions, made once and kept, so that every run sees the same texts."""
        from training.evaluate.word_order import load_order_test, make_order_test, save_order_test

        path = self.eval_options.workspace / "benchmarks" / f"order-{self.identity()}.json"
        if not path.is_file():
            parser = SpacyParser()

            def tag(texts: Sequence[str]) -> list[list[tuple[str, str]]]:
                return [list(zip(parse["words"], parse["tags"], strict=True)) for parse in parser.parse(texts)]

            save_order_test(path, make_order_test(self.samples, tag))
        return load_order_test(path)


class SwapsBenchmark(SampleBenchmark):
    """``swaps:SRC``: two-way foils made of the captions by our own stages; see `flows.evaluation.foils`."""

    def run(self, model: ClipModel, report: ReportProgress) -> BenchmarkResult:
        """Return accuracy by kind of foil and their mean, the blind judges beside each."""
        from flows.evaluation.blind import with_blind_judges
        from flows.evaluation.foils import swaps_test
        from training.evaluate.benchmark_result import BenchmarkResult
        from training.evaluate.features import TextEmbeddingCache, encode_sample_images
        from training.evaluate.foils import CaseCounts, foil_accuracy, rare_categories

        cases = swaps_test(self.snapshot, self.samples, self.eval_options.workspace)
        embed = TextEmbeddingCache(model, report)
        if self.eval_options.blind:
            return with_blind_judges(
                embed, BenchmarkResult({"num_cases": len(cases)}), "categories", cases, self.reading()
            )
        asked = {case.image for case in cases}
        shown = [sample for sample in self.samples if sample.uid in asked]
        row = {sample.uid: place for place, sample in enumerate(shown)}
        image = encode_sample_images(model, shown, report=report)
        tally = CaseCounts(apart=rare_categories(cases, LEAST_CASES))
        found = foil_accuracy(embed, cases, image[[row[case.image] for case in cases]], tally)
        return with_blind_judges(embed, found, "categories", cases, self.reading())
