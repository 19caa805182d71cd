"""Word classes from our own lists (colours, numbers, negations, people, opposites) and dictionary forms of words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from curation.text.wordlists import word_map, word_rows, word_sets

_SETS = word_sets("lexicon")

COLOURS = word_map("colours")
"""Word -> the colour it names."""

COLOURS_OR_THINGS = _SETS["colours_or_things"]
"""Colours that are also things or people ("orange", "blonde"): a colour only where the parse says so."""

NUMBERS: Mapping[str, int] = {word: int(value) for word, value in word_rows("numbers")}
COUNTING_NOUNS = _SETS["counting_nouns"]
"""Nouns that count when "of" follows; "a couple" alone is people."""
ALWAYS_PAIRED = _SETS["always_paired"]
"""Things that come in pairs: "a pair of jeans" is one thing, and singular and plural mean the same."""
SAME_IN_PLURAL = _SETS["same_in_plural"]
"""Nouns for substances, scenery and parts, which captions do not count: singular and plural mean the same."""

NEGATIONS = _SETS["negations"]
NEGATED = word_map("denying_adjectives")
"""Adjective that states an absence -> what is absent ("shirtless" -> "shirt")."""

LIGHT_NOUNS = _SETS["light_nouns"]
"""Nouns for nothing that can be seen by itself: a rewrite may add and drop them."""
IMPLIED_NOUNS = frozenset({"hand", "air"})
"""Nouns that holding and jumping imply: a rewrite may add them, not drop them."""
VIEW_NOUNS = _SETS["view_nouns"]
"""Nouns about how the picture was taken: only rewrites that vary the viewpoint may add them."""

_PEOPLE = tuple((gender.strip("-"), age.strip("-"), group) for gender, age, *group in word_rows("people"))
_CANONICAL = {
    word: group[0] for group in (*(group for _, _, group in _PEOPLE), *word_rows("same_things")) for word in group
}
GENDERS: Mapping[str, str] = (
    {word: gender for gender, _, group in _PEOPLE for word in group if gender}
    | dict.fromkeys(("he", "his", "him", "himself", "men", "boys"), "m")
    | dict.fromkeys(("she", "her", "hers", "herself", "women", "girls"), "f")
)
_AGES: Mapping[str, str] = {word: age for _, age, group in _PEOPLE for word in group if age}
PEOPLE = frozenset(word for _, _, group in _PEOPLE for word in group)

OPPOSITES = word_rows("opposites")
"""Pairs of words that cannot both be true of one thing at one time."""
_OPPOSITES_OF: dict[str, list[str]] = {}
for _one, _other in OPPOSITES:
    _OPPOSITES_OF.setdefault(_one, []).append(_other)
    _OPPOSITES_OF.setdefault(_other, []).append(_one)
CONVERSES = _SETS["converses"]
"""Opposites that mean the same again when the two things change places."""

FUNCTION_WORDS = _SETS["function_words"]
"""Words that are not in the dictionary of inflections."""

LIGHT_VERBS = _SETS["light_verbs"]
"""Verbs that mean no action by themselves: a rewrite may add them."""
_SAME_ACTIONS = word_rows("same_actions")
POSITION_VERBS = _SETS["positions"]
"""Verbs for being somewhere: captions use any of them for a lifeless thing."""


def same_action(verb: str, others: Iterable[str]) -> bool:
    """Return whether a verb means the same action as one of the other words, by our own list."""
    words = set(others)
    return verb in words or any(verb in group and words.intersection(group) for group in _SAME_ACTIONS)


def agent_verb(word: str) -> str:
    """Return the verb in a noun such as "surfer" or "rider"; the word where there is none."""
    for stem in (word.removesuffix("er"), word.removesuffix("r"), word.removesuffix("er")[:-1]):
        if word.endswith("er") and len(stem) > 2 and verb_lemma(stem) == stem and is_english(stem):
            return stem
    return word


def canonical_noun(lemma: str) -> str:
    """Return the noun that stands for all nouns of the same meaning in our own list; the noun itself if it is not in it."""
    return _CANONICAL.get(lemma, lemma)


@lru_cache(maxsize=1 << 14)
def may_be_same_person(one: str, other: str) -> bool:
    """Return whether two nouns may name one person: their genders and ages, where known, are the same."""
    return all(
        one not in table or other not in table or table[one] == table[other] for table in (GENDERS, _AGES)
    ) and not (one in _AGES and other not in PEOPLE and other in GENDERS)


@lru_cache(maxsize=65536)
def noun_lemma(word: str) -> str:
    """Return a noun's dictionary form ("men" gives "man"); the parser's lemma is often wrong."""
    from lemminflect import getLemma

    low = word.lower()
    return str((getLemma(low, upos="NOUN") or (low,))[0])


@lru_cache(maxsize=65536)
def verb_lemma(word: str) -> str:
    """Return a verb's dictionary form ("riding" gives "ride"; the parser says "rid")."""
    from lemminflect import getLemma

    low = word.lower()
    return str((getLemma(low, upos="VERB") or (low,))[0])


@lru_cache(maxsize=65536)
def is_english(word: str) -> bool:
    """Return whether a word is in the dictionary of inflections."""
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
    """Return the value of a number word or of digits; None for other words."""
    low = word.lower()
    if low.isascii() and low.isdigit() and len(low) <= 6:
        return int(low)
    return NUMBERS.get(low)


def opposites_of(words: Collection[str]) -> dict[str, set[str]]:
    """Return the opposites of a text's words, each with the words that it is the opposite of."""
    found: dict[str, set[str]] = {}
    for word in words:
        for opposite in _OPPOSITES_OF.get(word, ()):
            found.setdefault(opposite, set()).add(word)
    return found
