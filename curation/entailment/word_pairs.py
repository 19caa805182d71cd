"""Which words an edit puts in place of which, in dictionary form, and whether they mean the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.entailment.tokens import split_words, word_class
from curation.entailment.word_meanings import WordRelations
from curation.text.lexicon import NEGATIONS, noun_lemma, verb_lemma

WordPair = tuple[str, str, str]
"""Old word, new word, and what the old one is: N, V, A or another letter."""


def replaced_words(caption: str, record: Mapping[str, Any], tags: Mapping[str, str]) -> list[WordPair]:
    """Return the words that an edit exchanges, one pair for each word that differs; articles are not counted.

    Where an edit puts another number of words, the last word of each stands for them.
    """
    pairs: list[WordPair] = []
    for start, end, new_start, new_end in record["edits"]:
        old = [word for word in split_words(caption[start:end]) if word not in ("a", "an", "the")]
        new = [word for word in split_words(record["text"][new_start:new_end]) if word not in ("a", "an", "the")]
        if not old or not new:
            if old or new:
                pairs.append((" ".join(old), " ".join(new), ""))
            continue
        if NEGATIONS.intersection(old) != NEGATIONS.intersection(new):
            pairs.append((" ".join(old), " ".join(new), ""))
            continue
        if len(old) != len(new):
            old, new = old[-1:], new[-1:]
        for one, other in zip(old, new, strict=True):
            if one != other:
                kind = word_class(one, tags)
                pairs.append((_lemma(one, kind), _lemma(other, kind), kind))
    return pairs


def synonym_or_hypernym(pairs: Sequence[WordPair], kinds: WordRelations) -> str:
    """Return ``synonym`` or ``hypernym`` when that is all that the pairs change, else an empty string.

    A pair in which a word is only put in or left out changes more.
    """
    found = ""
    for old, new, kind in pairs:
        if not kind or not old or not new:
            return ""
        if _same(old, new, kind, kinds):
            found = found or "synonym"
        elif kind in "NV" and any(
            kinds.is_hypernym(one, two) or (kind == "N" and kinds.covers(one, two))
            for one, two in ((old, new), (new, old))
        ):
            found = "hypernym"
        else:
            return ""
    return found


def _same(old: str, new: str, kind: str, kinds: WordRelations) -> bool:
    if kind == "V":
        return kinds.synonymous(f"do:{old}", f"do:{new}")
    return kinds.synonymous(old, new)


def _lemma(word: str, kind: str) -> str:
    if kind == "N":
        return noun_lemma(word)
    return verb_lemma(word) if kind == "V" else word
