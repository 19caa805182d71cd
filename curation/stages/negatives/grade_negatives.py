"""Grade how hard a negative is to tell from its caption, from 0 (easiest) to 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from curation.engine.stage import Drop, Field, MapStage
from curation.entailment.tokens import split_words, tags_of
from curation.entailment.word_pairs import replaced_words
from curation.knowledge.interface import KnowledgeGraph
from curation.models.encoder import EncoderSpec, open_encoder
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import canonical

TYPE_PRIOR: Mapping[str, float] = {
    "relation": 0.9, "order": 0.8, "attribute": 0.7, "number": 0.7, "action": 0.5, "negation": 0.5, "object": 0.3,
}  # fmt: skip
"""How hard CLIP-like models find a type: relations above attributes above objects, as Hsieh et al. 2023 measure."""
_UNKNOWN_TYPE = 0.5
_DIGITS = 4
_STEPS = (("Synonym", "SimilarTo", "Antonym", "IsA"), 1.0), (("RelatedTo", "LocatedNear", "PartOf", "AtLocation"), 0.75)
_SIBLINGS, _NO_PATH = 0.5, 0.0
Record = Mapping[str, Any]


@dataclass(frozen=True)
class GradeNegatives(MapStage):
    """Give each negative record a ``difficulty`` and the ``scores`` it comes from.

    Provides ``graded_negatives``: the records of `fields`, in their order, each with ``difficulty``, the weighted mean
    of this stage's scores that there are for it, and ``scores``, canonical JSON text of them beside those that it had.
    Each lies in [0, 1], 1 for hardest:

    * ``edit``: 1 - the share of words that the edits touch, the larger of the two texts' shares.
    * ``type``: how hard models find the type (`TYPE_PRIOR`), 0.5 for one not listed.
    * ``text`` (with a `model`): cosine similarity of caption and negative, 0 where it is negative.
    * ``image`` (with a `model`): 0.5 + 2 times what the negative fits the picture better than the caption, in cosine
      similarity, cut to [0, 1]: 0.5 when the model cannot tell them apart.
    * ``graph`` (with a `graph`): how near a replaced word is to the new one: 1 for a direct synonym, antonym or kind,
      0.75 for another direct edge, 0.5 for a common kind, 0 otherwise; the mean over the words. Missing where no word
      replaces another.

    difficulty = sum(weight x score) / sum(weight) over the scores present, rounded to 4 digits as they are.

    Attributes:
        fields: Fields of negatives; this stage's own field is published in their place.
        model: Embeds texts and picture.
        graph: Where words are near each other.
        edit_weight: Weight of ``edit``; all weights are 0 or more, and not all of ``edit`` and ``type`` are 0.
        type_weight: Weight of ``type``.
        text_weight: Weight of ``text``.
        image_weight: Weight of ``image``.
        graph_weight: Weight of ``graph``.

    Raises:
        InputError: no field or a repeated one; a weight below 0; `edit_weight` and `type_weight` both 0.

    Source: Hsieh et al. 2023 (SugarCrepe), arXiv 2306.14610: accuracy by category, from which the order of object,
        attribute and relation comes.
    Differs: the paper grades benchmarks, not single negatives; the formula, the numbers of `TYPE_PRIOR` and the places
        of the other types in it are ours.
    """

    name: ClassVar[str] = "grade_negatives"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("graded_negatives", kind="json", publish="sample", role="negatives"),
    )
    source: ClassVar[str] = "Hsieh et al. 2023 (SugarCrepe), accuracy by category, arXiv 2306.14610"

    fields: tuple[str, ...] = ("true_negatives",)
    model: EncoderSpec | None = None
    graph: KnowledgeGraph | None = None
    edit_weight: float = 1.0
    type_weight: float = 1.0
    text_weight: float = 2.0
    image_weight: float = 2.0
    graph_weight: float = 0.5

    def __post_init__(self) -> None:
        if not self.fields or len(set(self.fields)) < len(self.fields):
            raise InputError(
                f"{self.name}: fields {self.fields!r}",
                allowed="one or more fields of negatives, each once",
                fix="name the fields that the stages before it provide, such as 'true_negatives'",
            )
        for name, weight in self._weights().items():
            if not 0 <= weight < float("inf"):
                raise InputError(f"{self.name}: {name}_weight is {weight}", allowed="0 or more", fix="raise it")
        if self.edit_weight + self.type_weight == 0:
            raise InputError(
                f"{self.name}: edit_weight and type_weight are both 0",
                allowed="one of them above 0: other scores may be missing for a negative",
                fix="give one of them a small weight",
            )

    def required_fields(self) -> tuple[str, ...]:
        """Return what it reads: the fields, and the picture when a model looks at it."""
        return (*self.requires, *self.fields, *(("image",) if self.model is not None else ()))

    def superseded_fields(self) -> tuple[str, ...]:
        """Return the fields that it passes on."""
        return self.fields

    def _weights(self) -> dict[str, float]:
        names = ("edit", "type", "text", "image", "graph")
        return {name: getattr(self, f"{name}_weight") for name in names}

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Grade all negatives, with all words looked up in the graph together."""
        records = [[record for name in self.fields for record in sample[name]] for sample in samples]
        pairs = [self._pairs(sample, of_sample) for sample, of_sample in zip(samples, records, strict=True)]
        near = _Nearness(
            self.graph, [word for of_sample in pairs for one in of_sample for pair in one for word in pair]
        )
        return [
            {"graded_negatives": self._graded(sample, of_sample, words, near)}
            for sample, of_sample, words in zip(samples, records, pairs, strict=True)
        ]

    def _pairs(self, sample: Sample, records: Sequence[Record]) -> list[list[tuple[str, str]]]:
        """Return, per record, the words that it puts in place of others."""
        if self.graph is None:
            return [[] for _ in records]
        tags = tags_of(sample["parses"])
        return [
            [(old, new) for old, new, kind in replaced_words(sample.captions[record["caption"]], record, tags) if kind]
            for record in records
        ]

    def _graded(
        self, sample: Sample, records: Sequence[Record], pairs: Sequence[list[tuple[str, str]]], near: _Nearness
    ) -> list[dict[str, Any]]:
        seen = self._seen(sample, records)
        weights, graded = self._weights(), []
        for record, words, more in zip(records, pairs, seen, strict=True):
            scores = {"edit": edit_score(sample.captions[record["caption"]], record)}
            scores["type"] = TYPE_PRIOR.get(record["type"], _UNKNOWN_TYPE)
            scores |= more
            if words:
                scores["graph"] = sum(near.score(*pair) for pair in words) / len(words)
            scores = {name: round(score, _DIGITS) for name, score in scores.items()}
            total = sum(weights[name] for name in scores)
            difficulty = sum(weights[name] * score for name, score in scores.items()) / total
            # what earlier stages scored, such as the blind gaps of refinement, stays beside it
            every = {**orjson.loads(record.get("scores") or "{}"), **scores}
            told = {"difficulty": round(difficulty, _DIGITS), "scores": canonical(every).decode()}
            graded.append({**record, **told})
        return graded

    def _seen(self, sample: Sample, records: Sequence[Record]) -> list[dict[str, float]]:
        """Return what a model makes of each record's text."""
        if self.model is None or not records:
            return [{} for _ in records]
        texts = (*sample.captions, *(record["text"] for record in records))
        image, embedded = open_encoder(self.model).embed_one(dataclasses.replace(sample, captions=texts))
        vectors = embedded.astype("float64")
        fits = vectors @ image.astype("float64")
        found = []
        for at, record in enumerate(records, start=len(sample.captions)):
            own = record["caption"]
            gain = float(fits[at] - fits[own])
            similar = float(vectors[at] @ vectors[own])
            found.append({"text": min(1.0, max(0.0, similar)), "image": min(1.0, max(0.0, 0.5 + 2 * gain))})
        return found


