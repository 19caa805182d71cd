"""Link the nouns and verbs of captions to concepts of a knowledge graph, each in the sense that fits the image."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.knowledge.concept_linking import Mention, context_words, may_be_verb, mentions
from curation.knowledge.interface import KnowledgeGraph
from curation.knowledge.word_sense import Lexicon, lexicon_of
from curation.models.parser import CaptionParse
from curation.text.wordlists import word_sets
from data_manifests.sample import Sample

_SETS = word_sets("concept_linking")

_IMITATION = _SETS["imitations"]
"""A duck with one of these words is not a bird."""

_ARTICLES = ("a", "an", "the", "his", "her", "their", "its", "one")


@dataclass(frozen=True)
class LinkConcepts(MapStage):
    """Find for every noun and verb the concept of a knowledge graph it names, and its sense.

    Provides ``concepts``: for each caption a list, in reading order, of ``{"tokens": [first, end], "words", "concept",
    "pos", "sense", "evidence", "known", "plural", "negated", "countable"}``. ``sense`` is a class (``animal``, ``thing``,
    ``place`` ...; ``action`` for verbs) or null: the word has several senses and the image's captions do not decide
    between them, or the graph does not say what it is (``known`` is false). A concept without a sense must not be used.
    ``evidence`` are the words that decided.

    The longest known name wins: ``tennis racket`` before ``racket``, ``pick up`` before ``pick``. A name that begins
    with an adjective or participle counts only if the graph says what it is: ``hot dog`` is a concept, ``brown dog``
    is a dog. A compound that the graph does not know is linked by its head, and its other words are evidence:
    ``baseball bat``.

    A word is ambiguous where the graph puts it into classes that exclude each other, or where our own list of homonyms
    has it. The captions of the image then decide, by the words near each sense in the graph and in that list; a tie
    decides nothing.

    Attributes:
        graph: The knowledge graph.

    Source: Speer, Chin and Havasi 2017 (ConceptNet 5.5), arXiv 1612.03975; sense by overlap after Lesk 1986.
    Differs: ConceptNet leaves senses to the reader; the classes, the list of homonyms and the rule that a tie decides
        nothing are this project's own.
    """

    name: ClassVar[str] = "link_concepts"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (Field("concepts"),)
    source: ClassVar[str] = "Speer et al. 2017, arXiv 1612.03975"
    knows_only_english: ClassVar[bool] = True

    graph: KnowledgeGraph

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Link all captions of all samples; the graph is queried once."""
        found = [[list(mentions(parse)) for parse in sample["parses"]] for sample in samples]
        names = {
            name for of_sample in found for of_caption in of_sample for mention in of_caption
            for _, options in mention.options for name in options
        }  # fmt: skip
        known = self.graph.known(sorted(names))
        lexicon = lexicon_of(self.graph)
        lexicon.prepare(known)
        results: list[dict[str, Any] | Drop] = []
        for sample, of_sample in zip(samples, found, strict=True):
            context = context_words(sample["parses"])
            imitated = {
                name for of_caption in of_sample for mention in of_caption for name in mention.options[-1][1]
                if not _IMITATION.isdisjoint(mention.modifiers)
            }  # fmt: skip
            results.append(
                {
                    "concepts": [
                        [link for one in of_caption if (link := _link(parse, one, known, lexicon, context, imitated))]
                        for parse, of_caption in zip(sample["parses"], of_sample, strict=True)
                    ]
                }
            )
        return results


def _link(
    parse: CaptionParse,
    mention: Mention,
    known: AbstractSet[str],
    lexicon: Lexicon,
    context: AbstractSet[str],
    imitated: AbstractSet[str],
) -> dict[str, Any] | None:
    """Return one mention's record, or None where the graph knows none of its names."""
    named = _longest(parse, mention, known, lexicon)
    if named is None:
        return None
    first, concept = named
    # "a snowboard" is a thing; without an article it may be the sport.
    countable = mention.plural or mention.determiner in _ARTICLES
    record: dict[str, Any] = {
        "tokens": [first, mention.end],
        "words": " ".join(parse["words"][first : mention.end]),
        "concept": concept,
        "pos": mention.pos,
        "sense": "action",
        "evidence": [],
        "known": True,
        "plural": mention.plural,
        "negated": mention.negated,
        "countable": countable,
    }
    if mention.pos == "VERB":
        return record
    if mention.doubtful and first == mention.head:
        return record | {"sense": None}
    # The other captions' uses of the word itself are no evidence; the words in front of it are.
    around = context - {parse["words"][mention.head].lower(), concept, *mention.options[-1][1]}
    # What one caption calls a toy is one in the others too.
    imitation = not imitated.isdisjoint(mention.options[-1][1])
    choice = lexicon.choose(concept, around, countable, imitation)
    if not choice.known and first < mention.head:
        bare = next((name for name in mention.options[-1][1] if name in known), "")
        choice = lexicon.choose(bare, around, countable, imitation)
    if choice.sense == "event" and not countable and may_be_verb(parse["words"][mention.head].lower()):
        # "a boy in shorts run": without an article a run is more likely a verb that the parser took for a noun.
        return record | {"sense": None}
    return record | {"sense": choice.sense or None, "evidence": list(choice.evidence), "known": choice.known}


def _longest(
    parse: CaptionParse, mention: Mention, known: AbstractSet[str], lexicon: Lexicon
) -> tuple[int, str] | None:
    """Return (first token, concept) of the longest name that the graph knows."""
    for first, names in mention.options:
        compound = mention.pos == "VERB" or all(
            parse["pos"][token] in ("NOUN", "PROPN") for token in range(first, mention.end) if token != mention.head
        )
        for name in names:
            if name in known and (first == mention.head or compound or lexicon.votes(name)):
                return first, name
    return None
