"""Graph queries for hard negatives: siblings, opposites, and facts that hold in one direction only.

Every query takes many concepts at once, returns the edges behind each result, and has an order that depends on the graph
alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from curation.knowledge.interface import Edge, KnowledgeGraph

SYMMETRIC = frozenset(
    {"Antonym", "DistinctFrom", "EtymologicallyRelatedTo", "LocatedNear", "RelatedTo", "SimilarTo", "Synonym"}
)
"""Symmetric relations (ConceptNet 5.7's list)."""
MAX_FAMILY = 1000
"""Hypernyms with more members are skipped: two of their members have little in common."""
_DEPTH = 3
"""Steps of IsA that are followed to find hypernyms and hyponyms."""
_SAME_MEANING = ("SimilarTo", "Synonym")
_IS_A = ("IsA",)


@dataclass(frozen=True, slots=True)
class Related:
    """A concept related to another.

    Attributes:
        words: The concept.
        edges: The edges behind it: one, or for siblings the two that lead to the hypernym.
    """

    words: str
    edges: tuple[Edge, ...]


def synonyms(graph: KnowledgeGraph, concepts: Sequence[str]) -> dict[str, list[Related]]:
    """Return synonyms, by concept: heaviest edge first, then by name; edges in both directions count."""
    return _both_ways(graph, concepts, _SAME_MEANING)


def antonyms(graph: KnowledgeGraph, concepts: Sequence[str]) -> dict[str, list[Related]]:
    """Return opposites, by concept: heaviest edge first, then by name; words that also count as synonyms left out."""
    same = _words(synonyms(graph, concepts))
    kept = {
        concept: [item for item in items if item.words not in same.get(concept, ())]
        for concept, items in _both_ways(graph, concepts, ("Antonym",)).items()
    }
    return {concept: items for concept, items in kept.items() if items}


def siblings(graph: KnowledgeGraph, concepts: Sequence[str], *, limit: int = 64) -> dict[str, list[Related]]:
    """Return co-hyponyms: other concepts of the same kind, which a photograph of the first seldom shows as well.

    Left out are synonyms, hypernyms and hyponyms of the concept (a poodle is not a wrong dog).

    Args:
        graph: The graph.
        concepts: Words as in `Edge.head`.
        limit: Most siblings of a concept: heaviest first (by the lighter of the two edges), then those of the smaller
            family, then by name.
    """
    concepts = list(dict.fromkeys(concepts))
    upward = graph.edges_from(concepts, _IS_A)
    hypernyms = sorted({edge.tail for edges in upward.values() for edge in edges})
    families = {kind: edges for kind, edges in graph.edges_to(hypernyms, _IS_A).items() if len(edges) <= MAX_FAMILY}
    members = sorted({edge.head for edges in families.values() for edge in edges})
    above = ancestors(graph, [*concepts, *members], _DEPTH)
    same = _words(synonyms(graph, concepts))
    found = {}
    for words in concepts:
        excluded = {words} | same.get(words, set()) | above.get(words, set())
        best: dict[str, tuple[tuple[float, int, str], Related]] = {}
        for up in upward.get(words, []):
            for down in families.get(up.tail, []):
                other = down.head
                # One family member may be two senses of the word itself, or named after it by another sense.
                if other in excluded or words in above.get(other, set()):
                    continue
                rank = (-min(up.weight, down.weight), len(families[up.tail]), up.tail)
                if other not in best or rank < best[other][0]:
                    best[other] = rank, Related(other, (up, down))
        if best:
            ranked = sorted(best.items(), key=lambda item: (item[1][0][:2], item[0]))
            found[words] = [related for _, (_, related) in ranked[:limit]]
    return found


def one_way_edges(graph: KnowledgeGraph, concepts: Sequence[str]) -> dict[str, list[Edge]]:
    """Return the concepts' facts that are false when reversed (``wheel PartOf car``), in the order of `edges_from`.

    Left out: symmetric relations, facts of a concept about itself, and those whose reverse the graph asserts.
    """
    asserted = {(edge.head, edge.relation, edge.tail) for edges in graph.edges_to(concepts).values() for edge in edges}
    found = {
        concept: [
            edge
            for edge in edges
            if edge.relation not in SYMMETRIC
            and edge.head != edge.tail
            and (edge.tail, edge.relation, edge.head) not in asserted
        ]
        for concept, edges in graph.edges_from(concepts).items()
    }
    return {concept: edges for concept, edges in found.items() if edges}


def _both_ways(graph: KnowledgeGraph, concepts: Sequence[str], relations: Sequence[str]) -> dict[str, list[Related]]:
    concepts = list(dict.fromkeys(concepts))
    outward, inward = graph.edges_from(concepts, relations), graph.edges_to(concepts, relations)
    found = {}
    for words in concepts:
        ends = [(edge.tail, edge) for edge in outward.get(words, [])]
        ends += [(edge.head, edge) for edge in inward.get(words, [])]
        best: dict[str, Edge] = {}
        for other, edge in sorted(ends, key=lambda end: (-end[1].weight, end[0], end[1])):
            if other != words:
                best.setdefault(other, edge)
        if best:
            found[words] = [Related(other, (edge,)) for other, edge in best.items()]
    return found


def ancestors(graph: KnowledgeGraph, concepts: Iterable[str], depth: int) -> dict[str, set[str]]:
    """Return the hypernyms of each concept up to `depth` steps of IsA, one query for each step."""
    parents: dict[str, list[str]] = {}
    concepts = sorted(set(concepts))
    frontier = concepts
    for _ in range(depth):
        edges_of = graph.edges_from(frontier, _IS_A)
        parents |= {words: [edge.tail for edge in edges] for words, edges in edges_of.items()}
        frontier = sorted({edge.tail for edges in edges_of.values() for edge in edges} - parents.keys())
    found = {}
    for words in concepts:
        above: set[str] = set()
        level = {words}
        for _ in range(depth):
            level = {parent for word in level for parent in parents.get(word, ())} - above
            above |= level
        found[words] = above
    return found


def _words(related: Mapping[str, list[Related]]) -> dict[str, set[str]]:
    return {words: {item.words for item in items} for words, items in related.items()}
