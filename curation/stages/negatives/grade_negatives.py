"""Grade how hard a negative is to distinguish from its caption, from 0 (easiest) to 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.entailment.tokens import split_words, tags_of
from curation.entailment.word_pairs import replaced_words
from curation.knowledge.interface import KnowledgeGraph
from curation.models.encoder import EncoderSpec
from curation.negatives.records import NegativeRecord, NegativesStage, add_scores, similarity_and_gain
from data_manifests.sample import Sample

TYPE_PRIOR: Mapping[str, float] = {
    "relation": 0.9, "order": 0.8, "attribute": 0.7, "number": 0.7, "action": 0.5, "negation": 0.5, "object": 0.3,
}  # fmt: skip
"""How hard CLIP-like models find a type: relations above attributes above objects, as Hsieh et al. 2023 measure."""
_UNKNOWN_TYPE = 0.5
_DIGITS = 4
_STEPS = (("Synonym", "SimilarTo", "Antonym", "IsA"), 1.0), (("RelatedTo", "LocatedNear", "PartOf", "AtLocation"), 0.75)
_SIBLINGS, _NO_PATH = 0.5, 0.0


@dataclass(frozen=True)
class GradeNegatives(NegativesStage, MapStage):
    """Give each negative record a ``difficulty`` and the ``scores`` it is computed from.

    Provides ``graded_negatives``: the records of `fields`, in their order, each with ``difficulty``, the weighted mean
    of the scores below, and ``scores``, canonical JSON text of these and of its earlier scores. Each lies in [0, 1], 1
    for hardest:

    * ``edit``: 1 - the share of words that the edits touch, the larger of the two texts' shares.
    * ``type``: how hard models find the type (`TYPE_PRIOR`), 0.5 for one not listed.
    * ``text`` (with a `model`): cosine similarity of caption and negative, 0 where it is negative.
    * ``image`` (with a `model`): 0.5 + 2 times (similarity of negative and image - similarity of caption and image),
      cosine, cut to [0, 1]: 0.5 when the model cannot distinguish them.
    * ``graph`` (with a `graph`): how close a replaced word is to the new one: 1 for a synonym, antonym or kind, 0.75 for
      another direct edge, 0.5 for a common kind, 0 otherwise; the mean over the words. Missing where no word replaces
      another.

    difficulty = sum(weight x score) / sum(weight) over the scores present, rounded to 4 digits as they are.

    Attributes:
        fields: Fields of negatives; this stage's own field is published in their place.
        model: Embeds texts and image.
        graph: Gives the closeness of words.
        edit_weight: Weight of ``edit``; all weights are 0 or more, and ``edit`` and ``type`` are not both 0.
        type_weight: Weight of ``type``.
        text_weight: Weight of ``text``.
        image_weight: Weight of ``image``.
        graph_weight: Weight of ``graph``.

    Raises:
        InputError: no field or a repeated one; a weight below 0; `edit_weight` and `type_weight` both 0.

    Source: Hsieh et al. 2023 (SugarCrepe), arXiv 2306.14610: accuracy by category, from which the order of object,
        attribute and relation comes.
    Differs: the paper grades benchmarks, not single negatives; the formula, the numbers of `TYPE_PRIOR` and the other
        types in it are ours.
    """

    name: ClassVar[str] = "grade_negatives"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (Field("graded_negatives", publish="sample", role="negatives"),)
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
        super().__post_init__()
        for name, weight in self._weights().items():
            self.require(0 <= weight < float("inf"), f"{name}_weight", allowed="0 or more", fix="raise it")
        self.require(
            self.edit_weight + self.type_weight > 0,
            "edit_weight type_weight",
            allowed="one of them above 0: other scores may be missing for a negative",
            fix="give one of them a small weight",
        )

    def required_fields(self) -> tuple[str, ...]:
        """Return the fields that it reads; with a model also the image."""
        return (*super().required_fields(), *(("image",) if self.model is not None else ()))

    def _weights(self) -> dict[str, float]:
        names = ("edit", "type", "text", "image", "graph")
        return {name: getattr(self, f"{name}_weight") for name in names}

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Grade all negatives; the graph is queried once for all words."""
        records = [[record for name in self.fields for record in sample[name]] for sample in samples]
        pairs = [self._pairs(sample, of_sample) for sample, of_sample in zip(samples, records, strict=True)]
        words = {word for of_sample in pairs for of_record in of_sample for pair in of_record for word in pair}
        graph = _Nearness(self.graph, sorted(words))
        return [
            {"graded_negatives": self._graded(sample, of_sample, of_pairs, graph)}
            for sample, of_sample, of_pairs in zip(samples, records, pairs, strict=True)
        ]

    def _pairs(self, sample: Sample, records: Sequence[NegativeRecord]) -> list[list[tuple[str, str]]]:
        """Return each record's pairs of replaced and new word."""
        if self.graph is None:
            return [[] for _ in records]
        tags = tags_of(sample["parses"])
        return [
            [(old, new) for old, new, kind in replaced_words(sample.captions[record["caption"]], record, tags) if kind]
            for record in records
        ]

    def _graded(
        self,
        sample: Sample,
        records: Sequence[NegativeRecord],
        pairs: Sequence[list[tuple[str, str]]],
        graph: _Nearness,
    ) -> list[dict[str, Any]]:
        weights, graded = self._weights(), []
        for record, words, of_model in zip(records, pairs, self._model_scores(sample, records), strict=True):
            scores = {"edit": edit_score(sample.captions[record["caption"]], record)}
            scores["type"] = TYPE_PRIOR.get(record["type"], _UNKNOWN_TYPE)
            scores |= of_model
            if words:
                scores["graph"] = sum(graph.score(*pair) for pair in words) / len(words)
            scores = {name: round(score, _DIGITS) for name, score in scores.items()}
            total = sum(weights[name] for name in scores)
            difficulty = sum(weights[name] * score for name, score in scores.items()) / total
            # scores of earlier stages, such as the blind gaps of refinement, are kept
            graded.append(add_scores(record, scores) | {"difficulty": round(difficulty, _DIGITS)})
        return graded

    def _model_scores(self, sample: Sample, records: Sequence[NegativeRecord]) -> list[dict[str, float]]:
        if self.model is None:
            return [{} for _ in records]
        return [
            {"text": min(1.0, max(0.0, similarity)), "image": min(1.0, max(0.0, 0.5 + 2 * gain))}
            for similarity, gain in similarity_and_gain(self.model, sample, records)
        ]


