"""``scenes:COUNT@SEED``: generated pictures, their retrieval and their foils."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from flows.evaluation.blind import with_blind_judges
from flows.evaluation.sample_benchmark import SampleBenchmark
from training.evaluate.benchmark_result import BenchmarkResult, merge_results
from training.evaluate.features import TextEmbeddingCache
from training.evaluate.retrieval import retrieval
from training.evaluate.word_order import foil_cases, scenes_foils

if TYPE_CHECKING:
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel


class ScenesBenchmark(SampleBenchmark):
    """Generated scenes, where every foil is known to be false."""

    has_blind: ClassVar[bool] = True
    source_prefix: ClassVar[str] = "scenes:"

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return retrieval, foils and blind judges."""
        embed, cases = TextEmbeddingCache(model, report), foil_cases(self.samples)
        if self.eval_options.blind:
            only_texts = BenchmarkResult({"num_cases": len(cases)})
            return with_blind_judges(embed, only_texts, "foils", cases, self.reference_texts())
        features = self.features(model, report)
        foils = scenes_foils(self.samples, features, embed)
        judged = with_blind_judges(embed, foils, "foils", cases, self.reference_texts())
        unread = self.count_unread(model, features.captions, cases)
        return merge_results(merge_results(retrieval(features), judged), unread)
