"""What a graph gives for hard negatives: words of the same kind, opposites, and facts turned round.

Every answer names the edges it rests on, takes many concepts in one question, and comes in an order that depends on
the graph alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from curation.knowledge.interface import Edge, KnowledgeGraph

SYMMETRIC = frozenset(
    {"Antonym", "DistinctFrom", "EtymologicallyRelatedTo", "LocatedNear", "RelatedTo", "SimilarTo", "Synonym"}
)
"""Relations that say the same both ways (ConceptNet 5.7's list)."""
_SAME_MEANING = ("SimilarTo", "Synonym")
_IS_A = ("IsA",)


@dataclass(frozen=True, slots=True)
class Related:
    """A concept and how it came up.

    Attributes:
        words: The concept.
        edges: What it rests on: one edge, or for siblings the two that lead to the hypernym.
    """

    words: str
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Reversal:
    """A fact turned round, which the graph does not assert: ``car PartOf wheel``.

    Attributes:
        head: The fact's tail.
        relation: Its relation.
        tail: Its head.
        edge: The fact.
    """

    head: str
    relation: str
    tail: str
    edge: Edge


def synonyms(graph: KnowledgeGraph, concepts: Sequence[str]) -> dict[str, list[Related]]:
    """Return words of the same meaning, by concept: heaviest edge first, then by name.

    A graph may state a synonym one way only; both directions are read.
    """
    return _both_ways(graph, concepts, _SAME_MEANING)


def antonyms(graph: KnowledgeGraph, concepts: Sequence[str]) -> dict[str, list[Related]]:
    """Return opposites, by concept: heaviest edge first, then by name; words that also count as synonyms left out."""
    same = _words(synonyms(graph, concepts))
    return _without(_both_ways(graph, concepts, ("Antonym",)), same)


def siblings(
    graph: KnowledgeGraph,
    concepts: Sequence[str],
    *,
    limit: int = 64,
    max_family: int = 1000,
    depth: int = 3,
) -> dict[str, list[Related]]:
    """Return co-hyponyms: other things of the same kind, which a photograph of the one seldom shows as well.

    Left out: the concept's synonyms, what it is a kind of, and what is a kind of it (a poodle is no wrong dog).

    Args:
        graph: Where from.
        concepts: Words as in `Edge.head`.
        limit: At most so many for a concept: heaviest first (by the lighter of the two edges), then those of the
            smaller family, then by name.
        max_family: Kinds with more members than this are passed over: two things are hardly alike.
        depth: How many steps of IsA are followed to find ancestors and descendants.
    """
    asked = list(dict.fromkeys(concepts))
    upward = graph.edges_from(asked, _IS_A)
    hypernyms = sorted({edge.tail for edges in upward.values() for edge in edges})
    families = {kind: edges for kind, edges in graph.edges_to(hypernyms, _IS_A).items() if len(edges) <= max_family}
    members = sorted({edge.head for edges in families.values() for edge in edges})
    above = _ancestors(graph, [*asked, *members], depth)
    same = _words(synonyms(graph, asked))
    found = {}
    for words in asked:
        out = {words} | same.get(words, set()) | above.get(words, set())
        best: dict[str, tuple[tuple[float, int, str], Related]] = {}
        for up in upward.get(words, []):
            for down in families.get(up.tail, []):
                other = down.head
                # One family member may be two senses of the word itself, or named after it by another sense.
                if other in out or words in above.get(other, set()):
                    continue
                rank = (-min(up.weight, down.weight), len(families[up.tail]), up.tail)
                if other not in best or rank < best[other][0]:
                    best[other] = rank, Related(other, (up, down))
        if best:
            ranked = sorted(best.items(), key=lambda item: (item[1][0][:2], item[0]))
            found[words] = [related for _, (_, related) in ranked[:limit]]
    return found


def reversed_edges(
    graph: KnowledgeGraph, concepts: Sequence[str], relations: Sequence[str] = ()
) -> dict[str, list[Reversal]]:
    """Return the concept's facts turned round, in the order of `KnowledgeGraph.edges_from`.

    Left out: relations that hold both ways, facts of a thing about itself, and those whose reverse the graph asserts.
    """
    directed = {
        words: [edge for edge in edges if edge.relation not in SYMMETRIC and edge.head != edge.tail]
        for words, edges in graph.edges_from(concepts, relations).items()
    }
    told = {
        (edge.head, edge.relation, edge.tail)
        for edges in graph.edges_to(concepts, relations).values()
        for edge in edges
    }
    found = {
        words: [
            Reversal(edge.tail, edge.relation, edge.head, edge)
            for edge in edges
            if (edge.tail, edge.relation, edge.head) not in told
        ]
        for words, edges in directed.items()
    }
    return {words: reversals for words, reversals in found.items() if reversals}


def _both_ways(graph: KnowledgeGraph, concepts: Sequence[str], relations: Sequence[str]) -> dict[str, list[Related]]:
    asked = list(dict.fromkeys(concepts))
    outward, inward = graph.edges_from(asked, relations), graph.edges_to(asked, relations)
    found = {}
    for words in asked:
        ends = [(edge.tail, edge) for edge in outward.get(words, [])]
        ends += [(edge.head, edge) for edge in inward.get(words, [])]
        best: dict[str, Edge] = {}
        for other, edge in sorted(ends, key=lambda end: (-end[1].weight, end[0], end[1])):
            if other != words:
                best.setdefault(other, edge)
        if best:
            found[words] = [Related(other, (edge,)) for other, edge in best.items()]
    return found


def _ancestors(graph: KnowledgeGraph, concepts: Iterable[str], depth: int) -> dict[str, set[str]]:
    """Return what each concept is a kind of, directly or over others, one question for each step."""
    parents: dict[str, list[str]] = {}
    frontier = sorted(set(concepts))
    everything = list(frontier)
    for _ in range(depth):
        asked = graph.edges_from(frontier, _IS_A)
        parents |= {words: [edge.tail for edge in edges] for words, edges in asked.items()}
        frontier = sorted({parent for edges in asked.values() for parent in (e.tail for e in edges)} - parents.keys())
    found = {}
    for words in everything:
        seen: set[str] = set()
        level = {words}
        for _ in range(depth):
            level = {parent for word in level for parent in parents.get(word, ())} - seen
            seen |= level
        found[words] = seen
    return found


def _words(related: Mapping[str, list[Related]]) -> dict[str, set[str]]:
    return {words: {item.words for item in items} for words, items in related.items()}


def _without(related: dict[str, list[Related]], left_out: Mapping[str, set[str]]) -> dict[str, list[Related]]:
    kept = {
        words: [item for item in items if item.words not in left_out.get(words, set())]
        for words, items in related.items()
    }
    return {words: items for words, items in kept.items() if items}
