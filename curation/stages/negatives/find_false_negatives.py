"""Find negatives that are true all the same, and take them out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from curation.engine.stage import Drop, Field, MapStage
from curation.entailment.check_negative import (
    ImageClaims,
    SampleClaims,
    claim_words,
    read_sample_claims,
    rejection_reason,
)
from curation.entailment.plausibility import is_likely_swap
from curation.entailment.word_meanings import WordRelations, word_relations
from curation.knowledge.interface import KnowledgeGraph
from curation.models.encoder import EncoderSpec, open_encoder
from data_manifests.errors import InputError, nearest
from data_manifests.sample import Sample

NUMBERS = ("at_least", "exactly")
REASONS = (
    "same_text", "repeated", "same_role", "synonym", "hypernym", "same_meaning", "said_by_other_caption", "possible",
    "close_text", "fits_image", "unlike",
)  # fmt: skip
_MAKER_OF_FIELD = {"swap_negatives": "swap_words"}
Record = dict[str, Any]


@dataclass(frozen=True)
class FindFalseNegatives(MapStage):
    """Judge the negatives of the generators' `fields`: pass on what the captions speak against, refuse what may be true.

    Provides ``true_negatives``, the records that passed, each with its ``source``, and ``negatives_rejected``, records
    ``{"text", "caption", "reason", "rule", "detail"}``. The first reason that applies is given:

    * ``same_text``: a caption of the image, but for case, spaces and articles; ``repeated``: made twice for a caption.
    * ``synonym``, ``hypernym``: the new word means the same, or one of the two names a kind of the other (a dog is an
      animal, and a wrong animal may be the right dog); ``same_role``: two words of one meaning changed places.
    * ``same_meaning``: the caption's claims in another wording: order of what "and" or a comma joins, order of
      adjectives, the two sides of "next to", "left of" for "right of" with the sides exchanged, passive for active.
    * ``said_by_other_caption``: another caption claims it, or all of them together do.
    * ``possible``: weaker than the caption, or nothing in any caption speaks against it. Against it speak: a thing, a
      deed or something held or worn that no caption mentions; another colour, size, number ... of the same thing;
      the reverse of a relation. Silence about a describing word or a direction does not.
    * ``close_text``, ``fits_image`` (with a `model`): the text is closer to its caption than `most_text_similarity`,
      or fits the picture better than its caption by more than `most_image_gain`, in cosine similarity. Quantiles need
      many samples, so the thresholds are numbers here and `calibrated` finds them on some.

    * ``unlike`` (with `like_swaps`): a swap exchanged words of different sorts, which makes sentences that nobody
      says ("a man in a white bag is looking through the jacket"): false, and told as such without the picture.

    Nothing is parsed: a negative's words have the tags that the captions' parses gave them, and a new word takes that of
    the word whose place it takes where it can have it.

    Attributes:
        fields: Generators' fields; this stage's own field is published in their place.
        graph: Knows synonyms and kinds beyond our own lists.
        numbers: "two dogs" is true of three (``at_least``), or is not (``exactly``).
        like_swaps: Whether swaps of words of different sorts are refused (``unlike``).
        model: Looks at the texts and the picture; none leaves the rules alone.
        most_text_similarity: See ``close_text``; 1 refuses none.
        most_image_gain: See ``fits_image``; 2 refuses none.

    Raises:
        InputError: no field, a repeated one, an unknown way of reading numbers, a threshold out of range; in `process`,
            a record that is no negative.

    Source: Hsieh et al. 2023 (SugarCrepe), section 3, arXiv 2306.14610: a negative must be false of the image, which
        the authors have people check; Yuksekgonul et al. 2023 (NegCLIP), arXiv 2210.01936, makes no such check.
    Differs: checks by rule what can be known from the captions of one image; a caption mentions only a part of the
        picture, so a claim about a second, never mentioned thing of the same name stays undetected, as does a true
        claim about something nobody names. What two captions say of "a dog" is taken to be said of one dog unless they
        contradict each other or name several.
    """

    name: ClassVar[str] = "find_false_negatives"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("true_negatives", kind="json", publish="sample", role="negatives"),
        Field("negatives_rejected", kind="json", publish="store", role="rejects"),
    )
    source: ClassVar[str] = "Hsieh et al. 2023, section 3, arXiv 2306.14610"

    fields: tuple[str, ...] = ("swap_negatives",)
    graph: KnowledgeGraph | None = None
    numbers: str = "at_least"
    like_swaps: bool = False
    model: EncoderSpec | None = None
    most_text_similarity: float = 1.0
    most_image_gain: float = 2.0

    def __post_init__(self) -> None:
        if not self.fields or len(set(self.fields)) < len(self.fields):
            raise InputError(
                f"{self.name}: fields {self.fields!r}",
                allowed="one or more fields of negatives, each once",
                fix="name the fields that the generators before it provide, such as 'swap_negatives'",
            )
        if self.numbers not in NUMBERS:
            raise InputError(
                f"{self.name}: numbers is {self.numbers!r}",
                allowed=" or ".join(NUMBERS),
                fix=nearest(self.numbers, NUMBERS) or "leave it out",
            )
        for name in ("most_text_similarity", "most_image_gain"):
            if not -2 <= getattr(self, name) <= 2:
                raise InputError(
                    f"{self.name}: {name} is {getattr(self, name)}",
                    allowed="a number from -2 to 2, in cosine similarity",
                    fix="take what `calibrated` finds, or leave it out",
                )

    def required_fields(self) -> tuple[str, ...]:
        """Return what it reads: the fields, and the picture when a model looks at it."""
        return (*self.requires, *self.fields, *(("image",) if self.model is not None else ()))

    def superseded_fields(self) -> tuple[str, ...]:
        """Return the generators' fields."""
        return self.fields

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Judge all negatives, with all words looked up in the graph together."""
        copies = self.numbers == "at_least"
        read = [
            read_sample_claims(sample.captions, sample["parses"], list(_records(sample, self.fields)), copies=copies)
            for sample in samples
        ]
        words = {word for one in read for word in claim_words(one)} if self.graph is not None else ()
        kinds = word_relations(self.graph, words)
        return [self._one(sample, of_sample, kinds) for sample, of_sample in zip(samples, read, strict=True)]

    def _one(self, sample: Sample, read: SampleClaims, kinds: WordRelations) -> dict[str, Any]:
        judge = ImageClaims(read, kinds)
        taken: set[tuple[int, str]] = set()
        kept: list[Record] = []
        rejected: list[Record] = []
        for record, claims, pairs in zip(read.records, read.claims, read.pairs, strict=True):
            reason, detail = rejection_reason(record, claims, pairs, judge)
            if not reason and self.like_swaps and record["operation"] == "swap":
                likely = is_likely_swap(sample.captions[record["caption"]], record)
                reason, detail = ("", "") if likely else ("unlike", "words of different sorts changed places")
            key = record["caption"], " ".join(record["text"].casefold().split())
            if not reason and key in taken:
                reason, detail = "repeated", "another operation made it for the same caption"
            if reason:
                rejected.append(_reject(record, reason, detail))
            else:
                taken.add(key)
                kept.append(record)
        for record, (similarity, gain) in zip(kept[:], similarities(self.model, sample, kept), strict=True):
            if similarity > self.most_text_similarity:
                rejected.append(_reject(record, "close_text", f"similarity {similarity:.4f}"))
            elif gain > self.most_image_gain:
                rejected.append(_reject(record, "fits_image", f"gain {gain:.4f}"))
            else:
                continue
            kept.remove(record)
        return {"true_negatives": kept, "negatives_rejected": rejected}


def similarities(model: EncoderSpec | None, sample: Sample, records: Sequence[Record]) -> list[tuple[float, float]]:
    """Return, per negative, its similarity to its caption, and its similarity to the picture less the caption's.

    Without a model, (-2, -2): below every threshold.
    """
    if model is None or not records:
        return [(-2.0, -2.0)] * len(records)
    texts = (*sample.captions, *(record["text"] for record in records))
    image, embedded = open_encoder(model).embed_one(dataclasses.replace(sample, captions=texts))
    vectors = embedded.astype("float64")
    fits = vectors @ image.astype("float64")
    found = []
    for at, record in enumerate(records, start=len(sample.captions)):
        own = record["caption"]
        found.append((round(float(vectors[at] @ vectors[own]), 4), round(float(fits[at] - fits[own]), 4)))
    return found


def calibrated(
    stage: FindFalseNegatives, samples: Sequence[Sample], *, text_quantile: float = 0.99, image_quantile: float = 0.99
) -> FindFalseNegatives:
    """Return the stage with thresholds at these quantiles of what the rules let pass in some samples.

    Raises:
        InputError: the stage has no model, or no negative of the samples passes its rules.
    """
    rules = dataclasses.replace(stage, model=None)
    pairs: list[tuple[float, float]] = []
    for sample, result in zip(samples, rules.process(samples), strict=True):
        if isinstance(result, dict):
            pairs += similarities(stage.model, sample, result["true_negatives"])
    if stage.model is None or not pairs:
        raise InputError(
            f"{stage.name}: nothing to calibrate on: {len(pairs)} negatives, model {stage.model!r}",
            allowed="a stage with a model, and samples with negatives",
            fix="give the stage a model, and some hundred samples",
        )
    texts, gains = np.asarray(pairs).T
    return dataclasses.replace(
        stage,
        most_text_similarity=round(float(np.quantile(texts, text_quantile)), 4),
        most_image_gain=round(float(np.quantile(gains, image_quantile)), 4),
    )


def _records(sample: Sample, fields: Sequence[str]) -> Iterator[Record]:
    """Yield the fields' records, each with the name of the stage that made it."""
    for name in fields:
        for record in sample[name]:
            if (
                not isinstance(record, Mapping)
                or not {"text", "caption", "operation", "type", "edits"} <= record.keys()
            ):
                raise InputError(
                    f"sample {sample.uid}: field '{name}' holds {str(record)[:80]!r}",
                    allowed="negative records with text, caption, operation, type and edits",
                    fix="name fields of negatives in `fields`",
                )
            yield {"source": _MAKER_OF_FIELD.get(name, name), **record}


def _reject(record: Record, reason: str, detail: str) -> Record:
    said = {"text": record["text"], "caption": record["caption"], "reason": reason}
    return said | {"rule": record.get("rule", ""), "detail": detail}
