"""Relations between the words of claims: values of one feature, directions, synonyms, hypernyms, opposites."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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
_MAX_DEPTH = 2

_VALUE_OF = {word: (feature, group[0]) for feature, *group in word_rows("feature_values") for word in group} | {
    word: ("colour", colour) for word, colour in COLOURS.items()
}
"""Word -> (feature, value); a thing has one value of a feature."""
PATTERN_NOUNS = frozenset({"stripes", "stripe", "dots", "spots", "checks"})
"""Nouns that mean the same after "with" as an adjective: "with stripes"."""
_DESCRIBING = frozenset({"size", "pattern", "colour", "age", "wetness", "height"})

_MORE_SYNONYMS = (frozenset({"circle", "disc"}), frozenset({"ring", "hoop"}), frozenset({"background", "backdrop"}))
_HYPONYMS: Mapping[str, AbstractSet[str]] = dict.fromkeys(("person", "people", "individual", "someone"), PEOPLE) | {
    noun: frozenset(relations) for noun, *relations in word_rows("narrower_nouns")
}

_SUBSTANCES = _SETS["stuff"]

_SIMILAR_COLOURS = tuple(map(frozenset, word_rows("similar_colours")))
"""Groups of colours that people call by each other's names."""

DIRECTIONS = {words: (relation, side == "reversed") for words, relation, side in word_rows("directions")}
"""Words between two things -> (relation, whether it holds in the reverse direction)."""
_SYMMETRIC = _SETS["symmetric_relations"]
TRANSITIVE_RELATIONS = frozenset({"left", "above", "inside", "front"})
UNSTATED_RELATIONS = frozenset({"left", "above", "near", "front"})
"""Relations that may hold although no caption states them."""
SURROUNDINGS = _SETS["surroundings"]
"""Nouns for surroundings: if one thing of the picture is there, all are."""
SURROUNDING_PREPOSITIONS = _SETS["surrounding_prepositions"]


def feature_value(word: str) -> tuple[str, str]:
    """Return (feature, value) of a describing word; the feature is empty for other words."""
    return _VALUE_OF.get(word, ("", word))


def is_descriptive(word: str) -> bool:
    """Return whether a word describes a thing, whatever its tag is (parsers take "checked" for a verb)."""
    return word not in PATTERN_NOUNS and feature_value(word)[0] in _DESCRIBING


def canonical_link(one: int, relation: str, other: int) -> tuple[int, str, int]:
    """Return a link in its canonical direction."""
    name, is_reversed = DIRECTIONS.get(relation, (relation, False))
    if is_reversed or (name in _SYMMETRIC and other < one):
        return other, name, one
    return one, name, other


def is_symmetric(relation: str) -> bool:
    """Return whether a canonical relation means the same in both directions."""
    return relation in _SYMMETRIC


def _is_similar_colour(one: str, other: str) -> bool:
    """Return whether people may confuse two colours: brown and tan, grey and silver."""
    return any(one in group and other in group for group in _SIMILAR_COLOURS)


def contradicts(word: str, known: AbstractSet[str]) -> bool:
    """Return whether a property cannot be true of a thing with the known properties."""
    if word in known or f"not:{word}" in known:
        return word not in known
    return any(_exclude(word, other) for other in known)


@lru_cache(maxsize=1 << 16)
def _exclude(word: str, other: str) -> bool:
    """Return whether two different properties cannot both be true of one thing."""
    feature = feature_value(word)[0]
    if feature and feature_value(other)[0] == feature and not _is_similar_colour(word, other):
        return True
    if word.startswith("#"):
        return other.startswith("#")
    return other.removeprefix("do:") in opposites_of([word.removeprefix("do:")])


@dataclass
class WordRelations:
    """Synonyms and hypernyms, from our own lists and from a graph if one is given.

    Attributes:
        synonyms: Word -> its synonyms in the graph.
        hypernyms: Word -> its hypernyms in the graph.
    """

    synonyms: dict[str, frozenset[str]] = field(default_factory=dict)
    hypernyms: dict[str, frozenset[str]] = field(default_factory=dict)
    _covers: dict[tuple[str, str], bool] = field(default_factory=dict, repr=False, compare=False)
    _living: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def synonymous(self, one: str, other: str) -> bool:
        """Return whether two words in dictionary form may mean the same; verbs have the prefix ``do:``."""
        listed = _listed_synonyms(one, other)
        if listed is not None:
            return listed
        one, other = one.removeprefix("do:"), other.removeprefix("do:")
        return other in self.synonyms.get(one, ()) or one in self.synonyms.get(other, ())

    def covers(self, general: str, special: str) -> bool:
        """Return whether the general noun names everything that the special one names."""
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
        """Return whether the general word is a hypernym of the special one in the graph."""
        if _differ(general, special):
            return False
        return general in self.hypernyms.get(special, ()) or canonical_noun(general) in self.hypernyms.get(
            canonical_noun(special), ()
        )

    def is_living(self, names: Iterable[str]) -> bool:
        """Return whether a thing with these names is a person or an animal."""
        return any(self._lives(name) for name in names)

    def _lives(self, name: str) -> bool:
        known = self._living.get(name)
        if known is None:
            words = (name, *self.hypernyms.get(name, ()))
            known = self._living[name] = (
                name in PEOPLE
                or name in _SETS["living_things"]
                or agent_verb(name) != name
                or any(root_class(word) in ("person", "animal") for word in words)
            )
        return known

    def may_be(self, noun: str, names: Collection[str]) -> bool:
        """Return whether a thing with some names may be called by this name too: either may be a hypernym of the other."""
        return self.may_be_called(noun, names) or (
            not _is_person(noun) and any(self.covers(name, noun) for name in names)
        )

    def may_be_called(self, noun: str, names: Collection[str]) -> bool:
        """Return whether this name is a synonym or hypernym of one of the names; for people, whether it does not contradict them."""
        if _is_person(noun):
            # One person has many names, but one gender and one age.
            return not PEOPLE.isdisjoint(names) and all(may_be_same_person(noun, name) for name in names)
        return noun in names or any(self.covers(noun, name) for name in names)


@lru_cache(maxsize=1 << 16)
def _listed_synonyms(one: str, other: str) -> bool | None:
    """Return whether two words may mean the same by our own lists; None where the graph decides."""
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
    """Return whether the general noun is a synonym or hypernym of the special one by our own lists."""
    return bool(_listed_synonyms(general, special)) or special in _HYPONYMS.get(general, ())


def _is_person(noun: str) -> bool:
    return noun in PEOPLE or noun in GENDERS


def _differ(one: str, other: str) -> bool:
    """Return whether our lists make two words different whatever a graph says: there a girl may be a woman, and snow water."""
    return (one in PEOPLE and other in PEOPLE) or (one in _SUBSTANCES and other in _SUBSTANCES)


def word_relations(graph: KnowledgeGraph | None, words: Iterable[str]) -> WordRelations:
    """Return relations with the synonyms of some words in a graph, and with their hypernyms at most two IsA edges away."""
    relations = WordRelations()
    lemmas = sorted({form for word in words for form in (word, canonical_noun(word))})
    if graph is None or not lemmas:
        return relations
    from curation.knowledge.relations import ancestors, synonyms

    relations.synonyms = {
        word: frozenset(item.words for item in items) for word, items in synonyms(graph, lemmas).items()
    }
    relations.hypernyms = {
        word: frozenset(above - {word})
        for word, above in ancestors(graph, lemmas, _MAX_DEPTH).items()
        if above - {word}
    }
    return relations
