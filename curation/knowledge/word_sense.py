"""Which sense of a concept a caption means, so that a baseball bat does not fly: classes from a graph."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from curation.knowledge.homonyms import homonyms
from curation.knowledge.interface import Edge, KnowledgeGraph
from curation.text.wordlists import word_map, word_sets

_SETS = word_sets("word_sense")

RELATIONS = (
    "IsA", "InstanceOf", "NotIsA", "HasA", "PartOf", "MadeOf", "HasProperty", "UsedFor", "CapableOf", "AtLocation",
    "ReceivesAction", "Antonym",
)  # fmt: skip
"""Relations that are read. Others (Desires, Causes ...) are not visible in a photograph."""

_CLASS_OF_ROOT = word_map("sense_classes")

_TOGETHER = (
    frozenset(("thing", "place", "substance")),
    frozenset(("plant", "food", "substance")),
    frozenset(("plant", "place")),
)
"""Classes that one and the same sense may claim: a boat is a vehicle and a place, an apple a plant and food."""

_WORDNET = {
    "animal": "animal", "person": "person", "plant": "plant", "food": "food", "artifact": "thing", "object": "place",
    "location": "place", "substance": "substance", "body": "body", "act": "event", "event": "event",
}  # fmt: skip
"""WordNet's lexicographer files, as ConceptNet marks senses by (``n/wn/animal``)."""

_SAYS_NOTHING = _SETS["common_words"]
"""Words of nearly every caption: they speak for no sense."""

_LIVING = frozenset(("animal", "person", "plant", "food"))
_DOMINANT = 0.7
"""Share of the typed IsA edges from which a class counts as the only one: single edges are often mistakes."""
_OFF_SENSE = 2
_MEMO = 20_000


def root_class(words: str) -> str:
    """Return the class that the words of a phrase name (``four legged animal``), or an empty string."""
    if words in _CLASS_OF_ROOT:
        return _CLASS_OF_ROOT[words]
    return _CLASS_OF_ROOT.get(head_word(words), "")


@functools.lru_cache(maxsize=1 << 16)
def head_word(words: str) -> str:
    """Return the head noun of a phrase: ``knot`` of ``knot of ribbon``, ``sport`` of ``form of sport``."""
    parts = words.split()
    if not parts or parts[0] in ("not", "often", "usually", "sometimes", "in", "both", "than") or "than" in parts:
        return ""
    if len(parts) > 2 and parts[0] in _SETS["kind_nouns"] and parts[1] == "of":
        return head_word(" ".join(parts[2:]))
    stop = next((place for place, word in enumerate(parts) if place and word in _SETS["phrase_ends"]), len(parts))
    return parts[stop - 1]


def sense_class(sense: str) -> str:
    """Return the class of a source's sense mark, or an empty string."""
    return _WORDNET.get(sense.rpartition("/wn/")[2], "") if "/wn/" in sense else ""


def fit_together(one: str, other: str) -> bool:
    """Return whether one sense of a word can belong to both classes."""
    return one == other or any(one in group and other in group for group in _TOGETHER)


@dataclass(frozen=True, slots=True)
class SenseChoice:
    """A sense and the evidence for it.

    Attributes:
        sense: A class, or empty: the word is ambiguous here, or the graph does not say what it is.
        evidence: The words that decided, sorted; empty where nothing had to be decided.
        known: False where the graph does not say what the concept is.
    """

    sense: str
    evidence: tuple[str, ...] = ()
    known: bool = True


