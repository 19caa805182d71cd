"""Classes of words that exclude each other in any kind of picture, from general knowledge, with their inflected forms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from curation.contrasts.caption_words import split
from curation.text.languages import ENGLISH
from curation.text.wordlists import word_rows

_ROWS = word_rows("general_classes")
_TYPES = {"noun": "object", "mass": "object", "verb": "action", "place": "relation", "words": "relation"}
_TYPES_OF_CLASSES = {"numbers": "number", "two or several": "number", "sharing": "number", "order": "attribute"}
_TAGS = {
    "noun": ("", "NNS"), "verb": ("", "VBZ", "VBG", "VBD"), "mass": ("",), "name": ("",), "proper": ("",),
    "adjective": ("",), "bound": ("",), "place": ("",), "words": ("",),
}  # fmt: skip
"""Which inflections of the members of a class make a class of their own, by the class's form."""


_OPEN = frozenset({"noun", "mass", "name", "proper", "verb"})


class GeneralClass(NamedTuple):
    """A class of words, each in one inflection.

    Attributes:
        name: Its name.
        form: "noun", "mass", "name", "proper", "adjective", "bound", "verb", "place" or "words"; see the word list.
        type: Type of the negatives that it makes.
        meanings: Word or phrase, in lower case -> number of its meaning; two words of one meaning do not exclude each other.
        capitals: Those that are written in capitals: "CT".
    """

    name: str
    form: str
    type: str
    meanings: Mapping[str, int]
    capitals: Mapping[str, str]


@cache
def general_classes() -> tuple[GeneralClass, ...]:
    """Return all classes of the word list, in its order, those of plurals and of forms of verbs after their base."""
    found = []
    for form, name, *members in _ROWS:
        for tag in _TAGS[form]:
            meanings: dict[str, int] = {}
            capitals: dict[str, str] = {}
            for number, member in enumerate(members):
                for word in member.split("/"):
                    written = _inflected(word, tag)
                    inflected = " ".join(part.text for part in split(written))
                    if written != written.lower():
                        capitals[inflected] = written
                    if inflected not in ENGLISH.kept_words:
                        meanings.setdefault(inflected, number)
            kind = _TYPES_OF_CLASSES.get(name) or _TYPES.get(form, "attribute")
            found.append(GeneralClass(f"{name}, {tag}" if tag else name, form, kind, meanings, capitals))
    return tuple(found)


@cache
def places_of() -> Mapping[str, tuple[int, ...]]:
    """Return word -> the places of its classes among `general_classes`."""
    found: dict[str, tuple[int, ...]] = {}
    for place, one in enumerate(general_classes()):
        for word in one.meanings:
            found[word] = (*found.get(word, ()), place)
    return found


@cache
def free_modifiers() -> frozenset[str]:
    """Return adjectives and numbers that go with any noun: "left", "red", "small", but not "hepatic"."""
    return frozenset(
        word for one in general_classes() if one.form in ("adjective", "words", "name") for word in one.meanings
    )


def exclude(one: str, other: str, *, closed: bool = False) -> bool:
    """Return whether two words are members of one class, with different meanings there.

    Args:
        one: A word.
        other: Another.
        closed: Only classes of qualities, places and counts, which are few and known, not those of things and actions.
    """
    classes = (general_classes()[place] for place in places_of().get(one, ()))
    return any(
        other in of.meanings and of.meanings[one] != of.meanings[other] and not (closed and of.form in _OPEN)
        for of in classes
    )


def mean_the_same(one: str, other: str) -> bool:
    """Return whether two words have one meaning in a class of both."""
    return any(
        general_classes()[place].meanings[one] == general_classes()[place].meanings.get(other, -1)
        for place in places_of().get(one, ())
    )


def _inflected(phrase: str, tag: str) -> str:
    """Return a phrase with its last word in the form of a tag of the Penn Treebank; the phrase itself without one."""
    if not tag or (tag == "NNS" and phrase.endswith("s") and not phrase.endswith(("ss", "us", "is"))):
        return phrase  # "sunglasses" is a plural already
    from lemminflect import getInflection

    *before, word = phrase.split(" ")
    forms = getInflection(word, tag=tag)
    return " ".join([*before, forms[0] if forms else f"{word}s" if tag in ("NNS", "VBZ") else word])
