"""The parts of a claim, each worked out once: phrases as things, and what the words between two of them say.

Captions say little that none has said before: "a man", "the grass", "is running through". What depends on such words
alone is kept, so that reading a text is mostly looking up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from curation.language.claim_words import BE, CLAUSE, DENYING, JOINING, PREPOSITIONS, RELATIVE, kind_of_tagged
from curation.language.lexicon import COLOURS, noun_lemma, number_value, verb_lemma
from curation.language.word_meanings import DIRECTIONS, PLACED_BY, is_describing, value_of

_MOST_COPIES = 4
_HAVING = frozenset({"has", "have", "had", "having"})
_KEPT = 1 << 15

_IN_PHRASE = r"[DUAR]|(?<=A)&(?=A)"
_VERB_TOO = rf"v|{_IN_PHRASE}"
PHRASE = re.compile(
    # articles, numbers and adjectives, then nouns; a verb stands among them only after an article ("a running dog")
    rf"[DU](?:{_VERB_TOO})*N+|A(?:{_IN_PHRASE})*N+|N+"
    # "a square", whose noun passes for an adjective; without an article adjectives alone are no thing
    rf"|D(?:{_VERB_TOO})*(?<=A)(?!{_VERB_TOO})"
)
"""Finds noun phrases in the kinds of a text's words, of one letter each; see `kinds_in`."""


def kinds_in(words: Sequence[str], tags: Mapping[str, str]) -> str:
    """Return a letter for each word: as `claim_words.kind_of`, but ``v`` for a verb that may describe, ``&`` for "and" and ","."""
    kinds = "".join(map(_kind, words, map(tags.get, words)))
    if not COLOURS.keys().isdisjoint(words):
        for at, word in enumerate(words[:-1]):
            # "a red large hoop": taggers take a colour out of its place for a noun.
            if word in COLOURS and kinds[at + 1] in "AN":
                kinds = f"{kinds[:at]}A{kinds[at + 1 :]}"
    return kinds


@lru_cache(maxsize=1 << 16)
def _kind(word: str, tag: str | None) -> str:
    kind = kind_of_tagged(word, tag or "")
    if kind == "V" and word.endswith(("ing", "ed", "en", "n")):
        return "v"
    return "&" if word in ("and", ",") else kind


class Named(NamedTuple):
    """What a noun phrase names: see `claims.Thing`, `number` of them where copies are wanted."""

    noun: str
    said: frozenset[str]
    number: int
    plural: bool
    denied: bool


@lru_cache(maxsize=_KEPT)
def named_by(words: tuple[str, ...], kinds: str, copies: bool) -> Named:
    """Return what a noun phrase names.

    Args:
        words: Its words; the last is its head.
        kinds: What they are.
        copies: As in `equivalence.read_claims`.
    """
    head = words[-1]
    noun = noun_lemma(head)
    said: set[str] = set()
    number, plural, denied = 1, noun != head, False
    for word, kind in zip(words[:-1], kinds, strict=False):
        value = number_value(word) if kind == "U" else None
        if value is not None and value != 1:
            number = value if copies and value <= _MOST_COPIES else 1
            said |= set() if number > 1 else {f"#{value}"}
            plural = False
        elif word == "one" and not copies:
            said.add("#1")
        elif word == "no":
            denied = True
        elif kind in "Vv" and not value_of(word)[0]:
            said.add(f"do:{verb_lemma(word)}")
        elif kind not in "DUC&":
            said.add(value_of(word)[1])
    return Named(noun, frozenset(said), number, plural, denied)


class Relation(NamedTuple):
    """How a run of words links two things.

    Attributes:
        told: The words.
        name: A direction by itself, any other run of words as it stands.
        deeds: What the one side does besides.
        does: What whoever acts does; empty for a place.
        passive: The other side acts.
    """

    told: tuple[str, ...]
    name: str
    deeds: tuple[str, ...]
    does: str
    passive: bool


@lru_cache(maxsize=_KEPT)
def relation_of(told: tuple[str, ...]) -> Relation:
    """Return what one word or more between two things say of them."""
    *verbs, last = [word if word in PREPOSITIONS else verb_lemma(word) for word in told]
    passive = last == "by" and len(told) > 1 and told[-2].endswith(("ed", "en", "n", "t"))
    if passive:
        last = verbs.pop()
    elif last not in DIRECTIONS and last not in PLACED_BY and last in PREPOSITIONS and verbs:
        last = f"{verbs[-1]} {last}"
    acts = last not in PREPOSITIONS and last not in DIRECTIONS and " " not in last
    return Relation(told, last, tuple(f"do:{verb}" for verb in verbs), f"do:{last}" if acts else "", passive)


class Between(NamedTuple):
    """What stands between two things, or before the first or behind the last.

    Attributes:
        told: The words that say something; "with" where only "has" does.
        joint: It begins as a list goes on.
        relative: "who", "that" and so on begin a clause about the thing before.
        clause: "while" or "as" begins another clause.
        denying: Words that deny a deed.
        without: One of them is "without".
    """

    told: tuple[str, ...]
    joint: bool
    relative: bool
    clause: bool
    denying: frozenset[str]
    without: bool


@lru_cache(maxsize=_KEPT)
def between_of(words: tuple[str, ...]) -> Between:
    """Return what words between two things say; marks are left out before, all but those that join."""
    told = telling(words)
    if not told and not _HAVING.isdisjoint(words):
        told = ("with",)
    joint = bool(words) and words[0] in JOINING
    relative = not joint and not RELATIVE.isdisjoint(words)
    clause = not CLAUSE.isdisjoint(words)
    return Between(told, joint, relative, clause, DENYING.intersection(words), "without" in words)


def telling(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words that say something by themselves."""
    return tuple(word for word in words if word not in JOINING and word not in BE and word not in RELATIVE)


@lru_cache(maxsize=_KEPT)
def said_by(word: str) -> tuple[str, str]:
    """Return what a word without an object says of its subject, and its dictionary form."""
    form = word if word in PREPOSITIONS else verb_lemma(word)
    return value_of(word)[1] if is_describing(word) else f"do:{form}", form
