"""``order:SRC``: ARO's test of word order over any captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from curation.models.parser import SpacyParser
from flows.evaluation.blind import blind_gaps, with_blind_judges
from flows.evaluation.sample_benchmark import SampleBenchmark
from training.evaluate.benchmark_result import BenchmarkResult, merge_results
from training.evaluate.blind import ReferenceTexts, set_overall_blind_accuracy, true_texts
from training.evaluate.features import TextEmbeddingCache
from training.evaluate.foils import chance
from training.evaluate.word_order import (
    OrderTest,
    clean,
    load_order_test,
    make_order_test,
    order_accuracy,
    order_cases,
    save_order_test,
)

if TYPE_CHECKING:
    from training.evaluate.blind import Case
    from training.evaluate.features import EvalProgress
    from training.model.clip_model import ClipModel


class OrderBenchmark(SampleBenchmark):
    """The true order of a caption's words against up to four wrong ones."""

    has_blind: ClassVar[bool] = True

    def run(self, model: ClipModel, report: EvalProgress) -> BenchmarkResult:
        """Return how often the true order scores highest."""
        test, embed = self._test(), TextEmbeddingCache(model, report)
        overall, single = order_cases(test)
        # judges read captions as the test writes them: lower case, without punctuation
        given = tuple(clean(text) for text in self.eval_options.blind_texts)
        reference = ReferenceTexts(true_texts(overall), given)
        if self.eval_options.blind:
            result = BenchmarkResult({"num_cases": len(overall), "chance": chance(overall)})
        else:
            result = order_accuracy(self.features(model, report), test, embed)
        result = with_blind_judges(embed, result, "by_perturbation", single, reference)
        result = set_overall_blind_accuracy(result, overall, blind_gaps(embed, overall, reference))
        return merge_results(result, self.count_unread(model, (), overall))

    def cases(self) -> list[Case]:
        """Return each caption against its wrong orders."""
        return order_cases(self._test())[0]

    def _test(self) -> OrderTest:
        """Return the seeded test of these captions; it is drawn once and kept, so that every run has the same texts."""
        path = self.eval_options.catalog.workspace / "benchmarks" / f"order-{self.identity()}.json"
        if not path.is_file():
            parser = SpacyParser()

            def tag(texts: Sequence[str]) -> list[list[tuple[str, str]]]:
                return [list(zip(parse["words"], parse["tags"], strict=True)) for parse in parser.parse(texts)]

            save_order_test(path, make_order_test(self.samples, tag))
        return load_order_test(path)
