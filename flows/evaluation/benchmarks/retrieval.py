"""``retrieval:SRC``: from image to text and from text to image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.evaluation.sample_benchmark import SampleBenchmark
from training.evaluate.benchmark_result import merge_results
from training.evaluate.retrieval import retrieval

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel


class RetrievalBenchmark(SampleBenchmark):
    """Retrieval in both directions."""

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return recall, ranks and precision in both directions."""
        features = self.features(model, report)
        return merge_results(retrieval(features), self.count_unread(model, features.captions))