def edit_score(caption: str, record: Record) -> float:
    """Return 1 - the share of words that the edits touch, the larger of the caption's and the negative's share."""
    shares = []
    for text, first in ((caption, 0), (record["text"], 2)):
        touched = sum(len(split_words(text[edit[first] : edit[first + 1]])) for edit in record["edits"])
        shares.append(touched / max(1, len(split_words(text))))
    return max(0.0, 1 - max(shares))


class _Nearness:
    """How near words are in a graph; two questions for all of them."""

    def __init__(self, graph: KnowledgeGraph | None, words: Iterable[str]) -> None:
        asked = sorted(set(words)) if graph is not None else []
        self.ends: dict[str, dict[str, float]] = {}
        self.kinds: dict[str, set[str]] = {}
        if graph is None or not asked:
            return
        for relations, score in _STEPS:
            for word, edges in graph.edges_from(asked, relations).items():
                for edge in edges:
                    self.ends.setdefault(word, {}).setdefault(edge.tail, score)
                    if edge.relation == "IsA":
                        self.kinds.setdefault(word, set()).add(edge.tail)

    def score(self, one: str, other: str) -> float:
        """Return the nearness of two words; the same from both sides."""
        direct = max(self.ends.get(one, {}).get(other, 0.0), self.ends.get(other, {}).get(one, 0.0))
        if direct:
            return direct
        return _SIBLINGS if self.kinds.get(one, set()) & self.kinds.get(other, set()) else _NO_PATH
