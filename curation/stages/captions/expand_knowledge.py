"""Say more in a caption from a knowledge graph, but only what the picture can bear out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from curation.engine.stage import Drop, Field, MapStage
from curation.knowledge.interface import Edge, KnowledgeGraph
from curation.knowledge.verbalise import placed, predicate
from curation.knowledge.visual_gate import Scene, facts, read_scene, scene_refused, support_for
from curation.knowledge.word_sense import Lexicon, lexicon_of
from curation.models.encoder import EncoderSpec, open_encoder
from data_manifests.errors import InputError, nearest
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed

SPEAKABLE = (
    "IsA", "HasA", "MadeOf", "HasProperty", "CapableOf", "UsedFor", "AtLocation", "ReceivesAction", "PartOf",
    "InstanceOf",
)  # fmt: skip
"""Relations that have a template, in the order in which equal facts are preferred."""

_SCORED_PER_CAPTION = 8
"""Most texts of a caption that an encoder looks at."""
_NAMED_TAILS = 8


class _Candidate(NamedTuple):
    """A fact in a caption that no rule is against."""

    caption: int
    mention: int
    edge: Edge
    text: str
    support: int


@dataclass
class _Refusals:
    """What the gate refused: one record for all facts of a concept, relation and reason, in order of appearance."""

    first: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    tails: dict[tuple[str, str, str], dict[str, None]] = field(default_factory=dict)

    def add(self, reason: str, caption: int, edges: Sequence[Edge], text: Callable[[Edge], str]) -> None:
        """Count facts of one concept and relation; the first of its group lends the group its text."""
        key = (edges[0].head, edges[0].relation, reason)
        if len(self.tails.get(key, ())) >= len(edges) > 1:
            return  # a group of the graph's, the same in every caption
        if key not in self.first:
            said = {"text": text(edges[0]), "caption": caption}
            self.first[key] = said | {"reason": reason, "rule": edges[0].uri}
        self.tails.setdefault(key, {}).update(dict.fromkeys(edge.tail for edge in edges))

    def records(self) -> list[dict[str, Any]]:
        """Return the records, each with the number of facts and the first of their tails."""
        found = []
        for key, record in self.first.items():
            tails = list(self.tails[key])
            shown = "; ".join(tails[:_NAMED_TAILS]) + (" ..." if len(tails) > _NAMED_TAILS else "")
            found.append(record | {"detail": f"{len(tails)} of {key[1]}: {shown}"})
        return found


@dataclass(frozen=True)
class ExpandKnowledge(MapStage):
    """Add to each caption up to `per_caption` texts that tell one more fact, each naming the edge it comes from.

    Provides ``knowledge`` (views: ``{"text", "caption", "kind": "knowledge", "family": relation, "rule": the edge}``),
    ``knowledge_rejected`` (what the gate refused, with the reason) and ``triplets``, the edges used.

    A fact passes the gate when its relation holds of such a thing (people get neutral roles and nothing else), its
    tail is short, can be seen, and is no opinion; when no caption of the image says otherwise; and when either every
    instance has it (IsA, visible parts, the one material) or another caption of the image says it too. What the
    caption says already is not said again. With a `model`, the picture must not fit the longer text worse than the
    caption by more than `margin` in cosine similarity.

    Refusals are one record per concept, relation and reason, with the text of the first fact and the number of all.

    Attributes:
        graph: What is known; the one that linked the concepts.
        relations: Which relations may speak, of `SPEAKABLE`.
        per_caption: Most texts per caption.
        model: Looks at picture and text; none leaves the rules alone.
        margin: How much worse than the caption a text may fit, in cosine similarity, 0 or more.

    Raises:
        InputError: an unknown relation, `per_caption` below 1, `margin` below 0.

    Source: Pan et al. 2022 (Knowledge-CLIP), NeurIPS; facts of Speer et al. 2017 (ConceptNet 5.5), arXiv 1612.03975.
    Differs: knowledge is kept as data, as texts and triplets, where the paper trains a fusion encoder over triplets;
        every fact passes a gate, because texts without visual evidence ruin retrieval (Doveh et al. 2023, DAC,
        arXiv 2305.19595: image-to-text recall 60 to 37 with ungrounded descriptions).
    """

    name: ClassVar[str] = "expand_knowledge"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses", "concepts")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("knowledge", kind="json", publish="sample", role="views"),
        Field("knowledge_rejected", kind="json", publish="store", role="rejects"),
        Field("triplets", kind="json", publish="sidecar"),
    )
    source: ClassVar[str] = "Pan et al. 2022, NeurIPS (Knowledge-CLIP); Speer et al. 2017, arXiv 1612.03975"

    graph: KnowledgeGraph
    relations: tuple[str, ...] = SPEAKABLE
    per_caption: int = 2
    model: EncoderSpec | None = None
    margin: float = 0.02

    def __post_init__(self) -> None:
        for relation in self.relations:
            if relation not in SPEAKABLE:
                raise InputError(
                    f"expand_knowledge: relation {relation!r} has no template",
                    allowed=", ".join(SPEAKABLE),
                    fix=nearest(relation, SPEAKABLE) or "leave it out",
                )
        if self.per_caption < 1:
            raise InputError(
                f"expand_knowledge: per_caption is {self.per_caption}", allowed="1 or more", fix="raise it"
            )
        if not self.margin >= 0:
            raise InputError(f"expand_knowledge: margin is {self.margin}", allowed="0 or more", fix="raise it")

    def required_fields(self) -> tuple[str, ...]:
        """Return what it reads: the picture too when a model looks at it."""
        return (*self.requires, "image") if self.model is not None else self.requires

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Expand all captions, with all concepts looked up together."""
        lexicon = lexicon_of(self.graph)
        lexicon.prepare(
            link["concept"]
            for sample in samples
            for of_caption in sample["concepts"]
            for link in of_caption
            if link["pos"] == "NOUN"
        )
        return [self._one(sample, lexicon) for sample in samples]

    def _one(self, sample: Sample, lexicon: Lexicon) -> dict[str, Any]:
        refusals = _Refusals()
        scene = read_scene(sample["parses"], sample["concepts"])
        candidates = [
            candidate
            for caption in range(len(sample.captions))
            for candidate in self._of_caption(sample, caption, scene, lexicon, refusals)
        ]
        if self.model is not None:
            candidates = self._seen(sample, candidates, refusals)
        taken = {" ".join(caption.casefold().split()) for caption in sample.captions}
        views, triplets = [], []
        for caption in range(len(sample.captions)):
            for one in self._chosen(candidates, caption, taken):
                view = {"text": one.text, "caption": caption, "kind": "knowledge"}
                views.append(view | {"family": one.edge.relation, "rule": one.edge.uri})
                triplets.append(_triplet(one.edge, caption))
        return {"knowledge": views, "knowledge_rejected": refusals.records(), "triplets": triplets}

    def _of_caption(
        self, sample: Sample, caption: int, scene: Scene, lexicon: Lexicon, refusals: _Refusals
    ) -> list[_Candidate]:
        """Return the facts that may be told in a caption, best first."""
        found: list[_Candidate] = []
        told: set[Edge] = set()
        for mention, link in enumerate(sample["concepts"][caption]):
            if link["pos"] != "NOUN":
                continue

            def text(edge: Edge, link: Mapping[str, Any] = link) -> str:
                said = predicate(edge, link["plural"])
                who = link["sense"] == "person"
                return placed(sample.captions[caption], sample["parses"][caption], link, said, who) if said else ""

            def named(edge: Edge, text: Callable[[Edge], str] = text) -> str:
                return text(edge) or f"{edge.head} {edge.relation} {edge.tail}"

            for reason, edges in facts(lexicon, link, self.relations):
                if reason:
                    refusals.add(reason, caption, edges, named)
                    continue
                for edge in edges:
                    if edge in told:
                        continue
                    told.add(edge)
                    support = support_for(edge, scene, caption, plural=link["plural"])
                    against = scene_refused(edge, scene, caption, support)
                    said = "" if against else text(edge)
                    if said:
                        found.append(_Candidate(caption, mention, edge, said, support))
                    else:
                        refusals.add(against or "no_template", caption, [edge], named)
        found.sort(key=lambda one: _rank(one, sample.captions[caption]))
        return found[:_SCORED_PER_CAPTION]

    def _chosen(self, candidates: Iterable[_Candidate], caption: int, taken: set[str]) -> list[_Candidate]:
        """Return up to `per_caption` of a caption's facts: one for each thing before a second for any."""
        left = [one for one in candidates if one.caption == caption]
        chosen: list[_Candidate] = []
        for fresh in (True, False):
            for one in left:
                plain = " ".join(one.text.casefold().split())
                told = {other.mention for other in chosen}
                if len(chosen) < self.per_caption and plain not in taken and not (fresh and one.mention in told):
                    taken.add(plain)
                    chosen.append(one)
        return chosen

    def _seen(self, sample: Sample, candidates: list[_Candidate], refusals: _Refusals) -> list[_Candidate]:
        """Return the candidates that fit the picture about as well as their captions."""
        if self.model is None or not candidates:
            return candidates
        texts = (*sample.captions, *(one.text for one in candidates))
        image, embedded = open_encoder(self.model).embed_one(dataclasses.replace(sample, captions=texts))
        scores = embedded.astype("float64") @ image.astype("float64")
        kept = []
        for one, score in zip(candidates, scores[len(sample.captions) :], strict=True):
            if score >= scores[one.caption] - self.margin:
                kept.append(one)
            else:
                texts_of = {one.edge: one.text}
                refusals.add("low_score", one.caption, [one.edge], texts_of.__getitem__)
        return kept


def _rank(one: _Candidate, caption: str) -> tuple[float, int, bool, int]:
    """Return what sorts better facts first: weight, support, things before people, then an order of the caption's own.

    The last makes different captions tell different facts of equal worth: otherwise every dog has ears.
    """
    edge = one.edge
    person = edge.tail in ("person", "adult", "child")
    return (-edge.weight, -one.support, person, draw_seed("expand_knowledge", caption, edge.uri))


def _triplet(edge: Edge, caption: int) -> dict[str, Any]:
    """Return an edge as a record for objectives over triplets."""
    return {
        "head": edge.head,
        "relation": edge.relation,
        "tail": edge.tail,
        "caption": caption,
        "weight": edge.weight,
        "license": edge.license,
        "dataset": edge.dataset,
    }
