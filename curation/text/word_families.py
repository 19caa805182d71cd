"""Words that fit the same place of a caption but cannot both be true there: our own lists for making negatives.

A line names a family; ``|`` parts what excludes one another, words between bars mean about the same and never take
each other's place. A minus marks words that are recognised only: rare, vague or doubtful ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from curation.text.wordlists import word_rows, word_sets

_SETS = word_sets("lexicon")


class Family(NamedTuple):
    """A line of the lists.

    Attributes:
        name: Before the colon.
        members: Word -> number of its meaning.
        rivals: Word -> what excludes it and may take its place, in order.
    """

    name: str
    members: Mapping[str, int]
    rivals: Mapping[str, tuple[str, ...]]


def _families(rows: Iterable[tuple[str, ...]]) -> tuple[Family, ...]:
    found = []
    for name, *columns in rows:
        groups = [column.split() for column in columns]
        members = {word.lstrip("-"): number for number, group in enumerate(groups) for word in group}
        fills = [(word, number) for number, group in enumerate(groups) for word in group if word[0] != "-"]
        rivals = {word: tuple(fill for fill, other in fills if other != own) for word, own in members.items()}
        found.append(Family(name, members, rivals))
    return tuple(found)


@lru_cache(maxsize=1)
def objects() -> tuple[Family, ...]:
    """Return the families of things, living ones included."""
    return _families(word_rows("object_families"))


@lru_cache(maxsize=1)
def attributes() -> tuple[Family, ...]:
    """Return the families of describing words."""
    return _families(word_rows("attribute_families"))


@lru_cache(maxsize=1)
def actions() -> tuple[Family, ...]:
    """Return the families of verbs; the name says in which frame they stand."""
    return _families(word_rows("action_families"))


@lru_cache(maxsize=65536)
def object_families(lemma: str) -> tuple[Family, ...]:
    """Return the families of things that a noun is in."""
    return tuple(family for family in objects() if lemma in family.members)


@lru_cache(maxsize=65536)
def attribute_families(word: str) -> tuple[Family, ...]:
    """Return the families of describing words that a word is in."""
    return tuple(family for family in attributes() if word in family.members)


@lru_cache(maxsize=65536)
def action_families(lemma: str) -> tuple[Family, ...]:
    """Return the families of verbs that a verb is in."""
    return tuple(family for family in actions() if lemma in family.members)


_PEOPLE = _SETS["people_nouns"]
_ANIMAL_FAMILIES = ("pet", "farm", "wild", "water_bird", "small_animal")


@lru_cache(maxsize=65536)
def is_human(lemma: str) -> bool:
    """Say whether a noun names a person or people, by our own list."""
    return lemma in _PEOPLE


@lru_cache(maxsize=65536)
def is_animal(lemma: str) -> bool:
    """Say whether a noun names an animal, by our own list."""
    return lemma == "animal" or any(family.name in _ANIMAL_FAMILIES for family in object_families(lemma))
