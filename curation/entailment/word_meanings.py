"""What words of a claim mean to each other: one of two values, one of two directions, the same, or kinds of a kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache

from curation.knowledge.interface import KnowledgeGraph
from curation.knowledge.word_sense import root_class
from curation.text.lexicon import (
    COLOURS,
    GENDERS,
    PEOPLE,
    agent_verb,
    canonical_noun,
    may_be_same_person,
    opposites_of,
    same_action,
)
from curation.text.wordlists import word_rows, word_sets

_SETS = word_sets("word_meanings")

"""Feature -> groups of words; a thing has one of them."""
_VALUE_OF = {word: (feature, group[0]) for feature, *group in word_rows("feature_values") for word in group} | {
    word: ("colour", colour) for word, colour in COLOURS.items()
}
PATTERN_NOUNS = frozenset({"stripes", "stripe", "dots", "spots", "checks"})
"""What may follow "with" and says no more than an adjective does."""
_DESCRIBING = frozenset({"size", "pattern", "colour", "age", "wetness", "height"})

_MORE_SYNONYMS = (frozenset({"circle", "disc"}), frozenset({"ring", "hoop"}), frozenset({"background", "backdrop"}))
_HYPONYMS: Mapping[str, AbstractSet[str]] = dict.fromkeys(("person", "people", "individual", "someone"), PEOPLE) | {
    noun: frozenset(kinds) for noun, *kinds in word_rows("narrower_nouns")
}

_LIVING_THINGS = _SETS["living_things"]
_SUBSTANCES = _SETS["stuff"]

_SIMILAR_COLOURS = tuple(map(frozenset, word_rows("similar_colours")))
"""Colours that one may call by the other's name."""

DIRECTIONS = {words: (relation, side == "reversed") for words, relation, side in word_rows("directions")}
"""Words between two things -> (relation, whether it is told from the other side)."""
_SYMMETRIC = _SETS["symmetric_relations"]
TRANSITIVE_RELATIONS = frozenset({"left", "above", "inside", "front"})
UNSTATED_RELATIONS = frozenset({"left", "above", "near", "front"})
"""Relations that may hold without anybody's saying so."""
SURROUNDINGS = _SETS["surroundings"]
"""Nouns of a surrounding: who is there, all are."""
SURROUNDING_PREPOSITIONS = _SETS["surrounding_prepositions"]


def feature_value(word: str) -> tuple[str, str]:
    """Return (feature, value) of a describing word; the feature is empty when it is none of the known ones."""
    return _VALUE_OF.get(word, ("", word))


def is_descriptive(word: str) -> bool:
    """Say whether a word describes a thing, whatever a parser makes of it ("checked" is no verb beside a noun)."""
    return word not in PATTERN_NOUNS and feature_value(word)[0] in _DESCRIBING


def canonical_link(one: int, relation: str, other: int) -> tuple[int, str, int]:
    """Return a claim in its canonical direction."""
    name, turned = DIRECTIONS.get(relation, (relation, False))
    if turned or (name in _SYMMETRIC and other < one):
        return other, name, one
    return one, name, other


def is_symmetric(relation: str) -> bool:
    """Say whether a canonical relation says the same both ways."""
    return relation in _SYMMETRIC


def _is_similar_colour(one: str, other: str) -> bool:
    """Say whether one eye's colour is another's: brown or tan, grey or silver."""
    return any(one in group and other in group for group in _SIMILAR_COLOURS)


@lru_cache(maxsize=1 << 14)
def _opposites(word: str) -> frozenset[str]:
    return frozenset(opposites_of([word]))


def contradicts(word: str, known: AbstractSet[str]) -> bool:
    """Say whether a normal describing word cannot be true of what the known ones describe."""
    if word in known or f"not:{word}" in known:
        return word not in known
    return any(_exclude(word, other) for other in known)


@lru_cache(maxsize=1 << 16)
def _exclude(word: str, other: str) -> bool:
    """Say whether two different normal describing words cannot both be true of one thing."""
    feature, _ = feature_value(word)
    if feature and feature_value(other)[0] == feature and not _is_similar_colour(word, other):
        return True
    if word.startswith("#"):
        return other.startswith("#")
    return other.removeprefix("do:") in _opposites(word.removeprefix("do:"))


