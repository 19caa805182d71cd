"""Families of words that fit the same place of a caption but cannot both be true there: our lists for making negatives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from curation.text.wordlists import word_rows, word_sets


class Family(NamedTuple):
    """A row of the lists.

    Attributes:
        name: Its name.
        members: Word -> number of its group; words of one group mean about the same.
        rivals: Word -> words that exclude it and may replace it, in order.
    """

    name: str
    members: Mapping[str, int]
    rivals: Mapping[str, tuple[str, ...]]


def _read(rows: Iterable[tuple[str, ...]]) -> tuple[Family, ...]:
    families = []
    for name, *columns in rows:
        groups = [column.split() for column in columns]
        members = {word.lstrip("-"): number for number, group in enumerate(groups) for word in group}
        fills = [(word, number) for number, group in enumerate(groups) for word in group if word[0] != "-"]
        rivals = {word: tuple(fill for fill, other in fills if other != own) for word, own in members.items()}
        families.append(Family(name, members, rivals))
    return tuple(families)


OBJECTS, ATTRIBUTES, ACTIONS = (
    _read(rows)
    for rows in (word_rows("object_families"), word_rows("attribute_families"), word_rows("action_families"))
)
_PEOPLE = word_sets("lexicon")["people_nouns"]
_ANIMAL_FAMILIES = ("pet", "farm", "wild", "water_bird", "small_animal")


def _by_word(families: Iterable[Family]) -> Mapping[str, tuple[Family, ...]]:
    found: dict[str, tuple[Family, ...]] = {}
    for family in families:
        for word in family.members:
            found[word] = (*found.get(word, ()), family)
    return found


_OBJECTS_OF, _ATTRIBUTES_OF, _ACTIONS_OF = (_by_word(families) for families in (OBJECTS, ATTRIBUTES, ACTIONS))


def object_families(lemma: str) -> tuple[Family, ...]:
    """Return the families of nouns that a noun is in."""
    return _OBJECTS_OF.get(lemma, ())


def attribute_families(word: str) -> tuple[Family, ...]:
    """Return the families of describing words that a word is in."""
    return _ATTRIBUTES_OF.get(word, ())


def same_meaning(one: str, other: str) -> bool:
    """Return whether two nouns are in one group of a family: cliff and rock, ball and basketball."""
    return any(family.members[one] == family.members.get(other) for family in object_families(one))


def action_families(lemma: str) -> tuple[Family, ...]:
    """Return the families of verbs that a verb is in."""
    return _ACTIONS_OF.get(lemma, ())


def is_human(lemma: str) -> bool:
    """Return whether a noun names a person or people, by our own list."""
    return lemma in _PEOPLE


def is_animal(lemma: str) -> bool:
    """Return whether a noun names an animal, by our own list."""
    return lemma == "animal" or any(family.name in _ANIMAL_FAMILIES for family in object_families(lemma))
