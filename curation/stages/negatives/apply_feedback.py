"""Use a training run's feedback to drop learned and doubtful negatives and to regrade the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.models.feedback_file import FeedbackFile, Margins, NegativeStats, quantile
from curation.negatives.records import NegativeRecord, NegativesStage, add_scores, rejection
from data_manifests.sample import Sample

_DIGITS = 4


@dataclass(frozen=True)
class ApplyFeedback(NegativesStage, MapStage):
    """Drop negatives that a run has learned or cannot learn, and regrade the rest.

    A negative's margin is the cosine of image and caption less that of image and negative, when it was last trained on; its
    hardness the share of the run's negatives with a larger margin. For one that was drawn at least `min_drawn` times, the
    reasons to drop it are:

    * ``saturated``: its margin is above 0 and above the `saturated_quantile` of the margins between captions and the most
      similar caption of another image in their batch: the model distinguishes it as clearly as it does unrelated texts. If
      the caption would keep no negative, its hardest saturated one stays.
    * ``impossible``: it beats its caption, and its hardness is above `impossible_quantile`; or it was left out as likely true in
      at least `gated_share` of the steps in which it could be chosen: more likely true of the image than hard.

    The others pass. For those that were drawn, ``difficulty`` becomes (1 - `trust`) times the old one plus `trust` times
    the hardness, which is also added to ``scores`` as ``feedback``. Without feedback everything passes unchanged. No loss is
    looked at: at a scale of 100 a loss of 3 is a margin of -0.03, which many errors of a model have.

    Attributes:
        fields: Fields of negatives; this stage's own is published in their place.
        feedback: The run's feedback file; None passes everything.
        min_drawn: See above.
        saturated_quantile: See above, 0 to 1.
        impossible_quantile: See above, 0 to 1; 1 drops none for it.
        gated_share: See above; above 1 drops none for it.
        trust: See above, 0 to 1.

    Raises:
        InputError: a setting is out of range.

    Source: adaptive mining, done offline; likely false negatives as in FALCON (CVPR 2026), by quantiles of cosines, learned
        examples as in JEST's learnability, Evans et al. 2024 (arXiv 2406.17711).
    Differs: acts on negatives, not on samples, and between versions, so that the decisions can be read and compared.
    """

    name: ClassVar[str] = "apply_feedback"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("uid",)
    provides: ClassVar[tuple[Field, ...]] = (
        Field("feedback_negatives", publish="sample", role="negatives"),
        Field("feedback_rejected", role="rejects"),
    )
    source: ClassVar[str] = "learnability, Evans et al. 2024 (JEST), arXiv 2406.17711"

    fields: tuple[str, ...] = ("graded_negatives",)
    feedback: FeedbackFile | None = None
    min_drawn: int = 2
    saturated_quantile: float = 0.9
    impossible_quantile: float = 0.98
    gated_share: float = 0.5
    trust: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(min_drawn=1)
        for name in ("saturated_quantile", "impossible_quantile", "trust"):
            self.require(0 <= getattr(self, name) <= 1, name, allowed="0 to 1")

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Judge each sample's negatives by the statistics of the run."""
        margins = Margins((), ()) if self.feedback is None else self.feedback.margins()
        clear = max(0.0, quantile(margins.rivals, self.saturated_quantile))
        return [self._judge(sample, margins, clear) for sample in samples]

    def _judge(self, sample: Sample, margins: Margins, clear: float) -> dict[str, Any]:
        """Judge one sample's negatives; a margin above `clear` is saturated."""
        records = [record for name in self.fields for record in sample[name]]
        of_sample = {} if self.feedback is None else self.feedback.of(sample.uid)
        stats = [of_sample.get((record["caption"], record["text"])) for record in records]
        reasons = [self._reason(one, margins, clear) for one in stats]
        keep = _last_of_captions(records, reasons, stats)
        kept: list[NegativeRecord] = []
        rejected: list[dict[str, Any]] = []
        for index, (record, reason, one) in enumerate(zip(records, reasons, stats, strict=True)):
            if one is None or not reason or index in keep:
                kept.append(self._graded(record, one, margins))
            else:
                detail = (
                    f"candidate {one.candidate}, drawn {one.drawn}, gated {one.gated}, last margin {one.last_margin}"
                )
                rejected.append(rejection(record, reason, detail))
        return {"feedback_negatives": kept, "feedback_rejected": rejected}

    def _reason(self, stats: NegativeStats | None, margins: Margins, clear: float) -> str:
        """Return why a negative is rejected, or an empty string."""
        if stats is None:
            return ""
        if stats.gated and stats.gated >= self.gated_share * stats.candidate:
            return "impossible"
        if stats.drawn < self.min_drawn or stats.last_margin is None:
            return ""
        if stats.last_margin < 0 and margins.hardness(stats.last_margin) > self.impossible_quantile:
            return "impossible"
        return "saturated" if stats.last_margin > clear else ""

    def _graded(self, record: NegativeRecord, stats: NegativeStats | None, margins: Margins) -> NegativeRecord:
        if stats is None or stats.last_margin is None:
            return record
        hardness = round(margins.hardness(stats.last_margin), _DIGITS)
        before = record.get("difficulty")
        difficulty = hardness if before is None else (1 - self.trust) * before + self.trust * hardness
        return add_scores(record, {"feedback": hardness}) | {"difficulty": round(difficulty, _DIGITS)}


def _last_of_captions(
    records: Sequence[NegativeRecord], reasons: Sequence[str], stats: Sequence[NegativeStats | None]
) -> set[int]:
    """Return which saturated negatives stay: the one of smallest margin of each caption that would keep none."""
    margins = [math.inf if one is None or one.last_margin is None else one.last_margin for one in stats]
    keep = set()
    for caption in {record["caption"] for record in records}:
        own = [index for index, record in enumerate(records) if record["caption"] == caption]
        saturated = [index for index in own if reasons[index] == "saturated"]
        if saturated and all(reasons[index] for index in own):
            keep.add(min(saturated, key=margins.__getitem__))
    return keep
