"""Records of negatives, and the base of the stages that read and judge them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import orjson

from curation.engine.stage import Stage
from curation.models.encoder import EncoderSpec, embed_with_texts
from data_manifests.sample import Sample
from data_manifests.seeds import canonical

NegativeRecord = Mapping[str, Any]
"""A negative: text, caption, operation, span_class, type, edits, tokens, rule, source; see `data_manifests.negatives`."""

STAGE_OF_UNSIGNED_FIELD = {"swap_negatives": "swap_words"}
"""Field whose records do not name their stage -> that stage."""


@dataclass(frozen=True)
class ReadsNegatives(Stage):
    """Base of the stages that read the negatives of `fields`.

    Attributes:
        fields: Fields of negatives.

    Raises:
        InputError: no field or a repeated one.
    """

    fields: tuple[str, ...] = ("swap_negatives",)

    def __post_init__(self) -> None:
        self.require(
            0 < len(self.fields) == len(set(self.fields)),
            "fields",
            allowed="one or more fields of negatives, each once",
            fix=f"name the fields that earlier stages provide, such as '{type(self).fields[0]}'",
        )

    def required_fields(self) -> tuple[str, ...]:
        """Return the fields that it reads."""
        return (*self.requires, *self.fields)

    def reading_only(self, provided: Collection[str]) -> ReadsNegatives:
        """Return the stage with those of its fields that other stages provide; itself if none does."""
        known = tuple(name for name in self.fields if name in provided)
        return replace(self, fields=known) if known else self


@dataclass(frozen=True)
class NegativesStage(ReadsNegatives):
    """Base of the stages that publish their own field of negatives in place of those that they read."""

    judges_negatives: ClassVar[bool] = True

    def superseded_fields(self) -> tuple[str, ...]:
        """Return the fields that its own field replaces."""
        return self.fields


def add_scores(record: NegativeRecord, scores: Mapping[str, float]) -> dict[str, Any]:
    """Return a record with further scores; ``scores`` is canonical JSON text."""
    every = {**orjson.loads(record.get("scores") or "{}"), **scores}
    return {**record, "scores": canonical(every).decode()}


def rejection(record: NegativeRecord, reason: str, detail: str) -> dict[str, Any]:
    """Return the record of a rejected negative; its ``source`` is the stage that made it, if the negative names it."""
    kept = {name: record[name] for name in ("text", "caption", "source") if name in record}
    kept["rule"] = record.get("rule", "")
    return kept | {"reason": reason, "detail": detail}


def similarity_and_gain(
    model: EncoderSpec, sample: Sample, records: Sequence[NegativeRecord]
) -> list[tuple[float, float]]:
    """Return each negative's cosine similarity to its caption, and to the image less the caption's."""
    if not records:
        return []
    vectors, to_image = embed_with_texts(model, sample, (record["text"] for record in records))
    rows = enumerate((record["caption"] for record in records), start=len(sample.captions))
    return [(float(vectors[row] @ vectors[caption]), float(to_image[row] - to_image[caption])) for row, caption in rows]
