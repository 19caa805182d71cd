"""Find negatives that may be true of the image, and remove them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.entailment.check_negative import (
    ImageClaims,
    SampleClaims,
    claim_words,
    read_sample_claims,
    rejection_reason,
)
from curation.entailment.plain_check import plain_rejection_reason
from curation.entailment.plausibility import is_likely_swap
from curation.entailment.word_meanings import WordRelations, word_relations
from curation.knowledge.interface import KnowledgeGraph
from curation.models.encoder import EncoderSpec
from curation.negatives.records import STAGE_OF_UNSIGNED_FIELD, NegativesStage, rejection, similarity_and_gain
from curation.text.languages import ENGLISH, CaptionLanguage
from data_manifests.errors import InputError
from data_manifests.sample import Sample

NUMBERS = ("at_least", "exactly")
REASONS = (
    "same_text", "repeated", "same_role", "synonym", "hypernym", "same_meaning", "said_by_other_caption", "possible",
    "close_text", "fits_image", "unlike",
)  # fmt: skip


@dataclass(frozen=True)
class FindFalseNegatives(NegativesStage, MapStage):
    """Check the negatives of `fields`: keep those that the captions contradict, reject those that may be true.

    Provides ``true_negatives``, the records that passed, each with its ``source``, and ``negatives_rejected``, records
    ``{"text", "caption", "source", "reason", "rule", "detail"}``. The first reason that applies is given:

    * ``same_text``: a caption of the image, except for case, spaces and articles; ``repeated``: made twice for a caption.
    * ``synonym``, ``hypernym``: the new word means the same, or one of the two is a kind of the other (a dog is an
      animal, and a wrong animal may be the right dog); ``same_role``: two words of one meaning were exchanged.
    * ``same_meaning``: the caption's claims in other words: order of what "and" or a comma joins, order of adjectives,
      the two sides of "next to", "left of" for "right of" with the sides exchanged, passive for active.
    * ``said_by_other_caption``: another caption claims it, or all of them together do.
    * ``possible``: weaker than the caption, or no caption contradicts it. Contradictions are: an object, an action or
      something held or worn that no caption mentions; another colour, size, number ... of the same object; the reverse
      of a relation. An attribute or direction that no caption mentions is none.
    * ``close_text``, ``fits_image`` (with a `model`): the text is closer to its caption than `most_text_similarity`,
      or fits the image better than its caption by more than `most_image_gain`, in cosine similarity.
    * ``unlike`` (with `like_swaps`): a swap exchanged words of different classes, which makes sentences that nobody
      would write ("a man in a white bag is looking through the jacket"): false, but recognisable without the image.

    In other languages than English sentences are not read: a negative is compared with the captions word by word (see
    `curation.entailment.plain_check`).

    Nothing is parsed: a negative's words have the tags from the captions' parses, and a new word gets the tag of the
    word it replaces where it can have it.

    Attributes:
        fields: Fields of negatives; this stage's own field is published in their place.
        graph: Synonyms and kinds beyond our own lists.
        numbers: "two dogs" is true of three (``at_least``), or is not (``exactly``).
        like_swaps: Whether swaps of words of different classes are rejected (``unlike``).
        model: Compares texts and image; None uses the rules only.
        most_text_similarity: See ``close_text``; 1 rejects none.
        most_image_gain: See ``fits_image``; 2 rejects none.
        language: The captions' language.

    Raises:
        InputError: no field, a repeated one, an unknown value of `numbers`, a threshold out of range; in `process`,
            a record that is not a negative.

    Source: Hsieh et al. 2023 (SugarCrepe), section 3, arXiv 2306.14610: a negative must be false of the image, which
        the authors have people check; Yuksekgonul et al. 2023 (NegCLIP), arXiv 2210.01936, makes no such check.
    Differs: checks by rule what can be known from the captions of one image; captions mention only a part of the image,
        so a true claim about a second object of the same name, or about an object that no caption mentions, stays
        undetected. "A dog" in two captions counts as the same dog unless they contradict each other or name several.
    """

    name: ClassVar[str] = "find_false_negatives"
    version: ClassVar[int] = 4
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("true_negatives", publish="sample", role="negatives"),
        Field("negatives_rejected", role="rejects"),
    )
    source: ClassVar[str] = "Hsieh et al. 2023, section 3, arXiv 2306.14610"

    graph: KnowledgeGraph | None = None
    numbers: str = "at_least"
    like_swaps: bool = False
    model: EncoderSpec | None = None
    most_text_similarity: float = 1.0
    most_image_gain: float = 2.0
    language: CaptionLanguage = ENGLISH

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_names("numbers", NUMBERS)
        for name in ("most_text_similarity", "most_image_gain"):
            allowed = "a number from -2 to 2, in cosine similarity"
            self.require(-2 <= getattr(self, name) <= 2, name, allowed=allowed, fix="leave it out to reject none")

    def required_fields(self) -> tuple[str, ...]:
        """Return the fields that it reads; with a model also the image."""
        return (*super().required_fields(), *(("image",) if self.model is not None else ()))

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Check all negatives; the graph is queried once for all words."""
        if not self.language.is_english:
            return [self._plainly(sample) for sample in samples]
        copies = self.numbers == "at_least"
        read = [
            read_sample_claims(sample.captions, sample["parses"], list(_records(sample, self.fields)), copies=copies)
            for sample in samples
        ]
        words = {word for of_sample in read for word in claim_words(of_sample)} if self.graph is not None else ()
        kinds = word_relations(self.graph, words)
        return [self._one(sample, of_sample, kinds) for sample, of_sample in zip(samples, read, strict=True)]

    def _plainly(self, sample: Sample) -> dict[str, Any]:
        """Check the negatives of a sample in a language whose sentences are not read."""
        records = list(_records(sample, self.fields))
        verdicts = [plain_rejection_reason(sample.captions, record, self.language) for record in records]
        return self._kept_and_rejected(sample, zip(records, verdicts, strict=True))

    def _one(self, sample: Sample, read: SampleClaims, kinds: WordRelations) -> dict[str, Any]:
        judge = ImageClaims(read, kinds)
        verdicts = []
        for record, claims, pairs in zip(read.records, read.claims, read.pairs, strict=True):
            reason, detail = rejection_reason(record, claims, pairs, judge)
            if not reason and self.like_swaps and record["operation"] == "swap":
                likely = is_likely_swap(sample.captions[record["caption"]], record)
                reason, detail = ("", "") if likely else ("unlike", "words of different sorts changed places")
            verdicts.append((reason, detail))
        return self._kept_and_rejected(sample, zip(read.records, verdicts, strict=True))

    def _kept_and_rejected(
        self, sample: Sample, judged: Iterable[tuple[dict[str, Any], tuple[str, str]]]
    ) -> dict[str, Any]:
        """Return the fields of a sample, from its negatives with the reason and detail of each."""
        taken: set[tuple[int, str]] = set()
        kept: list[dict[str, Any]] = []
        rejected: list[dict[str, Any]] = []
        for record, (found, about) in judged:
            key = record["caption"], " ".join(record["text"].casefold().split())
            again = not found and key in taken
            reason, detail = ("repeated", "another operation made it for the same caption") if again else (found, about)
            if reason:
                rejected.append(rejection(record, reason, detail))
            else:
                taken.add(key)
                kept.append(record)
        scores = similarity_and_gain(self.model, sample, kept) if self.model is not None else ()
        for record, (similarity, gain) in zip(kept[:], scores, strict=False):
            if round(similarity, 4) > self.most_text_similarity:
                rejected.append(rejection(record, "close_text", f"similarity {similarity:.4f}"))
            elif round(gain, 4) > self.most_image_gain:
                rejected.append(rejection(record, "fits_image", f"gain {gain:.4f}"))
            else:
                continue
            kept.remove(record)
        return {"true_negatives": kept, "negatives_rejected": rejected}


def _records(sample: Sample, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the records of the fields, each with the name of the stage that made it."""
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
            yield {"source": STAGE_OF_UNSIGNED_FIELD.get(name, name), **record}
