"""``paraphrase:SRC``: two captions of one photograph against a foil that is nearly the same as one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.evaluation.foils.benchmark import FoilBenchmark
from flows.evaluation.foils.draw import FoilSide
from training.evaluate.triplets import add_text_only

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.blind import Case
    from training.evaluate.features import EmbedTexts


class ParaphraseBenchmark(FoilBenchmark):
    """Image to text (``accuracy``): both captions must score above the foil; text only (``tot_accuracy``): they must be nearest.

    Source: Dumpala et al. 2024 (SugarCrepe++, arXiv 2406.11171), tasks ITT and TOT.
    Differs: all three texts are captions by people; the foil is another photograph's.
    """

    def case_texts(self, own: FoilSide, other: FoilSide) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Return two captions of the photograph and the other one's; None if it has no second caption in other words."""
        return ((own.text, own.also), (other.text,)) if own.also else None

    def more(self, embed: EmbedTexts, result: BenchmarkResult, cases: list[Case]) -> BenchmarkResult:
        """Add the task on texts alone."""
        return add_text_only(embed, result, cases)
