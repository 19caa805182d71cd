"""``swaps:SRC``: foils made of the captions by our own stages; see `flows.evaluation.swap_foils`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from flows.evaluation.blind import with_blind_judges
from flows.evaluation.sample_benchmark import SampleBenchmark
from flows.evaluation.swap_foils import swaps_test
from training.evaluate.benchmark_result import BenchmarkResult, merge_results
from training.evaluate.features import TextEmbeddingCache, encode_sample_images
from training.evaluate.foils import CaseCounts, foil_accuracy, rare_categories

if TYPE_CHECKING:
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel

MIN_CASES = 20
"""A kind of swap with fewer cases is shown, but is not part of the mean."""


class SwapsBenchmark(SampleBenchmark):
    """Captions against the same captions with words exchanged."""

    has_blind: ClassVar[bool] = True

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return accuracy by kind of foil and their mean, each with the blind judges' accuracy."""
        cases = swaps_test(self.snapshot, self.samples, self.eval_options.catalog.workspace)
        embed, result = TextEmbeddingCache(model, report), BenchmarkResult({"num_cases": len(cases)})
        if not self.eval_options.blind:
            images = {case.image for case in cases}
            samples = [sample for sample in self.samples if sample.uid in images]
            row = {sample.uid: number for number, sample in enumerate(samples)}
            embeddings = encode_sample_images(model, samples, report)[[row[case.image] for case in cases]]
            result = foil_accuracy(embed, cases, embeddings, CaseCounts(outside_mean=rare_categories(cases, MIN_CASES)))
        result = with_blind_judges(embed, result, "categories", cases, self.reference_texts())
        return merge_results(result, self.count_unread(model, (), cases))
