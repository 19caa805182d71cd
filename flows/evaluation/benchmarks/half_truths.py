"""``half_truths:SRC``: what is true, in whole and in part, against a caption of which only that part is true."""

from __future__ import annotations

from flows.evaluation.foils.benchmark import FoilBenchmark
from flows.evaluation.foils.draw import FoilSide


class HalfTruthsBenchmark(FoilBenchmark):
    """A photograph's caption and a part of it must both score above a caption that has the part and something false.

    Source: half-truths: CS-CLIP (2026), where a part must score above the part with one false unit.
    Differs: the whole must win as well as the part, so that preferring short texts, or long ones, is no help: of the two
        cases of a pair a judge that sees only texts has at most one right. The foil is a person's caption of another
        photograph, and the part a cut of both captions; the paper's foils are a language model's.
    """

    def case_texts(self, own: FoilSide, other: FoilSide) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """Return the photograph's caption and its part, and the other caption; None if there is no such part."""
        return ((own.text, own.part), (other.text,)) if own.part else None
