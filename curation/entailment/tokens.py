"""Tokens of texts and their word classes, from our own lists and the captions' parses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from curation.entailment.word_meanings import PATTERN_NOUNS, feature_value, is_descriptive
from curation.models.parser import Parse
from curation.text.lexicon import COUNTING_NOUNS, NEGATIONS, NUMBERS
from curation.text.wordlists import word_rows, word_sets
from data_manifests.text_diff import SIGNS

_SETS = word_sets("claims")

_LETTER = rf"[^\W\d_{SIGNS}]"
_WORD = re.compile(rf"['\u2019]s\b|\d+(?:[.,]\d+)*|[{SIGNS}]|{_LETTER}+(?:(?:['\u2019](?!s\b)|-){_LETTER}+)*|[^\w\s]")

_PHRASES = {tuple(run.split()): name for run, name in word_rows("preposition_phrases")}
_PHRASE_LENGTHS: Mapping[str, list[int]] = {
    first: sorted({len(run) for run in _PHRASES if run[0] == first}, reverse=True)
    for first in {run[0] for run in _PHRASES}
}
"""First word of a phrase -> lengths of the phrases that begin with it, longest first."""
PREPOSITIONS = _SETS["prepositions"] | set(_PHRASES.values())
BE_FORMS = _SETS["be_forms"]
CONJUNCTIONS = _SETS["conjunctions"]
CLAUSE_WORDS = frozenset({"while", "as"})
DENIALS = _SETS["denials"]
RELATIVE_PRONOUNS = frozenset({"who", "that", "which", "whose"})
SHOWING_VERBS = _SETS["showing_verbs"]
PICTURE_NOUNS = _SETS["picture_nouns"]
QUANTITY_NOUNS = _SETS["quantity_nouns"]
_TAGS: Mapping[str, str] = {
    "NOUN": "N", "PROPN": "N", "ADJ": "A", "VERB": "V", "AUX": "X", "ADP": "P", "SCONJ": "P", "PART": "P", "CCONJ": "C",
    "ADV": "R", "NUM": "U", "DET": "D", "PRON": "O", "PUNCT": "Q", "INTJ": "N",
}  # fmt: skip


def split_words(text: str) -> list[str]:
    """Return a text's words and punctuation marks in lower case."""
    return list(_split(text))


@lru_cache(maxsize=1 << 13)
def _split(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def content_words(text: str) -> str:
    """Return a text's words in lower case, without articles and punctuation, joined by spaces."""
    return " ".join(word for word in split_words(text) if word[0].isalnum() and word not in ("a", "an", "the"))


def tags_of(parses: Iterable[Parse]) -> dict[str, str]:
    """Return the word class of each word of some captions; where it has several, the first one."""
    found: dict[str, str] = {}
    for parse in parses:
        for word, pos in zip(parse["words"], parse["pos"], strict=True):
            for part in (word.lower(),) if word.isalpha() else split_words(word):
                found.setdefault(part, _TAGS.get(pos, "N"))
    return found


def tag_new_words(
    caption: str, text: str, edits: Sequence[Sequence[int]], tags: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the tags, extended by those of an edit's new words.

    A new word gets the tag of the word that it replaces if the dictionary allows it, else the first tag that it allows.
    """
    added: dict[str, str] = {}
    for start, end, new_start, new_end in edits:
        words = [word for word in split_words(text[new_start:new_end]) if word not in tags and word[0].isalpha()]
        if not words:
            continue
        old = split_words(caption[start:end])
        place = tags.get(old[-1], "") if old else ""
        added |= {word: _tag(word, place if word == words[-1] else "") for word in words}
    return {**tags, **added} if added else tags


@lru_cache(maxsize=1 << 14)
def _tag(word: str, place: str) -> str:
    from lemminflect import getAllLemmas

    allowed = [_TAGS.get(pos, "N") for pos in ("ADJ", "NOUN", "VERB", "ADV") if pos in getAllLemmas(word)]
    if place and (place in allowed or not allowed):
        return place
    return allowed[0] if allowed else "N"


_CLASS_OF_WORD: Mapping[str, str] = (
    dict.fromkeys(NUMBERS, "U")
    | dict.fromkeys(NEGATIONS, "P")
    | dict.fromkeys(CONJUNCTIONS, "C")
    | dict.fromkeys(BE_FORMS, "X")
    | dict.fromkeys(PREPOSITIONS, "P")
    | dict.fromkeys((*_SETS["determiners"], "no"), "D")
    | dict.fromkeys((*PATTERN_NOUNS, *COUNTING_NOUNS, "twins"), "N")
)


def word_class(word: str, tags: Mapping[str, str]) -> str:
    """Return a word's class: D (determiner), N, A, V, U (number), P, X (form of be), C, R, O or Q (punctuation)."""
    return _word_class(word, tags.get(word, ""))


@lru_cache(maxsize=1 << 16)
def _word_class(word: str, tag: str) -> str:
    fixed = "U" if word.isdigit() else _CLASS_OF_WORD.get(word)
    if fixed is not None:
        return fixed
    tag = tag or ("N" if word[0].isalnum() else "Q")
    return "A" if is_descriptive(word) and (tag != "N" or feature_value(word)[0] != "colour") else tag


def join_phrases(words: Sequence[str]) -> list[str]:
    """Return the words with each preposition of several words joined to one item."""
    joined: list[str] = []
    at = 0
    while at < len(words):
        for length in _PHRASE_LENGTHS.get(words[at], ()):
            phrase = _PHRASES.get(tuple(words[at : at + length]))
            if phrase is not None:
                joined.append(phrase)
                at += length
                break
        else:
            joined.append(words[at])
            at += 1
    return joined
