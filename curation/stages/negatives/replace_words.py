"""Replace an object, attribute, action or relation of a caption by one that excludes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field
from curation.knowledge.interface import KnowledgeGraph
from curation.knowledge.relations import antonyms, siblings
from curation.knowledge.word_sense import root_class
from curation.negatives.replace_nouns import GraphOptions, attribute_slots, object_slots
from curation.negatives.replace_verbs import action_slots, relation_slots
from curation.negatives.slots import Slot, SlotStage
from curation.negatives.spatial_opposites import OPPOSITE_WORDS
from curation.text.lexicon import canonical_noun, is_english
from curation.text.phrases import Caption
from curation.text.word_families import Family, attribute_families, is_human, object_families
from data_manifests.sample import Sample

_FROM_GRAPH = 6
"""Most replacements of a word from a graph."""
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
    "opposite": (
        "side",
        "level",
        "inward",
        "face",
        "end",
        "middle",
        "reach",
        "sides",
        "growth",
        "course",
        "plane",
        "flow",
        "inside",
        "back",
        "head",
        "surgery",
        "health",
        "compass_y",
        "compass_x",
    ),
}
"""List -> families of attributes in it."""
LISTS = (*_LISTS, "object", "action", "relation")
"""The lists that words may be replaced from: TSVLC's five are colour, material, size, state, and action with relation."""


@dataclass(frozen=True)
class ReplaceWords(SlotStage):
    """Make up to `per_caption` negatives per caption by replacing one word each, of different types where possible.

    Provides ``replace_negatives``, a list of negative records. The words come from our own families: the words of one
    family fit the same position and exclude one another; a family names the nouns, prepositions and objects it is used
    with, so that the sentence stays plausible. In titles ("Nike Men Black Shoes"), whose nouns are tagged as names, whom the
    thing is for and the thing itself are replaced. Number, verb form, case and articles are kept, and a person's pronouns
    change along. With a `graph`, objects and attributes outside the families are replaced by their siblings and
    antonyms, and the record's rule names the edge.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.
        per_slot: Most negatives of one word, 1 or more; every word that can be replaced comes once before any comes twice.
        graph: Gives siblings and antonyms; None uses the families only.
        lists: Which of `LISTS` are used; empty for all, the graph's words included.

    Raises:
        InputError: `per_caption` or `per_slot` is below 1, or a list unknown.

    Source: Zhang et al. 2023 (CE-CLIP), section 3, arXiv 2306.08832: four types; Doveh et al. 2023 (TSVLC), section 3,
        arXiv 2211.11733: lists of words; Oh et al. 2024 (FSC-CLIP), arXiv 2410.05210: siblings and antonyms of a graph.
    Differs: the lists are our own and bound to a context, where TSVLC finds words as substrings and replaces them by any
        word of the list; no language model is used; synonyms, hypernyms and hyponyms are never used.
    """

    name: ClassVar[str] = "replace_words"
    version: ClassVar[int] = 5
    provides: ClassVar[tuple[Field, ...]] = (Field("replace_negatives", publish="sample", role="negatives"),)
    source: ClassVar[str] = "Zhang et al. 2023, section 3, arXiv 2306.08832; Doveh et al. 2023, arXiv 2211.11733"
    knows_only_english: ClassVar[bool] = True
    operation: ClassVar[str] = "replace"

    per_caption: int = field(default=4, kw_only=True)
    per_slot: int = field(default=1, kw_only=True)
    graph: KnowledgeGraph | None = None
    lists: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(per_slot=1)
        self.check_names("lists", LISTS)

    def options_per_slot(self) -> int:
        """Return how many options of one word may become negatives."""
        return self.per_slot

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Replace words in every caption; the graph is queried once for all of them."""
        objects, attributes = self._from_graph(samples)

        def find_slots(caption: Caption) -> list[Slot]:
            slots = [
                *object_slots(caption, objects),
                *attribute_slots(caption, attributes),
                *action_slots(caption),
                *relation_slots(caption),
            ]
            return slots if not self.lists else [kept for slot in slots if (kept := self._in_lists(slot)).options]

        return [{"replace_negatives": self.negatives(sample, find_slots)} for sample in samples]

    def _in_lists(self, slot: Slot) -> Slot:
        """Return a slot with the options of the chosen lists only."""
        if slot.type != "attribute":
            return slot if slot.type in self.lists else slot._replace(options=())
        families = {family for name in self.lists for family in _LISTS.get(name, ())}
        options = [option for option in slot.options if isinstance(option[0], Family) and option[0].name in families]
        return slot._replace(options=options)

    def _from_graph(self, samples: Sequence[Sample]) -> tuple[GraphOptions, GraphOptions]:
        """Return the graph's replacements of the nouns and of the adjectives that are in no family."""
        if self.graph is None:
            return {}, {}
        nouns, adjectives = set[str](), set[str]()
        for sample in samples:
            for text, parse in zip(sample.captions, sample["parses"], strict=True):
                caption = Caption(text, parse)
                nouns |= {caption.lemma(token) for token in range(len(caption.words)) if caption.is_noun(token)}
                adjectives |= {word for word, pos in zip(caption.words, caption.pos, strict=True) if pos == "ADJ"}
        # a side or direction is neither object nor attribute, whatever the tagger says: `invert_relations` changes it
        nouns, adjectives = nouns - OPPOSITE_WORDS.keys(), adjectives - OPPOSITE_WORDS.keys()
        unlisted = sorted(word for word in nouns if not object_families(word) and not is_human(word) and word.isalpha())
        described = sorted(word for word in adjectives if not attribute_families(word) and word.isalpha())
        objects = {
            word: [
                (item.words, item.edges[0].uri)
                for item in items
                if _usable(item.words)
                and canonical_noun(item.words) != canonical_noun(word)
                and root_class(item.words) == root_class(word)
            ][:_FROM_GRAPH]
            for word, items in siblings(self.graph, unlisted, limit=4 * _FROM_GRAPH).items()
        }
        attributes = {
            word: [(item.words, item.edges[0].uri) for item in items if _usable(item.words)][:_FROM_GRAPH]
            for word, items in antonyms(self.graph, described).items()
        }
        return _without_empty(objects), _without_empty(attributes)


def _usable(words: str) -> bool:
    return words.isalpha() and words.isascii() and words.islower() and is_english(words)


def _without_empty(table: GraphOptions) -> GraphOptions:
    return {word: options for word, options in table.items() if options}
