"""Contrast a caption with other facts of a knowledge graph about its objects, or reverse a known relation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field
from curation.knowledge.interface import KnowledgeGraph
from curation.knowledge.relations import one_way_edges, siblings
from curation.knowledge.word_sense import root_class
from curation.negatives.graph_replacements import RELATIONS, GraphFacts, knowledge_slots
from curation.negatives.slots import SlotStage, dictionary_forms
from data_manifests.sample import Sample

_FROM_GRAPH = 16
"""Siblings that are looked up for a concept; many are not single words."""


@dataclass(frozen=True)
class ContrastKnowledge(SlotStage):
    """Make up to `per_caption` negatives per caption that keep an object and contrast a known fact about it.

    Provides ``contrast_negatives``, a list of negative records whose ``rule`` is the URI of the edge. ``span_class`` is

    * ``action``: the caption's verb is replaced by something that the object, or a sibling, is capable of or used for
      ("A dog swims" for "A dog runs": dog CapableOf swim);
    * ``attribute``: another property of the object that excludes the caption's ("a red apple" for "a green apple");
    * ``reversed``: two people or animals that graph and caption relate in one direction only are exchanged; reversed
      relations of objects ("a park in a dog") sound odd.

    What a caption of the image already says is never used. Only visible actions and properties are.

    Attributes:
        graph: The knowledge graph that linked the concepts.
        per_caption: Most negatives per caption, 1 or more.
        kin: Siblings of an object whose facts are used for it, 0 or more.
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.

    Raises:
        InputError: `per_caption` is below 1, or `kin` below 0.

    Source: Pan et al. 2022 (Knowledge-CLIP), NeurIPS; negatives from facts as in KE-NegCLIP: same object, other action or
        attribute; facts of Speer et al. 2017 (ConceptNet 5.5), arXiv 1612.03975.
    Differs: the fact must be visible, fit the verb's frame and exclude the caption; only people and animals are
        exchanged.
    """

    name: ClassVar[str] = "contrast_knowledge"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = (*SlotStage.requires, "concepts")
    provides: ClassVar[tuple[Field, ...]] = (Field("contrast_negatives", publish="sample", role="negatives"),)
    source: ClassVar[str] = "Pan et al. 2022, NeurIPS (Knowledge-CLIP); Speer et al. 2017, arXiv 1612.03975"
    knows_only_english: ClassVar[bool] = True
    operation: ClassVar[str] = "contrast"

    graph: KnowledgeGraph
    kin: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(kin=0)

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Contrast every caption, with all concepts looked up together."""
        facts = self._facts(samples)
        results: list[dict[str, Any] | Drop] = []
        for sample in samples:
            links = dict(zip(sample.captions, sample["concepts"], strict=True))
            find_slots = partial(knowledge_slots, links, facts, dictionary_forms(sample.captions))
            results.append({"contrast_negatives": self.negatives(sample, find_slots)})
        return results

    def _facts(self, samples: Sequence[Sample]) -> GraphFacts:
        concepts = sorted(
            {
                link["concept"]
                for sample in samples
                for of_caption in sample["concepts"]
                for link in of_caption
                if link["pos"] == "NOUN" and link["sense"]
            }
        )
        related = siblings(self.graph, concepts, limit=_FROM_GRAPH) if self.kin else {}
        kin = {
            concept: [
                item.words for item in items if item.words.isalpha() and root_class(item.words) == root_class(concept)
            ][: self.kin]
            for concept, items in related.items()
        }
        wanted = sorted({*concepts, *(words for of_concept in kin.values() for words in of_concept)})
        one_way = one_way_edges(self.graph, concepts)
        reversible = {(edge.head, edge.tail): edge for edges in one_way.values() for edge in reversed(edges)}
        return GraphFacts(self.graph.edges_from(wanted, RELATIONS), kin, reversible)
