"""Protocol of a knowledge graph: concepts and edges, each edge with its source and licence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One assertion.

    Attributes:
        head: A concept as words: lower case, spaces (``hot dog``).
        relation: ConceptNet's name (``IsA``, ``UsedFor``) or a predicate of another source as written.
        tail: Another concept.
        weight: The source's confidence; 1.0 where it states none.
        dataset: Its source (``/d/conceptnet/4/en``).
        license: Its licence as the source states it (``cc:by-sa/4.0``).
        head_sense: The sense of the head as the source marks it (``n``, ``n/wn/animal``), or empty.
        tail_sense: The sense of the tail.
    """

    head: str
    relation: str
    tail: str
    weight: float = 1.0
    dataset: str = ""
    license: str = ""
    head_sense: str = ""
    tail_sense: str = ""

    @property
    def uri(self) -> str:
        """The assertion's URI in ConceptNet's form; the rule of texts made from it."""

        def concept(words: str, sense: str) -> str:
            return f"/c/en/{words.replace(' ', '_')}/{sense + '/' if sense else ''}"

        return f"/a/[/r/{self.relation}/,{concept(self.head, self.head_sense)},{concept(self.tail, self.tail_sense)}]"


@runtime_checkable
class KnowledgeGraph(Protocol):
    """A graph: a `Resource` that looks up many concepts in one query."""

    def content_hash(self) -> str:
        """Hash of all edges (hex); the same for the same edges, whatever order they were built from."""

    def describe(self) -> str:
        """Name for people, no paths."""

    def edges_from(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
        """Return the edges whose head is one of the concepts, heaviest first, then by relation and tail.

        Args:
            concepts: Words in the form of `Edge.head`; unknown ones are left out of the result.
            relations: Only these; all without.
        """

    def edges_to(self, concepts: Sequence[str], relations: Sequence[str] = ()) -> dict[str, list[Edge]]:
        """Return the edges whose tail is one of the concepts, in the same order; by tail."""

    def known(self, concepts: Sequence[str]) -> set[str]:
        """Return which of the concepts the graph holds, as head or tail."""
