"""Whether a negative makes sense at all, and whether it only reorders a list: what can be told from its words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from curation.entailment.tokens import split_words
from curation.text.lexicon import noun_lemma, verb_lemma
from curation.text.word_families import (
    action_families,
    attribute_families,
    is_animal,
    is_human,
    object_families,
)
from curation.text.wordlists import word_sets

_SETS = word_sets("plausibility")

_WORN = ("top", "bottom", "hat", "eyewear", "neck")
_COLLECTIVE = _SETS["collective_nouns"]
_STILL_FRAMES = frozenset({"place", "place_moving", "path", "bare"})
"""Families of verbs that need no object."""
_CLOTHES = _SETS["clothes"]
_LIST = re.compile(r"\w+(?:(?: , and | and | , |, | or )\w+)+")
_JOINT = re.compile(r" , and | and | , |, | or ")


def sort_lists(text: str) -> str:
    """Return a text in lower case with what "and", "or" and commas join word by word in alphabetical order."""
    low = " ".join(text.lower().split())
    if "," not in low and " and " not in low and " or " not in low:
        return low
    return _LIST.sub(lambda found: " + ".join(sorted(_JOINT.split(found.group()))), low)


def is_likely_swap(caption: str, record: Mapping[str, Any]) -> bool:
    """Say whether what a swap exchanged is of one sort: two people, two things to wear, two colours, two ways to go.

    Words of different sorts in each other's place make sentences that nobody says: "a bench holds the man". Words of
    one meaning change nothing: a ball, a basketball.
    """
    spans = [split_words(caption[start:end]) for start, end, _, _ in record["edits"]]
    exchanged = [words for words in spans if words and words not in (["a"], ["an"])]
    if len(exchanged) != 2:
        return False
    one, other = exchanged
    match record["span_class"]:
        case "noun" | "plural_noun" | "noun_chunk":
            alike = not _sorts(one[-1]).isdisjoint(_sorts(other[-1]))
            return alike and (record["span_class"] == "noun_chunk" or not _same_meaning(one[-1], other[-1]))
        case "adjective":
            return not _names(attribute_families(one[-1])).isdisjoint(_names(attribute_families(other[-1])))
        case "verb_phrase":
            if len(one) != 1 or len(other) != 1:
                return False
            frames = [_names(action_families(verb_lemma(words[0]))) & _STILL_FRAMES for words in (one, other)]
            return one[0][-3:] == other[0][-3:] and not frames[0].isdisjoint(frames[1])
    return False


def _names(families: Sequence[Any]) -> set[str]:
    return {family.name for family in families}


def _same_meaning(one: str, other: str) -> bool:
    """Say whether our own lists hold two nouns for one thing: a ball, a basketball."""
    first, second = noun_lemma(one), noun_lemma(other)
    return any(
        first in family.members and family.members[first] == family.members.get(second)
        for family in object_families(first)
    )


def _sorts(noun: str) -> set[str]:
    lemma = noun_lemma(noun)
    found = _names(object_families(noun)) | _names(object_families(lemma))
    if lemma in _CLOTHES or not found.isdisjoint(_WORN):
        found |= {"worn"}
    return (
        found
        | ({"human"} if is_human(lemma) and lemma not in _COLLECTIVE else set())
        | ({"beast"} if is_animal(lemma) else set())
    )
