"""Whether a swap makes a plausible sentence, and whether it only reorders a list."""

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
    same_meaning,
)
from curation.text.wordlists import word_sets

_SETS = word_sets("plausibility")

_WORN = ("top", "bottom", "hat", "eyewear", "neck")
_INTRANSITIVE_FAMILIES = frozenset({"place", "place_moving", "path", "bare"})
"""Families of verbs that need no object."""
_LIST = re.compile(r"\w+(?:(?: , and | and | , |, | or )\w+)+")
_JOINT = re.compile(r" , and | and | , |, | or ")


def sort_lists(text: str) -> str:
    """Return a text in lower case with the words that "and", "or" and commas join in alphabetical order."""
    low = " ".join(text.lower().split())
    if "," not in low and " and " not in low and " or " not in low:
        return low
    return _LIST.sub(lambda found: " + ".join(sorted(_JOINT.split(found.group()))), low)


def is_likely_swap(caption: str, record: Mapping[str, Any]) -> bool:
    """Return whether a swap exchanged words of one kind: two people, two things to wear, two colours, two movements.

    Words of different kinds make implausible sentences ("a bench holds the man"), and words of one meaning change
    nothing ("ball", "basketball").
    """
    spans = [split_words(caption[start:end]) for start, end, _, _ in record["edits"]]
    exchanged = [words for words in spans if words and words not in (["a"], ["an"])]
    if len(exchanged) != 2:
        return False
    one, other = exchanged
    match record["span_class"]:
        case "noun" | "plural_noun" | "noun_chunk":
            nouns = noun_lemma(one[-1]), noun_lemma(other[-1])
            same_kind = not _kinds(one[-1]).isdisjoint(_kinds(other[-1]))
            return same_kind and (record["span_class"] == "noun_chunk" or not same_meaning(*nouns))
        case "adjective":
            return not _names(attribute_families(one[-1])).isdisjoint(_names(attribute_families(other[-1])))
        case "verb_phrase":
            if len(one) != 1 or len(other) != 1:
                return False
            families = [
                _names(action_families(verb_lemma(words[0]))) & _INTRANSITIVE_FAMILIES for words in (one, other)
            ]
            return one[0][-3:] == other[0][-3:] and not families[0].isdisjoint(families[1])
    return False


def _names(families: Sequence[Any]) -> set[str]:
    return {family.name for family in families}


def _kinds(noun: str) -> set[str]:
    lemma = noun_lemma(noun)
    found = _names(object_families(noun)) | _names(object_families(lemma))
    is_worn = lemma in _SETS["clothes"] or not found.isdisjoint(_WORN)
    is_one_human = is_human(lemma) and lemma not in _SETS["collective_nouns"]
    return found.union(["worn"] * is_worn, ["human"] * is_one_human, ["animal"] * is_animal(lemma))
