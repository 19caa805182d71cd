"""What `foils`, `half_truths` and `paraphrase` share: cases made of a source's pairs, each with its two photographs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from data_manifests.errors import InputError
from flows.evaluation.blind import with_blind_judges
from flows.evaluation.foils.draw import FoilPair, FoilSide, kept_foil_test
from flows.evaluation.sample_benchmark import SampleBenchmark
from training.evaluate.benchmark_result import BenchmarkResult, merge_results
from training.evaluate.blind import Case
from training.evaluate.features import TextEmbeddingCache, encode_sample_images
from training.evaluate.foils import CaseCounts, chance, foil_accuracy, rare_categories

if TYPE_CHECKING:
    from training.evaluate.features import EmbedTexts, EvalProgress
    from training.model.clip_model import ClipModel

MIN_CASES = 20
"""A category with fewer cases is shown, but is not part of the mean."""


class FoilBenchmark(SampleBenchmark):
    """A test of texts made of pairs of photographs whose captions are nearly the same; a kind implements two methods."""

    has_blind: ClassVar[bool] = True

    @abstractmethod
    def case_texts(self, own: FoilSide, other: FoilSide) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Return the true and the false texts of one photograph of a pair, None if it has no case."""

    def more(self, embed: EmbedTexts, result: BenchmarkResult, cases: list[Case]) -> BenchmarkResult:  # noqa: ARG002 - for kinds
        """Return a result with what a kind measures besides."""
        return result

    def cases(self) -> list[Case]:
        """Return the cases: two of each pair, one for each photograph; none of a pair that has only one.

        Raises:
            InputError: there is none.
        """
        test = kept_foil_test(self.samples, self.eval_options.catalog.workspace)
        cases = [case for pair in test.pairs for case in _both(pair, self.case_texts)]
        if not cases:
            raise InputError(
                f"--on {self.target.kind}:{self.target.source}: none of {len(test.pairs)} pairs of photographs has the texts that it takes",
                fix="take more photographs, with several captions of each; foils:SRC takes any pair",
            )
        return cases

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return accuracy by category and their mean, each with the blind judges' accuracy."""
        cases = self.cases()
        embed, result = (
            TextEmbeddingCache(model, report),
            BenchmarkResult({"num_cases": len(cases), "chance": chance(cases)}),
        )
        if not self.eval_options.blind:
            images = {case.image for case in cases}
            samples = [sample for sample in self.samples if sample.uid in images]
            row = {sample.uid: number for number, sample in enumerate(samples)}
            embeddings = encode_sample_images(model, samples, report)[[row[case.image] for case in cases]]
            result = foil_accuracy(embed, cases, embeddings, CaseCounts(outside_mean=rare_categories(cases, MIN_CASES)))
            result = self.more(embed, result, cases)
        result = with_blind_judges(embed, result, "categories", cases, self.reference_texts())
        return merge_results(result, self.count_unread(model, (), cases))


def _both(
    pair: FoilPair, texts: Callable[[FoilSide, FoilSide], tuple[tuple[str, ...], tuple[str, ...]] | None]
) -> Iterable[Case]:
    """Return the cases of both photographs of a pair; none if one of them has none."""
    names = [f"{side.image}/{side.caption}" for side in (pair.one, pair.other)]
    sides = ((pair.one, pair.other), (pair.other, pair.one))
    found = [texts(own, other) for own, other in sides]
    if any(of_side is None for of_side in found):
        return []
    group = " ".join(names)
    return [
        Case(f"{own} {other}", side.image, pair.category, *of_side, group)
        for own, other, (side, _), of_side in zip(names, names[::-1], sides, found, strict=True)
        if of_side is not None
    ]
