"""Add facts of a knowledge graph to captions, but only those that the image supports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, NamedTuple

from curation.engine.stage import Drop, Field, MapStage
from curation.knowledge.interface import Edge, KnowledgeGraph
from curation.knowledge.verbalise import insert_fact, predicate
from curation.knowledge.visual_gate import Scene, facts, read_scene, scene_rejection, support_for
from curation.knowledge.word_sense import Lexicon, lexicon_of
from curation.models.encoder import EncoderSpec, embed_with_texts
from curation.models.parser import CaptionParse
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed

VERBALISED = (
    "IsA", "HasA", "MadeOf", "HasProperty", "CapableOf", "UsedFor", "AtLocation", "ReceivesAction", "PartOf",
    "InstanceOf",
)  # fmt: skip
"""Relations with a template, in the order in which equal facts are preferred."""

_SCORED_PER_CAPTION = 8
"""Most texts of a caption that an encoder scores."""
_TAILS_IN_RECORD = 8
_TRIPLET_FIELDS = ("head", "relation", "tail", "weight", "license", "dataset")
"""What a record of ``triplets`` has of its edge, for objectives over triplets."""


class _Candidate(NamedTuple):
    """A fact in a caption that passed the rules."""

    caption: int
    mention: int
    edge: Edge
    text: str
    support: int


@dataclass
class _RejectedFacts:
    """Rejected facts: one record for all of a concept, relation and reason, in order of appearance."""

    first: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    tails: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)

    def add(self, reason: str, caption: int, edges: Sequence[Edge], text: Callable[[Edge], str]) -> None:
        """Count facts of one concept and relation; the text of the first stands for the group."""
        key = (edges[0].head, edges[0].relation, reason)
        if len(self.tails.get(key, ())) >= len(edges) > 1:
            return  # counted for another caption already
        if key not in self.first:
            shown = text(edges[0]) or f"{edges[0].head} {edges[0].relation} {edges[0].tail}"
            self.first[key] = {"text": shown, "caption": caption, "reason": reason, "rule": edges[0].uri}
        self.tails.setdefault(key, {}).update(dict.fromkeys(edge.tail for edge in edges))

    def records(self) -> list[dict[str, Any]]:
        """Return the records, each with the number of facts and the first of their tails."""
        records = []
        for key, record in self.first.items():
            tails = list(self.tails[key])
            shown = "; ".join(tails[:_TAILS_IN_RECORD]) + (" ..." if len(tails) > _TAILS_IN_RECORD else "")
            records.append(record | {"detail": f"{len(tails)} of {key[1]}: {shown}"})
        return records


@dataclass(frozen=True)
class ExpandKnowledge(MapStage):
    """Add to each caption up to `per_caption` texts with one more fact each, naming the edge it comes from.

    Provides ``knowledge`` (views: ``{"text", "caption", "kind": "knowledge", "family": relation, "rule": the edge}``),
    ``knowledge_rejected`` (rejected facts with the reason) and ``triplets``, the edges used.

    A fact passes the gate when its relation suits the kind of concept (people get neutral roles and nothing else), its
    tail is short, visible and no opinion; when no caption of the image contradicts it; and when either every instance
    has it (IsA, visible parts, the only material) or another caption of the image says it too. What the caption already
    says is not repeated. With a `model`, the longer text must not fit the image worse than the caption by more than
    `margin` in cosine similarity.

    Rejected facts are one record per concept, relation and reason, with the text of the first and the number of all.

    Attributes:
        graph: The knowledge graph that linked the concepts.
        relations: Which relations are used, of `VERBALISED`.
        per_caption: Most texts per caption, 1 or more.
        model: Compares image and texts; None uses the rules only.
        margin: How much worse than the caption a text may fit, in cosine similarity, 0 or more.

    Raises:
        InputError: an unknown relation, `per_caption` below 1, `margin` below 0.

    Source: Pan et al. 2022 (Knowledge-CLIP), NeurIPS; facts of Speer et al. 2017 (ConceptNet 5.5), arXiv 1612.03975.
    Differs: knowledge becomes data, as texts and triplets, where the paper trains a fusion encoder over triplets; every
        fact passes a gate, because texts without visual evidence ruin retrieval (Doveh et al. 2023, DAC,
        arXiv 2305.19595: image-to-text recall 60 to 37 with ungrounded descriptions).
    """

    name: ClassVar[str] = "expand_knowledge"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses", "concepts")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("knowledge", publish="sample", role="views"),
        Field("knowledge_rejected", role="rejects"),
        Field("triplets", publish="sidecar"),
    )
    source: ClassVar[str] = "Pan et al. 2022, NeurIPS (Knowledge-CLIP); Speer et al. 2017, arXiv 1612.03975"
    knows_only_english: ClassVar[bool] = True

    graph: KnowledgeGraph
    relations: tuple[str, ...] = VERBALISED
    per_caption: int = 2
    model: EncoderSpec | None = None
    margin: float = 0.02

    def __post_init__(self) -> None:
        self.check_names("relations", VERBALISED)
        self.check_least(per_caption=1)
        self.require(self.margin >= 0, "margin", allowed="0 or more", fix="raise it")

    def required_fields(self) -> tuple[str, ...]:
        """Return the fields that it reads; with a model also the image."""
        return (*self.requires, "image") if self.model is not None else self.requires

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Expand all captions; the graph is queried once for all concepts."""
        lexicon = lexicon_of(self.graph)
        lexicon.prepare(
            link["concept"]
            for sample in samples
            for of_caption in sample["concepts"]
            for link in of_caption
            if link["pos"] == "NOUN"
        )
        return [self._expand(sample, lexicon) for sample in samples]

    def _expand(self, sample: Sample, lexicon: Lexicon) -> dict[str, Any]:
        rejected = _RejectedFacts()
        scene = read_scene(sample["parses"], sample["concepts"])
        candidates = [
            candidate
            for caption in range(len(sample.captions))
            for candidate in self._of_caption(sample, caption, scene, lexicon, rejected)
        ]
        candidates = self._fitting(sample, candidates, rejected)
        taken = {" ".join(caption.casefold().split()) for caption in sample.captions}
        views, triplets = [], []
        for caption in range(len(sample.captions)):
            for one in self._choose(candidates, caption, taken):
                view = {"text": one.text, "caption": caption, "kind": "knowledge"}
                views.append(view | {"family": one.edge.relation, "rule": one.edge.uri})
                triplets.append({name: getattr(one.edge, name) for name in _TRIPLET_FIELDS} | {"caption": caption})
        return {"knowledge": views, "knowledge_rejected": rejected.records(), "triplets": triplets}

    def _of_caption(
        self, sample: Sample, caption: int, scene: Scene, lexicon: Lexicon, rejected: _RejectedFacts
    ) -> list[_Candidate]:
        """Return the facts that can be added to a caption, best first."""
        candidates: list[_Candidate] = []
        done: set[Edge] = set()
        for mention, link in enumerate(sample["concepts"][caption]):
            if link["pos"] != "NOUN":
                continue
            text = partial(_expanded, sample.captions[caption], sample["parses"][caption], link)
            for reason, edges in facts(lexicon, link, self.relations):
                if reason:
                    rejected.add(reason, caption, edges, text)
                    continue
                for edge in edges:
                    if edge in done:
                        continue
                    done.add(edge)
                    support = support_for(edge, scene, caption, plural=link["plural"])
                    against = scene_rejection(edge, scene, caption, support)
                    expanded = "" if against else text(edge)
                    if expanded:
                        candidates.append(_Candidate(caption, mention, edge, expanded, support))
                    else:
                        rejected.add(against or "no_template", caption, [edge], text)
        candidates.sort(key=lambda one: _rank(one, sample.captions[caption]))
        return candidates[:_SCORED_PER_CAPTION]

    def _choose(self, candidates: Iterable[_Candidate], caption: int, taken: set[str]) -> list[_Candidate]:
        """Return up to `per_caption` of a caption's facts: one for each concept before a second for any."""
        of_caption = [one for one in candidates if one.caption == caption]
        chosen: list[_Candidate] = []
        for first_round in (True, False):
            for one in of_caption:
                plain = " ".join(one.text.casefold().split())
                repeated = first_round and one.mention in {other.mention for other in chosen}
                if len(chosen) < self.per_caption and plain not in taken and not repeated:
                    taken.add(plain)
                    chosen.append(one)
        return chosen

    def _fitting(self, sample: Sample, candidates: list[_Candidate], rejected: _RejectedFacts) -> list[_Candidate]:
        """Return the candidates that fit the image about as well as their captions; all of them without a model."""
        if self.model is None or not candidates:
            return candidates
        _, scores = embed_with_texts(self.model, sample, (one.text for one in candidates))
        kept = []
        for one, score in zip(candidates, scores[len(sample.captions) :], strict=True):
            if score >= scores[one.caption] - self.margin:
                kept.append(one)
            else:
                rejected.add("low_score", one.caption, [one.edge], {one.edge: one.text}.__getitem__)
        return kept


def _expanded(caption: str, parse: CaptionParse, link: Mapping[str, Any], edge: Edge) -> str:
    """Return a caption with a fact about one of its concepts, or an empty string where it does not fit."""
    clause = predicate(edge, link["plural"])
    return insert_fact(caption, parse, link, clause, link["sense"] == "person") if clause else ""


def _rank(one: _Candidate, caption: str) -> tuple[float, int, bool, int]:
    """Return the sort key, better facts first: weight, support, objects before people, then a draw for the caption.

    The draw makes different captions use different facts of equal rank: otherwise every dog has ears.
    """
    edge = one.edge
    person = edge.tail in ("person", "adult", "child")
    return (-edge.weight, -one.support, person, draw_seed("expand_knowledge", caption, edge.uri))
