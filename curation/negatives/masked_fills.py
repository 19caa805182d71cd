"""Which words of a caption may be hidden, and which fills make a negative."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache

from curation.entailment.word_meanings import WordRelations, feature_value
from curation.text.lexicon import (
    GENDERS,
    LIGHT_NOUNS,
    LIGHT_VERBS,
    is_english,
    noun_lemma,
    number_value,
    same_action,
    verb_lemma,
)
from curation.text.phrases import Caption, noun_form, verb_form
from curation.text.wordlists import word_sets

_SETS = word_sets("masked_fills")

KINDS: Mapping[str, str] = {"attribute": "ADJ", "object": "NOUN", "action": "VERB", "relation": "ADP"}
"""Type of a negative -> part of speech that is hidden for it."""
REASONS = ("same_word", "other_form", "synonym", "kind_of", "told", "pronoun", "compatible")
"""Why a fill is rejected."""

_PLACES = (_SETS["places:1"], _SETS["places:2"], *(frozenset({word}) for word in ("behind", "above", "outside")))
"""Prepositions that can describe the same place; those of different sets exclude each other."""
_VERB_TAGS = ("VBG", "VBZ", "VBP", "VBD", "VB")
_VAGUE = _SETS["vague_adjectives"]


def hidden(caption: Caption, kind: str) -> list[int]:
    """Return the tokens of a caption that may be hidden for a type of negative."""
    test = {"attribute": _is_attribute, "object": _is_object, "action": _is_action, "relation": _is_relation}[kind]
    return [token for token in range(len(caption.words)) if caption.is_whole_word(token) and test(caption, token)]


def _is_attribute(caption: Caption, token: int) -> bool:
    word = caption.words[token]
    return (
        caption.pos[token] == "ADJ"
        and caption.tags[token] == "JJ"
        and caption.deps[token] in ("amod", "acomp")
        and word.isalpha()
        and word not in _VAGUE
        and number_value(word) is None
        and not caption.with_dep(token, "conj", "neg")
    )


def _is_object(caption: Caption, token: int) -> bool:
    lemma = caption.lemma(token)
    return (
        caption.is_noun(token)
        and caption.words[token].isalpha()
        and lemma not in LIGHT_NOUNS
        and number_value(caption.words[token]) is None
        and caption.deps[token] not in ("compound", "nmod", "npadvmod", "amod")
        and not caption.with_dep(token, "compound", "nmod", "neg")
    )


def _is_action(caption: Caption, token: int) -> bool:
    return (
        caption.pos[token] == "VERB"
        and caption.tags[token] in _VERB_TAGS
        and caption.words[token].isalpha()
        and caption.deps[token] not in ("amod", "compound", "prep", "pcomp")
        and caption.verb(token) not in LIGHT_VERBS
        and verb_form(caption.verb(token), caption.tags[token]) == caption.words[token]
        and not caption.with_dep(token, "prt", "neg", "ccomp", "xcomp", "dative", "auxpass")
    )


def _is_relation(caption: Caption, token: int) -> bool:
    objects = caption.with_dep(token, "pobj")
    alone = caption.deps[token] == "prep" and not caption.with_dep(token, "prep", "advmod", "npadvmod")
    fixed = bool(objects) and (
        caption.lemma(objects[0]) in LIGHT_NOUNS or not caption.with_dep(objects[0], "det", "poss")
    )
    return caption.pos[token] == "ADP" and alone and bool(objects) and not fixed and bool(_line(caption.words[token]))


def _line(word: str) -> frozenset[str]:
    return next((line for line in _PLACES if word in line), frozenset())


def rejection_reason(
    caption: Caption, token: int, kind: str, word: str, mentioned: AbstractSet[str], kinds: WordRelations
) -> str:
    """Return why a fill is rejected, or an empty string.

    Args:
        caption: The caption.
        token: The hidden word.
        kind: See `KINDS`.
        word: The fill.
        mentioned: Dictionary forms of all words in the captions of the image.
        kinds: What is known of the words' meanings.
    """
    old = caption.words[token]
    if kind == "relation":
        return _relation_rejection(old, word, mentioned)
    form = {"attribute": word, "object": noun_lemma(word), "action": verb_lemma(word)}[kind]
    base = {"attribute": old, "object": caption.lemma(token), "action": caption.verb(token)}[kind]
    reason = ""
    if form == base or {noun_lemma(word), verb_lemma(word)} & {noun_lemma(old), verb_lemma(old)}:
        reason = "same_word"
    elif not _same_form(caption, token, kind, word, form):
        reason = "other_form"
    elif _same_meaning(kind, base, form, kinds):
        reason = "synonym"
    elif kind != "attribute" and (kinds.covers(base, form) or kinds.covers(form, base)):
        reason = "kind_of"
    elif not mentioned.isdisjoint((word, form)) or (kind == "action" and same_action(form, mentioned)):
        reason = "told"
    elif (
        kind == "object"
        and GENDERS.get(base, "") != GENDERS.get(form, "")
        and (caption.gender_pronouns("m") or caption.gender_pronouns("f"))
    ):
        reason = "pronoun"
    return reason


def _relation_rejection(old: str, word: str, mentioned: AbstractSet[str]) -> str:
    one, other = _line(old), _line(word)
    if word == old or not other:
        return "same_word" if word == old else "other_form"
    if one is other:
        return "compatible"
    return "told" if word in mentioned else ""


def _same_meaning(kind: str, base: str, form: str, kinds: WordRelations) -> bool:
    if kind == "action":
        return kinds.synonymous(f"do:{base}", f"do:{form}")
    return kinds.synonymous(base, form) or (kind == "attribute" and feature_value(base) == feature_value(form))


def _same_form(caption: Caption, token: int, kind: str, word: str, form: str) -> bool:
    """Return whether a fill has the part of speech and form of the hidden word."""
    if not is_english(word) or number_value(word) is not None:
        return False
    if kind == "object":
        if (
            (word.endswith("ing") and verb_lemma(word) != word)
            or form in LIGHT_NOUNS
            or "NOUN" not in _parts(word)
            or ("ADJ" in _parts(word) and feature_value(word)[0])
        ):
            return False
        return noun_form(form, caption.is_plural(token)) == word
    if kind == "action":
        return "VERB" in _parts(word) and form not in LIGHT_VERBS and verb_form(form, caption.tags[token]) == word
    return "ADJ" in _parts(word) and word not in _VAGUE and not _is_comparative(word)


@lru_cache(maxsize=8192)
def _parts(word: str) -> frozenset[str]:
    from lemminflect import getAllLemmas

    return frozenset(getAllLemmas(word))


@lru_cache(maxsize=8192)
def _is_comparative(word: str) -> bool:
    from lemminflect import getLemma

    return (getLemma(word, upos="ADJ") or (word,))[0] != word
