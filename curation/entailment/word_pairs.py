"""The words that an edit replaces, in dictionary form, and whether they mean the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.entailment.tokens import split_words, word_class
from curation.entailment.word_meanings import WordRelations
from curation.text.lexicon import NEGATIONS, noun_lemma, verb_lemma

WordPair = tuple[str, str, str]
"""Old word, new word, and the class of the old one (see `word_class`); no class where only one text has the words."""

_ARTICLES = ("a", "an", "the")


def replaced_words(caption: str, record: Mapping[str, Any], tags: Mapping[str, str]) -> list[WordPair]:
    """Return a pair for each word that an edit replaces by another one, without articles.

    Where an edit changes the number of words, their last words stand for them.
    """
    pairs: list[WordPair] = []
    for start, end, new_start, new_end in record["edits"]:
        old, new = (
            [word for word in split_words(text) if word not in _ARTICLES]
            for text in (caption[start:end], record["text"][new_start:new_end])
        )
        if not old or not new or NEGATIONS.intersection(old) != NEGATIONS.intersection(new):
            if old or new:
                pairs.append((" ".join(old), " ".join(new), ""))
            continue
        if len(old) != len(new):
            old, new = old[-1:], new[-1:]
        for before, after in zip(old, new, strict=True):
            if before != after:
                kind = word_class(before, tags)
                pairs.append((_lemma(before, kind), _lemma(after, kind), kind))
    return pairs


def synonym_or_hypernym(pairs: Sequence[WordPair], relations: WordRelations) -> str:
    """Return ``synonym`` or ``hypernym`` if all pairs are such words, else an empty string."""
    found = ""
    for old, new, kind in pairs:
        if not kind or not old or not new:
            return ""
        prefix = "do:" if kind == "V" else ""
        if relations.synonymous(prefix + old, prefix + new):
            found = found or "synonym"
        elif kind in "NV" and any(
            relations.is_hypernym(one, two) or (kind == "N" and relations.covers(one, two))
            for one, two in ((old, new), (new, old))
        ):
            found = "hypernym"
        else:
            return ""
    return found


def _lemma(word: str, kind: str) -> str:
    if kind == "N":
        return noun_lemma(word)
    return verb_lemma(word) if kind == "V" else word