@dataclass
class Lexicon:
    """A graph's concepts with their classes, looked up in batches and cached.

    Its results for a concept depend on the graph alone, never on earlier calls.
    """

    graph: KnowledgeGraph
    sorted_facts: dict[Any, list[tuple[str, list[Edge]]]] = field(default_factory=dict)
    _edges: dict[str, list[Edge]] = field(default_factory=dict)
    _parents: dict[str, list[str]] = field(default_factory=dict)
    _children: dict[str, int] = field(default_factory=dict)

    def prepare(self, concepts: Iterable[str]) -> None:
        """Look up concepts, their kinds and the kinds of these, in a few queries."""
        if max(len(self._edges), len(self._parents)) > _MEMO:
            for memo in (self.sorted_facts, self._edges, self._parents, self._children):
                memo.clear()
        new = sorted({concept for concept in concepts if concept not in self._edges})
        found = self.graph.edges_from(new, RELATIONS) if new else {}
        for concept in new:
            self._edges[concept] = [edge for edge in found.get(concept, []) if edge.head_sense[:1] in ("", "n")]
        level = [
            edge.tail for concept in new for edge in self._edges[concept] if edge.relation in ("IsA", "InstanceOf")
        ]
        self._count_children(level)
        for _ in range(2):
            level = self._look_up_parents(level)

    def _look_up_parents(self, words: Iterable[str]) -> list[str]:
        new = sorted({word for word in words if word not in self._parents and not root_class(word)})
        found = self.graph.edges_from(new, ("IsA", "InstanceOf")) if new else {}
        for word in new:
            self._parents[word] = [edge.tail for edge in found.get(word, [])[:30]]
        return [parent for word in new for parent in self._parents[word]]

    def _count_children(self, words: Iterable[str]) -> None:
        new = sorted(set(words) - self._children.keys())
        found = self.graph.edges_to(new, ("IsA", "InstanceOf")) if new else {}
        for word in new:
            self._children[word] = len({edge.head for edge in found.get(word, ())})

    def edges(self, concept: str) -> Sequence[Edge]:
        """Return a prepared concept's edges as a noun, heaviest first."""
        return self._edges.get(concept, ())

    def members(self, words: str) -> int:
        """Return how many concepts the graph says are of this kind."""
        return self._children.get(words, 0)

    def class_of(self, words: str, sense: str = "", depth: int = 2) -> str:
        """Return the class of a phrase: by its sense mark, its own words, or the majority of its kinds in the graph."""
        own = sense_class(sense) or root_class(words)
        if own or not depth:
            return own
        votes = Counter(self.class_of(parent, "", depth - 1) for parent in self._parents.get(words, ()))
        votes.pop("", None)
        (first, count), *others = votes.most_common(2) or [("", 0)]
        return "" if others and others[0][1] == count else first

    def votes(self, concept: str) -> dict[str, float]:
        """Return the weight of a concept's kinds in each class."""
        votes: dict[str, float] = {}
        for edge in self.edges(concept):
            if edge.relation in ("IsA", "InstanceOf"):
                name = sense_class(edge.head_sense) or self.class_of(edge.tail, edge.tail_sense)
                if name:
                    votes[name] = votes.get(name, 0.0) + min(edge.weight, 3.0)
        return votes

    def senses(self, concept: str) -> dict[str, frozenset[str]]:
        """Return the classes between which a concept is ambiguous, each with the words near it in the graph."""
        votes = self.votes(concept)
        ours = homonyms().get(concept)
        if ours:
            return {name: self._near(concept, name) for name in ours.senses}
        own = _CLASS_OF_ROOT.get(concept) or _of_compound(root_class(concept), votes)
        if own:
            return {own: frozenset()}
        total = sum(votes.values())
        ranked = sorted(votes, key=lambda name: (-votes[name], name))
        if not ranked:
            return {}
        first = ranked[0]
        others = [name for name in ranked[1:] if not fit_together(first, name)]
        clash = sum(votes[name] for name in others)
        if not others or (total - clash) / total >= _DOMINANT:
            return {first: frozenset()}
        return {name: self._near(concept, name) for name in (first, *others)}

    def _near(self, concept: str, name: str) -> frozenset[str]:
        words: set[str] = set()
        for edge in self.edges(concept):
            if self.belongs(edge, name):
                words.update(edge.tail.split())
        return frozenset(words - _SAYS_NOTHING - {concept})

    def belongs(self, edge: Edge, name: str) -> bool:
        """Return whether an edge of an ambiguous concept can only be about its sense of this class."""
        marked = sense_class(edge.head_sense)
        if marked:
            return marked == name
        if edge.relation in ("IsA", "InstanceOf"):
            found = self.class_of(edge.tail, edge.tail_sense)
            return bool(found) and fit_together(found, name)
        if edge.relation == "UsedFor":
            return name not in ("animal", "person", "event")
        return edge.relation == "CapableOf" and name in ("animal", "person")

    def choose(self, concept: str, context: AbstractSet[str], countable: bool, imitation: bool) -> SenseChoice:
        """Return the sense that an image's captions support.

        Args:
            concept: A prepared concept.
            context: Content words of all the captions.
            countable: It has an article or number: a thing rather than an activity.
            imitation: A toy, a statue ...: a thing, whatever it looks like.
        """
        senses = self.senses(concept)
        if not senses:
            return SenseChoice("", known=False)
        if imitation and not _LIVING.isdisjoint(senses):
            return SenseChoice("thing")
        ours = homonyms().get(concept)
        if len(senses) == 1 and not ours:
            return SenseChoice(next(iter(senses)))
        around = set(context) - {concept}
        spoken: dict[str, set[str]] = {}
        scores: Counter[str] = Counter()
        for name in senses:
            listed = (ours.senses[name] & around) if ours else frozenset[str]()
            near = (senses[name] - frozenset().union(*(senses[other] for other in senses if other != name))) & around
            spoken[name] = {*listed, *near}
            scores[name] = _OFF_SENSE * len(listed) + len(near - listed)
        if {"thing", "event"} <= set(senses):
            scores["thing" if countable else "event"] += 1
        (first, best), *others = scores.most_common(2)
        if best == 0 or (others and others[0][1] == best):
            return SenseChoice(ours.assumed if ours else "")
        return SenseChoice(first, tuple(sorted(spoken[first])))


def _of_compound(named: str, votes: Mapping[str, float]) -> str:
    """Return the class of a compound by its last word: a little girl is a person, but a hot dog is what the votes say."""
    return named if named == "person" or named in votes else ""


_LEXICONS: dict[str, Lexicon] = {}


def lexicon_of(graph: KnowledgeGraph) -> Lexicon:
    """Return the lexicon of a graph, one per process and content hash; the last two are cached."""
    key = graph.content_hash()
    if key not in _LEXICONS:
        while len(_LEXICONS) >= 2:
            _LEXICONS.pop(next(iter(_LEXICONS)))
        _LEXICONS[key] = Lexicon(graph)
    return _LEXICONS[key]
