"""Use a training run's feedback to drop learned and doubtful negatives and to regrade the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.models.feedback_file import FeedbackFile, NegativeStats
from curation.negatives.records import NegativeRecord, NegativesStage, add_scores, rejection
from data_manifests.sample import Sample

_DIGITS = 4


@dataclass(frozen=True)
class ApplyFeedback(NegativesStage, MapStage):
    """Drop negatives that a run has learned or cannot learn, and regrade the rest.

    For a negative that was drawn at least `min_drawn` times, with l its last loss, log(1 + exp(logit(negative) -
    logit(caption))), the reasons to drop it are:

    * ``saturated``, l below `saturated_loss`: the model distinguishes it from the caption. If the caption would keep no
      negative, its saturated one of highest loss stays.
    * ``impossible``, l above `impossible_loss`, or gated as likely true in at least `gated_share` of its draws: more
      likely true of the image than hard.

    The others pass. For those that were drawn, ``difficulty`` becomes (1 - `trust`) times the old one plus `trust` times
    1 - exp(-l), the probability that the model takes the negative for the caption, which is also added to ``scores`` as
    ``feedback``. Without feedback everything passes unchanged.

    Attributes:
        fields: Fields of negatives; this stage's own is published in their place.
        feedback: The run's feedback file; None passes everything.
        min_drawn: See above.
        saturated_loss: See above; 0 drops none. The default is a probability of 1 in 50.
        impossible_loss: See above; the default is a probability of 19 in 20.
        gated_share: See above; above 1 drops none for it.
        trust: See above, 0 to 1.

    Raises:
        InputError: a setting is out of range.

    Source: adaptive mining, done offline; likely false negatives by loss as in FALCON (CVPR 2026), learned
        examples as in JEST's learnability, Evans et al. 2024 (arXiv 2406.17711).
    Differs: acts on negatives, not on samples, and between versions, so that the decisions can be read and compared.
    """

    name: ClassVar[str] = "apply_feedback"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("uid",)
    provides: ClassVar[tuple[Field, ...]] = (
        Field("feedback_negatives", publish="sample", role="negatives"),
        Field("feedback_rejected", role="rejects"),
    )
    source: ClassVar[str] = "learnability, Evans et al. 2024 (JEST), arXiv 2406.17711"

    fields: tuple[str, ...] = ("graded_negatives",)
    feedback: FeedbackFile | None = None
    min_drawn: int = 2
    saturated_loss: float = 0.02
    impossible_loss: float = 3.0
    gated_share: float = 0.5
    trust: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(min_drawn=1)
        losses = 0 <= self.saturated_loss <= self.impossible_loss
        self.require(losses, "saturated_loss impossible_loss", allowed="0 <= saturated_loss <= impossible_loss")
        self.require(0 <= self.trust <= 1, "trust", allowed="0 to 1")

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Judge each sample's negatives by the statistics of the run."""
        return [self._judge(sample) for sample in samples]

    def _judge(self, sample: Sample) -> dict[str, Any]:
        records = [record for name in self.fields for record in sample[name]]
        of_sample = {} if self.feedback is None else self.feedback.of(sample.uid)
        stats = [of_sample.get((record["caption"], record["text"])) for record in records]
        reasons = [self._reason(one) for one in stats]
        keep = _last_of_captions(records, reasons, stats)
        kept: list[NegativeRecord] = []
        rejected: list[dict[str, Any]] = []
        for index, (record, reason, one) in enumerate(zip(records, reasons, stats, strict=True)):
            if one is None or not reason or index in keep:
                kept.append(self._graded(record, one))
            else:
                detail = f"drawn {one.drawn}, gated {one.gated}, last loss {one.last_loss}"
                rejected.append(rejection(record, reason, detail))
        return {"feedback_negatives": kept, "feedback_rejected": rejected}

    def _reason(self, stats: NegativeStats | None) -> str:
        """Return why a negative is rejected, or an empty string."""
        if stats is None:
            return ""
        if stats.gated and stats.gated >= self.gated_share * (stats.gated + stats.drawn):
            return "impossible"
        if stats.drawn < self.min_drawn or stats.last_loss is None:
            return ""
        if stats.last_loss > self.impossible_loss:
            return "impossible"
        return "saturated" if stats.last_loss < self.saturated_loss else ""

    def _graded(self, record: NegativeRecord, stats: NegativeStats | None) -> NegativeRecord:
        if stats is None or stats.last_loss is None:
            return record
        error = round(1.0 - math.exp(-stats.last_loss), _DIGITS)
        before = record.get("difficulty")
        difficulty = error if before is None else (1 - self.trust) * before + self.trust * error
        return add_scores(record, {"feedback": error}) | {"difficulty": round(difficulty, _DIGITS)}


def _last_of_captions(
    records: Sequence[NegativeRecord], reasons: Sequence[str], stats: Sequence[NegativeStats | None]
) -> set[int]:
    """Return which saturated negatives stay: the one of highest loss of each caption that would keep none."""
    losses = [(one.last_loss if one else None) or 0.0 for one in stats]
    keep = set()
    for caption in {record["caption"] for record in records}:
        own = [index for index, record in enumerate(records) if record["caption"] == caption]
        saturated = [index for index in own if reasons[index] == "saturated"]
        if saturated and all(reasons[index] for index in own):
            keep.add(max(saturated, key=losses.__getitem__))
    return keep