def edit_score(caption: str, record: NegativeRecord) -> float:
    """Return 1 - the share of words that the edits touch, the larger of the caption's and the negative's share."""
    shares = []
    for text, first in ((caption, 0), (record["text"], 2)):
        touched = sum(len(split_words(text[edit[first] : edit[first + 1]])) for edit in record["edits"])
        shares.append(touched / max(1, len(split_words(text))))
    return max(0.0, 1 - max(shares))


class _Nearness:
    """How close words are in a graph; two queries for all of them."""

    def __init__(self, graph: KnowledgeGraph | None, words: Sequence[str]) -> None:
        self.ends: dict[str, dict[str, float]] = {}
        self.kinds: dict[str, set[str]] = {}
        if graph is None or not words:
            return
        for relations, score in _STEPS:
            for word, edges in graph.edges_from(words, relations).items():
                for edge in edges:
                    self.ends.setdefault(word, {}).setdefault(edge.tail, score)
                    if edge.relation == "IsA":
                        self.kinds.setdefault(word, set()).add(edge.tail)

    def score(self, one: str, other: str) -> float:
        """Return the closeness of two words, in either order."""
        direct = max(self.ends.get(one, {}).get(other, 0.0), self.ends.get(other, {}).get(one, 0.0))
        if direct:
            return direct
        return _SIBLINGS if self.kinds.get(one, set()) & self.kinds.get(other, set()) else _NO_PATH