@dataclass
class WordRelations:
    """Which words name the same, and which name a kind of another's; by our own lists and, where given, a graph.

    Attributes:
        same: Word -> words of the same meaning, in a graph.
        above: Word -> what it is a kind of, in a graph.
    """

    synonyms: dict[str, frozenset[str]] = field(default_factory=dict)
    hypernyms: dict[str, frozenset[str]] = field(default_factory=dict)
    _covers: dict[tuple[str, str], bool] = field(default_factory=dict, repr=False, compare=False)
    _living: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def synonymous(self, one: str, other: str) -> bool:
        """Say whether two words in dictionary form may mean the same; verbs carry ``do:``."""
        listed = _listed_synonyms(one, other)
        if listed is not None:
            return listed
        bare, theirs = one.removeprefix("do:"), other.removeprefix("do:")
        return theirs in self.synonyms.get(bare, ()) or bare in self.synonyms.get(theirs, ())

    def covers(self, general: str, special: str) -> bool:
        """Say whether whatever the special noun names, the general one names too."""
        if general == special or _listed_hyponym(general, special):
            return True
        if not self.synonyms and not self.hypernyms:
            return False
        known = self._covers.get((general, special))
        if known is None:
            known = self.synonymous(general, special) or self.is_hypernym(general, special)
            self._covers[general, special] = known
        return known

    def is_hypernym(self, general: str, special: str) -> bool:
        """Say whether the graph makes the general word an ancestor of the special one."""
        if _differ(general, special):
            return False
        return general in self.hypernyms.get(special, ()) or canonical_noun(general) in self.hypernyms.get(
            canonical_noun(special), ()
        )

    def is_living(self, names: Iterable[str]) -> bool:
        """Say whether something that goes by these names is a person or an animal."""
        return any(self._lives(name) for name in names)

    def _lives(self, name: str) -> bool:
        known = self._living.get(name)
        if known is None:
            known = name in PEOPLE or name in _LIVING_THINGS or agent_verb(name) != name
            words = (name, *self.hypernyms.get(name, ()))
            known = known or any(root_class(word) in ("person", "animal") for word in words)
            self._living[name] = known
        return known

    def may_be(self, noun: str, known: Iterable[str]) -> bool:
        """Say whether a thing with the known names may be one with this name: either may name a kind of the other."""
        names = list(known)
        if self.may_be_called(noun, names):
            return True
        return not _is_person(noun) and any(self.covers(name, noun) for name in names)

    def may_be_called(self, noun: str, known: Iterable[str]) -> bool:
        """Say whether this name fits a thing with the known names; of special names only a person's."""
        names = list(known)
        if _is_person(noun):
            # One person may be called differently by everyone, but not by another gender or age.
            return not PEOPLE.isdisjoint(names) and all(_same_people(noun, name) for name in names)
        return noun in names or any(self.covers(noun, name) for name in names)


@lru_cache(maxsize=1 << 16)
def _listed_synonyms(one: str, other: str) -> bool | None:
    """Say whether two words may mean the same by our own lists; None where these leave it to a graph."""
    if one == other:
        return True
    if one.startswith("do:") or other.startswith("do:"):
        return same_action(one.removeprefix("do:"), [other.removeprefix("do:")]) or None
    if (
        canonical_noun(one) == canonical_noun(other)
        or feature_value(one) == feature_value(other)
        or frozenset((one, other)) in _MORE_SYNONYMS
    ):
        return True
    return False if _differ(one, other) else None


@lru_cache(maxsize=1 << 18)
def _listed_hyponym(general: str, special: str) -> bool:
    """Say whether by our own lists whatever the special noun names, the general one names too."""
    return bool(_listed_synonyms(general, special)) or special in _HYPONYMS.get(general, ())


_same_people = lru_cache(maxsize=1 << 14)(may_be_same_person)


def _is_person(noun: str) -> bool:
    return noun in PEOPLE or noun in GENDERS


def _differ(one: str, other: str) -> bool:
    """Say whether our own lists know two words better than a graph, where a girl may be a woman and snow water."""
    return (one in PEOPLE and other in PEOPLE) or (one in _SUBSTANCES and other in _SUBSTANCES)


def word_relations(graph: KnowledgeGraph | None, words: Iterable[str], depth: int = 2) -> WordRelations:
    """Look up all words together: synonyms, and ancestors over IsA, a question for each step."""
    kinds = WordRelations()
    asked = sorted({form for word in words for form in (word, canonical_noun(word))})
    if graph is None or not asked:
        return kinds
    from curation.knowledge.relations import synonyms

    kinds.synonyms = {word: frozenset(item.words for item in items) for word, items in synonyms(graph, asked).items()}
    parents: dict[str, frozenset[str]] = {}
    frontier = asked
    for _ in range(depth):
        found = graph.edges_from(frontier, ("IsA",))
        parents |= {word: frozenset(edge.tail for edge in found.get(word, ())) for word in frontier}
        frontier = sorted({tail for word in frontier for tail in parents[word]} - parents.keys())
    for word in asked:
        seen: set[str] = set()
        level = {word}
        for _ in range(depth):
            level = {up for one in level for up in parents.get(one, ())} - seen - {word}
            seen |= level
        if seen:
            kinds.hypernyms[word] = frozenset(seen)
    return kinds
