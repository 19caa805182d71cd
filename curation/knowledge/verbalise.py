"""Facts as clauses, inserted into captions with correct grammar, case and punctuation."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from curation.knowledge.concept_linking import parts_of_speech
from curation.knowledge.interface import Edge
from curation.knowledge.visual_lexicon import PARTS
from curation.models.parser import CaptionParse
from curation.text.wordlists import word_sets

_SETS = word_sets("verbalise")

_MASS = _SETS["mass_nouns"]
_REPAIRED = {"clothe": "clothing", "build": "building", "olympic": "Olympic"}
"""Words that lemmatising graphs have cut too short."""
_AN_FOR = ("hour", "honest", "heir")
_A_FOR = ("uni", "use", "eu", "one", "ute")
_CARRIERS = ("form", "type", "kind", "sort", "piece", "article")
_ROLES = ("person", "adult", "child", "athlete", "musician", "performer")
_PREPOSITIONS = _SETS["prepositions"]
_ENDS = (".", "!", "?")


@functools.lru_cache(maxsize=1 << 14)
def inflected(word: str, tag: str) -> str:
    """Return a word in the form of a Penn tag (``NNS``, ``VBG``, ``VBN``); itself where none is known."""
    from lemminflect import getInflection

    forms = getInflection(word, tag=tag)
    # The last of several is the unmarked one ("baseballs", "baseball"), the first the usual one.
    return forms[0] if forms else word


def plural_of(words: str) -> str:
    """Return a noun phrase in the plural; mass nouns stay as they are."""
    *front, last = words.split()
    return words if words in _MASS or last in _MASS else " ".join([*front, inflected(last, "NNS")])


def with_article(words: str) -> str:
    """Return a noun phrase with ``a`` or ``an``; mass nouns get none."""
    if words.rsplit(maxsplit=1)[-1] in _MASS:
        return words
    vowel = (words[0] in "aeiou" and not words.startswith(_A_FOR)) or words.startswith(_AN_FOR)
    return f"{'an' if vowel else 'a'} {words}"


def predicate(edge: Edge, plural: bool) -> str:
    """Return a fact as a clause that begins with the verb: ``is a kind of animal``; empty if it has no such form.

    Args:
        edge: The fact.
        plural: Whether the head is plural.
    """
    tail = " ".join(_REPAIRED.get(word, word) for word in edge.tail.split())
    be, have = ("are", "have") if plural else ("is", "has")
    clause = ""
    match edge.relation:
        case "IsA" | "InstanceOf":
            clause = _kind(tail, be, plural=plural)
        case "HasA":
            clause = f"{have} {_parts(tail, plural=plural)}"
        case "PartOf":
            clause = f"{be} part of {with_article(tail)}"
        case "MadeOf":
            clause = f"{be} made of {tail}"
        case "HasProperty":
            clause = f"{be} {tail}"
        case "UsedFor" if activity := _activity(tail):
            clause = f"{be} used for {activity}"
        case "CapableOf" if action := _verb_phrase(tail, "VB"):
            clause = f"can {action}"
        case "AtLocation":
            clause = _location(tail)
        case "ReceivesAction" if action := _verb_phrase(tail, "VBN"):
            clause = f"can be {action}"
    return clause


def _parts(tail: str, *, plural: bool) -> str:
    """Return a part with its article or number; without for a plural head, because each has its own."""
    *number, part = tail.split()
    many = plural or bool(number) or any(PARTS.get(part, {}).values())
    name = inflected(part, "NNS") if many else with_article(part)
    return " ".join([*number, name]) if number and not plural else name


def _kind(tail: str, be: str, *, plural: bool) -> str:
    """Return the clause of a kind; ``form of clothing`` becomes ``clothing``."""
    front, of, rest = tail.partition(" of ")
    tail = rest if of and front in _CARRIERS else tail
    if tail in _ROLES:
        people = "people" if tail == "person" else "children" if tail == "child" else plural_of(tail)
        return f"{be} {people if plural else with_article(tail)}"
    return f"{be} {plural_of(tail)}" if plural else f"{be} a kind of {tail}"


def _location(tail: str) -> str:
    """Return the clause of a location; a tail may begin with its own preposition (``at park``)."""
    first, _, rest = tail.partition(" ")
    if first in ("at", "on", "in") and rest:
        return f"can be found {first} {with_article(rest)}"
    last = tail.rsplit(maxsplit=1)[-1]
    where = "on" if last in _SETS["places_with_on"] else "at" if last in _SETS["places_with_at"] else "in"
    return f"can be found {where} {with_article(tail)}"


def _activity(tail: str) -> str:
    """Return a purpose as ``playing tennis``, or as its noun."""
    first = tail.split(maxsplit=1)[0]
    if first.endswith("ing") and len(first) > len("swing"):
        return tail
    if "VERB" not in parts_of_speech(first):
        return tail if len(tail.split()) == 1 else ""
    return _verb_phrase(tail, "VBG")


def _verb_phrase(tail: str, tag: str) -> str:
    """Return a phrase of a verb and at most one object or particle with the verb inflected; empty for other phrases."""
    verb, *rest = tail.split()
    if "VERB" not in parts_of_speech(verb) or len(rest) > 2 or not _PREPOSITIONS.isdisjoint(rest[:-1]):
        return ""
    inflected_verb = verb if tag == "VB" else inflected(verb, tag)
    if tag == "VBG" and inflected_verb == verb:
        return ""
    if rest:
        last = parts_of_speech(rest[-1])
        if "ADV" not in last and rest[-1] not in _PREPOSITIONS and ("NOUN" in last or not last):
            rest = plural_of(" ".join(rest)).split() if _countable(rest[-1]) else rest
    return " ".join([inflected_verb, *rest])


def _countable(word: str) -> bool:
    """Return whether an object gets a plural: balls, but tennis."""
    return (
        word not in _MASS and not word.endswith(("ball", "is", "ing", "y", "s", "er", "f", "ism"))
    ) or word == "ball"


def insert_fact(caption: str, parse: CaptionParse, link: Mapping[str, Any], clause: str, person: bool) -> str:
    """Return a caption with a fact inserted, or an empty string where it does not fit.

    A relative clause after a noun phrase that is followed by a verb, a mark or the end; a sentence of its own before a
    preposition or ``and``, where a clause would split the phrase.

    Args:
        caption: As written.
        parse: Its parse.
        link: The concept's record of `link_concepts`.
        clause: From `predicate`.
        person: Whether the clause begins with ``who`` rather than ``which``.
    """
    first, stop = link["tokens"]
    end = parse["starts"][stop - 1] + len(parse["words"][stop - 1])
    if caption[end : end + 1] in ("-", "'", "\N{RIGHT SINGLE QUOTATION MARK}", "/", "_"):
        return ""
    after = next((token for token in range(stop, len(parse["words"])) if parse["words"][token].strip()), None)
    relative = f", {'who' if person else 'which'} {clause}"
    follower = parse["words"][after] if after is not None else ""
    if not follower or not any(char.isalnum() for char in follower):
        return caption[:end] + relative + caption[end:] if follower not in ("'s", "(", '"', "-") else ""
    joined = parse["deps"][stop - 1] == "conj"
    if parse["pos"][after or 0] in ("VERB", "AUX") and not joined:
        return f"{caption[:end]}{relative},{caption[end:]}"
    article = "" if link["sense"] == "event" and not link["countable"] else "the "
    sentence = f"{article}{' '.join(parse['words'][first:stop]).lower()} {clause}"
    sentence = sentence[0].upper() + sentence[1:]
    body = caption.rstrip()
    again = sum(word.lower() == parse["words"][stop - 1].lower() for word in parse["words"]) > 1
    if body.endswith(_ENDS) and not again:
        gap = " " if body[-2:-1] == " " else ""
        return f"{body} {sentence}{gap}."
    return "" if joined else f"{caption[:end]}{relative},{caption[end:]}"
