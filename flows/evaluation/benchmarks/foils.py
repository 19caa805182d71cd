"""``foils:SRC``: a caption against a person's caption of another photograph that is nearly the same, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.evaluation.foils.benchmark import FoilBenchmark
from flows.evaluation.foils.draw import FoilSide
from training.evaluate.foils import add_both_ways

if TYPE_CHECKING:
    from training.evaluate.benchmark_result import BenchmarkResult
    from training.evaluate.blind import Case
    from training.evaluate.features import EmbedTexts


class FoilsBenchmark(FoilBenchmark):
    """Captions of people against captions of people."""

    def case_texts(self, own: FoilSide, other: FoilSide) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Return the photograph's caption and the other one's."""
        return (own.text,), (other.text,)

    def more(self, embed: EmbedTexts, result: BenchmarkResult, cases: list[Case]) -> BenchmarkResult:  # noqa: ARG002 - no text
        """Add how often both photographs of a pair are right, which no judge reaches that sees only texts."""
        return add_both_ways(result, cases)
