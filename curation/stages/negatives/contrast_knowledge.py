"""Say of a caption's objects something else that a knowledge graph knows of them, or turn a known relation round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.knowledge.interface import KnowledgeGraph
from curation.knowledge.relations import reversed_edges, siblings
from curation.knowledge.word_sense import root_class
from curation.negatives.graph_replacements import RELATIONS, Facts, knowledge_slots
from curation.negatives.records import Maker, Slot, check_per_caption
from curation.text.caption_facts import plain_words
from curation.text.lexicon import noun_lemma, verb_lemma
from curation.text.phrases import Caption
from data_manifests.errors import InputError
from data_manifests.sample import Sample

_FROM_GRAPH = 16
"""Siblings of a concept that are asked for; many are no single words."""


@dataclass(frozen=True)
class ContrastKnowledge(MapStage):
    """Make up to `per_caption` negatives per caption that keep the object and contrast what is known of it.

    Provides ``contrast_negatives``, a list of negative records whose ``rule`` is the address of the edge. ``span_class``
    says how:

    * ``action``: what the object, or another thing of its kind, is capable of, or is used for, in place of the caption's
      verb ("A dog swims" for "A dog runs": dog CapableOf swim);
    * ``attribute``: another property of it that excludes the caption's ("a red apple" for "a green apple");
    * ``reversed``: two people or animals that the graph relates in one direction only, and the caption too, change
      places; turned round, what is said of things ("a park in a dog") sounds odd.

    What any caption of the image says already is never used. Only deeds and properties that one can see are.

    Attributes:
        graph: What is known; the one that linked the concepts.
        per_caption: Most negatives per caption, 1 or more.
        kin: Siblings of an object whose facts may stand in for its own, 0 or more.
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.

    Raises:
        InputError: `per_caption` is below 1, or `kin` below 0.

    Source: Pan et al. 2022 (Knowledge-CLIP), NeurIPS; negatives from facts as in KE-NegCLIP: same object, other action or
        attribute; facts of Speer et al. 2017 (ConceptNet 5.5), arXiv 1612.03975.
    Differs: the fact must be visible, fit the verb's frame and exclude what is said; only people and animals change
        places.
    """

    name: ClassVar[str] = "contrast_knowledge"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses", "concepts")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("contrast_negatives", kind="json", publish="sample", role="negatives"),
    )
    source: ClassVar[str] = "Pan et al. 2022, NeurIPS (Knowledge-CLIP); Speer et al. 2017, arXiv 1612.03975"

    graph: KnowledgeGraph
    per_caption: int = 2
    kin: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_per_caption(self.name, self.per_caption)
        if self.kin < 0:
            raise InputError(f"{self.name}: kin is {self.kin}", allowed="0 or more", fix="0 asks for no siblings")

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Contrast every caption, with all concepts looked up together."""
        facts = self._facts(samples)
        maker = Maker(self.name, "contrast", self.seed, self.per_caption)
        return [{"contrast_negatives": _of_sample(maker, sample, facts)} for sample in samples]

    def _facts(self, samples: Sequence[Sample]) -> Facts:
        concepts = sorted(
            {
                link["concept"]
                for sample in samples
                for of_caption in sample["concepts"]
                for link in of_caption
                if link["pos"] == "NOUN" and link["sense"]
            }
        )
        found = siblings(self.graph, concepts, limit=_FROM_GRAPH) if self.kin else {}
        kin = {
            concept: [
                item.words for item in items if item.words.isalpha() and root_class(item.words) == root_class(concept)
            ][: self.kin]
            for concept, items in found.items()
        }
        asked = sorted({*concepts, *(words for of_concept in kin.values() for words in of_concept)})
        turned = reversed_edges(self.graph, concepts)
        reversible = {
            (item.edge.head, item.edge.tail): item.edge for items in turned.values() for item in reversed(items)
        }
        return Facts(self.graph.edges_from(asked, RELATIONS), kin, reversible)


def _of_sample(maker: Maker, sample: Sample, facts: Facts) -> list[dict[str, Any]]:
    links = dict(zip(sample.captions, sample["concepts"], strict=True))
    told = {
        form
        for text in sample.captions
        for word in plain_words(text)
        for form in (word, noun_lemma(word), verb_lemma(word))
    }

    def slots(caption: Caption) -> list[Slot]:
        return knowledge_slots(caption, links[caption.text], facts, told)

    return maker.records(sample, slots)
