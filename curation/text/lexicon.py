"""Small word lists of our own: colours, numbers, negations, nouns that name no thing, words that mean the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from curation.text.wordlists import word_map, word_rows, word_sets

_SETS = word_sets("lexicon")

COLOURS = word_map("colours")
"""Word -> the colour it names."""

COLOURS_OR_THINGS = _SETS["colours_or_things"]
"""Colours that also name a thing or a person: a colour only where the parse makes them one."""

NUMBERS: Mapping[str, int] = {word: int(value) for word, value in word_rows("numbers")}
COUNTING_NOUNS = _SETS["counting_nouns"]
"""Nouns that count when "of" follows; "a couple" alone are people."""
ALWAYS_PAIRED = _SETS["always_paired"]
"""What comes in pairs: "a pair of jeans" does not count to two, and one or many are said alike."""
SAME_IN_PLURAL = _SETS["same_in_plural"]
"""Nouns of stuff, scenery and parts: one or many of them is not counted by people who describe a picture."""

NEGATIONS = _SETS["negations"]
NEGATED = word_map("denying_adjectives")
"""Adjectives that deny a thing, and the thing."""

LIGHT_NOUNS = _SETS["light_nouns"]
"""Nouns that name nothing one could see by itself: they may come and go."""
IMPLIED_NOUNS = frozenset({"hand", "air"})
"""What holding and jumping imply: they may come, not go."""
VIEW_NOUNS = _SETS["view_nouns"]
"""Nouns about how the picture was taken: they may come only where that is what is varied."""

_PEOPLE = tuple((gender.strip("-"), age.strip("-"), group) for gender, age, *group in word_rows("people"))
_SAME_THINGS = word_rows("same_things")
_CANONICAL: dict[str, str] = {word: group[0] for _, _, group in _PEOPLE for word in group} | {
    word: group[0] for group in _SAME_THINGS for word in group
}
GENDERS: Mapping[str, str] = {word: gender for gender, _, group in _PEOPLE for word in group if gender} | {
    "he": "m", "his": "m", "him": "m", "himself": "m", "she": "f", "her": "f", "hers": "f", "herself": "f",
    "men": "m", "women": "f", "boys": "m", "girls": "f",
}  # fmt: skip
_AGES: Mapping[str, str] = {word: age for _, age, group in _PEOPLE for word in group if age}
PEOPLE = frozenset(word for _, _, group in _PEOPLE for word in group)

OPPOSITES: tuple[tuple[str, ...], ...] = word_rows("opposites")
"""Words that cannot both be said of one thing at one time."""
CONVERSES = _SETS["converses"]
"""Opposites that say the same again when the two things change places."""

FUNCTION_WORDS = _SETS["function_words"]
"""Words that no dictionary of inflections holds."""

LIGHT_VERBS = _SETS["light_verbs"]
"""Verbs that tell of no action by themselves: they may come."""
_SAME_ACTIONS = word_rows("same_actions")
POSITION_VERBS = _SETS["positions"]
"""How a thing is somewhere: any of them is said of what cannot act."""


def same_action(verb: str, others: Iterable[str]) -> bool:
    """Say whether a verb tells what one of the other words tells, by our own list."""
    have = set(others)
    return verb in have or any(verb in group and have.intersection(group) for group in _SAME_ACTIONS)


def agent_verb(word: str) -> str:
    """Return the verb in a noun such as "surfer" or "rider"; the word where there is none."""
    for stem in (word.removesuffix("er"), word.removesuffix("r"), word.removesuffix("er")[:-1]):
        if word.endswith("er") and len(stem) > 2 and verb_lemma(stem) == stem and is_english(stem):
            return stem
    return word


def canonical_noun(lemma: str) -> str:
    """Return the name of the nouns that mean the same, by our own list; the noun itself when it is in none."""
    return _CANONICAL.get(lemma, lemma)


def may_be_same_person(one: str, other: str) -> bool:
    """Say whether nothing known of two nouns' gender and age forbids that they name one person."""
    return all(
        one not in table or other not in table or table[one] == table[other] for table in (GENDERS, _AGES)
    ) and not (one in _AGES and other not in PEOPLE and other in GENDERS)


@lru_cache(maxsize=65536)
def noun_lemma(word: str) -> str:
    """Return a noun's dictionary form ("men" gives "man"), whatever the parser made of it."""
    from lemminflect import getLemma

    low = word.lower()
    return str((getLemma(low, upos="NOUN") or (low,))[0])


@lru_cache(maxsize=65536)
def verb_lemma(word: str) -> str:
    """Return a verb's dictionary form ("riding" gives "ride", where the parser says "rid")."""
    from lemminflect import getLemma

    low = word.lower()
    return str((getLemma(low, upos="VERB") or (low,))[0])


@lru_cache(maxsize=65536)
def is_english(word: str) -> bool:
    """Say whether the dictionary of inflections knows a word."""
    from lemminflect import getAllLemmas

    return bool(getAllLemmas(word.lower()))


def noun_in_adjective(adjective: str) -> str:
    """Return the noun in an adjective such as "snowy", "sunny" or "wooden"; the adjective where there is none."""
    for ending in ("y", "en"):
        stem = adjective.removesuffix(ending)
        if stem == adjective or len(stem) < 3:
            continue
        for noun in (stem, stem[:-1] if stem[-1] == stem[-2] else stem, f"{stem}e"):
            if noun_lemma(noun) == noun and is_english(noun):
                return noun
    return adjective


def number_value(word: str) -> int | None:
    """Return what a number word or plain digits count to; None for other words."""
    low = word.lower()
    if low.isascii() and low.isdigit() and len(low) <= 6:
        return int(low)
    return NUMBERS.get(low)


def opposites_of(words: Iterable[str]) -> dict[str, set[str]]:
    """Return, for a text's words, which words would say the opposite of one of them."""
    have = set(words)
    found: dict[str, set[str]] = {}
    for one, other in OPPOSITES:
        if one in have:
            found.setdefault(other, set()).add(one)
        if other in have:
            found.setdefault(one, set()).add(other)
    return found
