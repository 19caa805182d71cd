"""Replace a thing, a quality, an action or a relation of a caption by one that excludes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.knowledge.interface import KnowledgeGraph
from curation.knowledge.relations import antonyms, siblings
from curation.knowledge.word_sense import root_class
from curation.negatives.records import Maker, Slot, check_per_caption
from curation.negatives.replace_nouns import Known, attribute_slots, object_slots
from curation.negatives.replace_verbs import action_slots, relation_slots
from curation.negatives.spatial_opposites import OPPOSITE_WORDS
from curation.text.lexicon import canonical_noun, is_english
from curation.text.phrases import Caption
from curation.text.word_families import Family, attribute_families, is_human, object_families
from data_manifests.errors import InputError
from data_manifests.sample import Sample

_FROM_GRAPH = 6
"""Most words that a graph offers for one."""
_EMPTY: Known = {}
_LISTS = {
    "colour": ("colour", "fur", "hair_colour"),
    "material": ("material",),
    "size": ("size", "height", "length", "width", "depth"),
    "state": (
        "grown",
        "used",
        "wet",
        "clean",
        "shut",
        "full",
        "weather",
        "waves",
        "mood",
        "light",
        "ground",
        "heat",
        "awake",
    ),
    "form": ("pattern", "form"),
    "kind": ("sex_of", "where"),
}
"""List -> families of describing words in it."""
LISTS = (*_LISTS, "object", "action", "relation")
"""The lists that words may be replaced from: TSVLC's five are colour, material, size, state, and action with relation."""


@dataclass(frozen=True)
class ReplaceWords(MapStage):
    """Make up to `per_caption` negatives per caption by replacing one word each, of different types where there are any.

    Provides ``replace_negatives``, a list of negative records. The words come from families of our own: those of
    one family fit the same place and exclude one another; each names for which nouns, prepositions and objects it
    is used, so that the sentence stays a likely one. Number, verb form, case and articles are kept, and the pronouns
    of a person turn with her. With a `graph`, things and qualities that no family knows are replaced by its siblings
    and antonyms, and the record's rule names the edge.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.
        graph: Where siblings and antonyms come from; none leaves our own families alone.
        lists: Only these of `LISTS`; empty for all, the graph's words included.

    Raises:
        InputError: `per_caption` is below 1, or a list unknown.

    Source: Zhang et al. 2023 (CE-CLIP), section 3, arXiv 2306.08832: four types; Doveh et al. 2023 (TSVLC), section 3,
        arXiv 2211.11733: lists of words; Oh et al. 2024 (FSC-CLIP), arXiv 2410.05210: siblings and antonyms of a graph.
    Differs: the lists are our own and are bound to a context, where TSVLC finds words as substrings and replaces them
        by any of the list; no language model fills; synonyms, hypernyms and hyponyms are never used.
    """

    name: ClassVar[str] = "replace_words"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("replace_negatives", kind="json", publish="sample", role="negatives"),
    )
    source: ClassVar[str] = "Zhang et al. 2023, section 3, arXiv 2306.08832; Doveh et al. 2023, arXiv 2211.11733"

    seed: int = 0
    per_caption: int = 4
    graph: KnowledgeGraph | None = None
    lists: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_per_caption(self.name, self.per_caption)
        if not set(self.lists) <= set(LISTS):
            raise InputError(f"{self.name}: lists {self.lists!r}", allowed=", ".join(LISTS), fix="empty for all")

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Replace words in every caption; a graph is asked once for all of them."""
        maker = Maker(self.name, "replace", self.seed, self.per_caption)
        things, qualities = self._known(samples) if self.graph is not None else (_EMPTY, _EMPTY)

        def slots(caption: Caption) -> list[Slot]:
            found = [
                *object_slots(caption, things),
                *attribute_slots(caption, qualities),
                *action_slots(caption),
                *relation_slots(caption),
            ]
            return found if not self.lists else [kept for slot in found if (kept := self._listed(slot)).options]

        return [{"replace_negatives": maker.records(sample, slots)} for sample in samples]

    def _listed(self, slot: Slot) -> Slot:
        """Return a place with the options of the wanted lists only."""
        if slot.type != "attribute":
            return slot if slot.type in self.lists else slot._replace(options=())
        families = {name for one in self.lists for name in _LISTS.get(one, ())}
        return slot._replace(
            options=[one for one in slot.options if isinstance(one[0], Family) and one[0].name in families]
        )

    def _known(self, samples: Sequence[Sample]) -> tuple[Known, Known]:
        """Return what the graph offers for the nouns and adjectives that no family knows."""
        if self.graph is None:
            return _EMPTY, _EMPTY
        nouns, adjectives = set[str](), set[str]()
        for sample in samples:
            for text, parse in zip(sample.captions, sample["parses"], strict=True):
                caption = Caption(text, parse)
                nouns |= {caption.lemma(token) for token in range(len(caption.words)) if caption.is_noun(token)}
                adjectives |= {word for word, pos in zip(caption.words, caption.pos, strict=True) if pos == "ADJ"}
        # a side or direction is neither thing nor quality, whatever the tagger says: `invert_relations` turns it round
        nouns, adjectives = nouns - OPPOSITE_WORDS.keys(), adjectives - OPPOSITE_WORDS.keys()
        asked = sorted(word for word in nouns if not object_families(word) and not is_human(word) and word.isalpha())
        described = sorted(word for word in adjectives if not attribute_families(word) and word.isalpha())
        alike = siblings(self.graph, asked, limit=4 * _FROM_GRAPH)
        opposite = antonyms(self.graph, described)
        things = {
            word: [
                (item.words, item.edges[0].uri)
                for item in items
                if _usable(item.words)
                and canonical_noun(item.words) != canonical_noun(word)
                and root_class(item.words) == root_class(word)
            ][:_FROM_GRAPH]
            for word, items in alike.items()
        }
        qualities = {
            word: [(item.words, item.edges[0].uri) for item in items if _usable(item.words)][:_FROM_GRAPH]
            for word, items in opposite.items()
        }
        return _filled(things), _filled(qualities)


def _usable(words: str) -> bool:
    return words.isalpha() and words.isascii() and words.islower() and is_english(words)


def _filled(table: Known) -> Known:
    return {word: found for word, found in table.items() if found}
