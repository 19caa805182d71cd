"""``scenes:COUNT@SEED?level=N``: generated pictures, their retrieval, and foils that need eyes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from curation.sources.scenes import DEFAULT_LANGUAGE, ScenesSource, caption_texts
from data_manifests.errors import InputError
from flows.evaluation.blind import with_blind_judges
from flows.evaluation.interface import EvalOptions, Target
from flows.evaluation.sample_benchmark import SampleBenchmark, usable_samples
from training.evaluate.benchmark_result import BenchmarkResult, merge_results
from training.evaluate.blind import ReferenceTexts
from training.evaluate.features import TextEmbeddingCache, encode_samples
from training.evaluate.retrieval import retrieval
from training.evaluate.word_order import foil_cases, scenes_foils

if TYPE_CHECKING:
    from data_manifests.sample import Sample
    from training.evaluate.blind import Case
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel


class ScenesBenchmark(SampleBenchmark):
    """Generated scenes: retrieval among them, and foils from pairs of a scene and its twin.

    Each text of a pair is true of one picture and false of the other, and each is used both ways, so that no judge of texts
    alone is right in more than one half of the cases, whatever it has learned: with an equal score for equal texts,
    exactly one half. What kinds of foils there are depends on the level; level 1 has neither numbers nor negation.

    Attributes:
        scenes: The source.
        twins: Scenes and twins; their captions and foils are the texts of the pairs.
    """

    has_blind: ClassVar[bool] = True
    source_prefix: ClassVar[str] = "scenes:"

    def __init__(self, target: Target, eval_options: EvalOptions) -> None:
        super().__init__(target, eval_options)
        self.scenes = ScenesSource(target.source, eval_options.split)
        if self.scenes.language != DEFAULT_LANGUAGE:
            raise InputError(
                f"--on scenes:{target.source}: its foils are English, these captions are not",
                allowed="scenes without a language, or their retrieval alone",
                fix=f"--on retrieval:scenes:{target.source}",
            )
        pairs = f"scenes:{self.scenes.count}@{self.scenes.seed}?level={self.scenes.level}&twins=yes"
        limit = eval_options.limit and 2 * eval_options.limit
        self.twins = usable_samples(self.read(pairs, limit))

    def cases(self) -> list[Case]:
        """Return the foils."""
        return foil_cases(self.twins)

    def case_samples(self) -> list[Sample]:
        """Return the scenes and their twins."""
        return [*self.samples, *self.twins]

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return retrieval, foils and blind judges."""
        embed, cases = TextEmbeddingCache(model, report), foil_cases(self.twins)
        if self.eval_options.blind:
            only_texts = BenchmarkResult({"num_cases": len(cases)})
            return with_blind_judges(embed, only_texts, "foils", cases, self.reference_texts())
        features = self.features(model, report)
        foils = scenes_foils(self.twins, encode_samples(model, self.twins, report), embed)
        judged = with_blind_judges(embed, foils, "foils", cases, self.reference_texts())
        unread = self.count_unread(model, features.captions, cases)
        return merge_results(merge_results(retrieval(features), judged), unread)

    def reference_texts(self) -> ReferenceTexts:
        """Return the captions of as many other scenes of the level, or the user's texts; one judge for all cases."""
        texts = self.eval_options.blind_texts
        return ReferenceTexts(given=texts or caption_texts(self.scenes.count, self.scenes.seed + 1, self.scenes.level))
