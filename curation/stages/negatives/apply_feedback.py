"""Take a training run's word for which negatives have nothing left to teach, and how hard the others are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from curation.engine.stage import Drop, Field, MapStage
from curation.models.feedback_file import FeedbackFile, NegativeStats
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import canonical

_DIGITS = 4
Record = dict[str, Any]


@dataclass(frozen=True)
class ApplyFeedback(MapStage):
    """Retire what a run has learned, doubt what it cannot learn, grade the rest anew.

    Of a negative that was drawn at least `min_drawn` times, with l its last loss, log(1 + exp(logit(negative) -
    logit(caption))):

    * ``saturated``, l below `saturated_loss`: the model tells it apart; it goes, unless the caption would be left without
      any, in which case the one of highest loss stays.
    * ``impossible``, l above `impossible_loss`, or likely true (gated) in at least `gated_share` of the times it was
      looked at: more likely true of the image than hard; it goes.

    The others pass on. For those that were drawn, ``difficulty`` becomes (1 - `trust`) times the old one plus `trust`
    times 1 - exp(-l), the probability that the model takes the negative for the caption, and ``scores`` gets that as
    ``feedback``. Without feedback everything passes unchanged.

    Attributes:
        fields: Fields of negatives; this stage's own is published in their place.
        feedback: What the run left; None passes everything.
        min_drawn: See above.
        saturated_loss: See above; 0 retires none. The default is a probability of 1 in 50.
        impossible_loss: See above; the default is a probability of 19 in 20.
        gated_share: See above; above 1 doubts none for it.
        trust: See above, 0 to 1.

    Raises:
        InputError: a setting is out of range.

    Source: closes the loop of adaptive mining offline; likely false negatives by loss as in FALCON (CVPR 2026), learned
        examples as in JEST's learnability, Evans et al. 2024 (arXiv 2406.17711).
    Differs: acts on negatives, not on samples, and between versions, so that what was decided can be read and compared.
    """

    name: ClassVar[str] = "apply_feedback"
    version: ClassVar[int] = 1
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
        if not self.fields or len(set(self.fields)) < len(self.fields):
            raise InputError(
                f"{self.name}: fields {self.fields!r}",
                allowed="one or more fields of negatives, each once",
                fix="name the fields that the stages before it provide, such as 'graded_negatives'",
            )
        if self.min_drawn < 1 or not 0 <= self.saturated_loss <= self.impossible_loss or not 0 <= self.trust <= 1:
            raise InputError(
                f"{self.name}: min_drawn={self.min_drawn!r}, saturated_loss={self.saturated_loss!r}, "
                f"impossible_loss={self.impossible_loss!r}, trust={self.trust!r}",
                allowed="min_drawn 1 or more, 0 <= saturated_loss <= impossible_loss, trust 0 to 1",
            )

    def required_fields(self) -> tuple[str, ...]:
        """Return the uid and the fields."""
        return (*self.requires, *self.fields)

    def superseded_fields(self) -> tuple[str, ...]:
        """Return the fields that it passes on."""
        return self.fields

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Judge each sample's negatives by what was learned about them."""
        return [self._judge(sample) for sample in samples]

    def _judge(self, sample: Sample) -> dict[str, Any]:
        records = [record for name in self.fields for record in sample[name]]
        told = {} if self.feedback is None else self.feedback.of(sample.uid)
        verdicts = [self._verdict(told.get((record["caption"], record["text"]))) for record in records]
        kept: list[Record] = []
        rejected: list[Record] = []
        spared = _spared(records, verdicts, told)
        for at, (record, verdict) in enumerate(zip(records, verdicts, strict=True)):
            known = told.get((record["caption"], record["text"]))
            if not verdict or at in spared:
                kept.append(self._graded(record, known))
                continue
            assert known is not None
            detail = f"drawn {known.drawn}, gated {known.gated}, last loss {known.last_loss}"
            rejected.append(
                {name: record[name] for name in ("text", "caption", "rule")} | {"reason": verdict, "detail": detail}
            )
        return {"feedback_negatives": kept, "feedback_rejected": rejected}

    def _verdict(self, told: NegativeStats | None) -> str:
        if told is None:
            return ""
        if told.gated and told.gated >= self.gated_share * (told.gated + told.drawn):
            return "impossible"
        if told.drawn < self.min_drawn or told.last_loss is None:
            return ""
        if told.last_loss > self.impossible_loss:
            return "impossible"
        return "saturated" if told.last_loss < self.saturated_loss else ""

    def _graded(self, record: Record, told: NegativeStats | None) -> Record:
        if told is None or told.last_loss is None:
            return record
        taken = round(1.0 - math.exp(-told.last_loss), _DIGITS)
        before = record.get("difficulty")
        difficulty = taken if before is None else (1 - self.trust) * before + self.trust * taken
        scores = canonical({**orjson.loads(record.get("scores") or "{}"), "feedback": taken}).decode()
        return {**record, "difficulty": round(difficulty, _DIGITS), "scores": scores}


def _spared(
    records: Sequence[Record], verdicts: Sequence[str], told: Mapping[tuple[int, str], NegativeStats]
) -> set[int]:
    """Return the places of saturated negatives that stay, one for each caption that would be left without any."""
    spared = set()
    for caption in {record["caption"] for record in records}:
        own = [at for at, record in enumerate(records) if record["caption"] == caption]
        if any(not verdicts[at] for at in own):
            continue
        learned = [at for at in own if verdicts[at] == "saturated"]
        if learned:
            spared.add(max(learned, key=lambda at: (told[caption, records[at]["text"]].last_loss or 0.0, -at)))
    return spared
