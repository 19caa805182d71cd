"""Mark captions that are longer than is usual in the data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.fits import Evidence, Fit, FitCheck
from curation.engine.stage import Columns, Drop, Field, FittedStage
from data_manifests.sample import Sample


@dataclass(frozen=True)
class CompareLength(FittedStage):
    """Whether each caption has more words than the mean caption.

    Fitted: the mean. Kept while the mean of the new version is within a tenth of it.

    Source: data hygiene; no paper.
    Differs: words are what spaces separate.
    """

    name: ClassVar[str] = "compare_length"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("captions",)
    provides: ClassVar[tuple[Field, ...]] = (
        Field("is_long", publish="sidecar"),
        Field("length_evidence", role="evidence"),
    )
    source: ClassVar[str] = "data hygiene; no paper"

    def fit(self, columns: Columns) -> Fit:
        """Learn the mean number of words, one batch after another."""
        num_words = num_captions = 0
        for samples in columns.batches():
            num_words += sum(len(text.split()) for sample in samples for text in sample.captions)
            num_captions += sum(len(sample.captions) for sample in samples)
        return Fit({"mean": num_words / max(num_captions, 1)})

    def apply(self, samples: Sequence[Sample], fit: Fit) -> list[dict[str, Any] | Drop]:
        """Compare each caption with the mean that was learned."""
        counts = [[len(text.split()) for text in sample.captions] for sample in samples]
        return [
            {
                "is_long": [number > fit.values["mean"] for number in own],
                "length_evidence": {"words": sum(own), "captions": len(own)},
            }
            for own in counts
        ]

    def check(self, fit: Fit, evidence: Evidence) -> Sequence[FitCheck]:
        """Compare the mean of all samples of the new version with the one that was learned."""
        mean = evidence.sums.get("words", 0.0) / max(evidence.sums.get("captions", 0.0), 1.0)
        change = abs(mean / max(fit.values["mean"], 1e-9) - 1)
        return [FitCheck("relative change of the mean length", change, 0.1)]
