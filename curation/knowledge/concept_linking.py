"""From a parse to the names a knowledge graph may have: dictionary forms, compounds, particles."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from curation.models.parser import CaptionParse
from curation.text.dependencies import Dependencies
from curation.text.wordlists import word_sets

_SETS = word_sets("concept_linking")

PartOfSpeech = Literal["NOUN", "VERB"]

_LONGEST = 4
"""Most tokens of a compound concept: longer ones are phrases about something, not names of it."""

_NOUNS = ("NOUN", "PROPN", "INTJ")  # "Boy" at the beginning of a caption passes for an exclamation
_MODIFIERS = ("NOUN", "PROPN", "ADJ")
_NOT_A_THING = _SETS["not_things"]
"""Heads that count, locate or refer to other nouns: the object is in the words around them."""
_PLURAL_ONLY = _SETS["plural_only"]
"""Plurals that mean something else than several of their singular: drinking glasses are the rarer reading."""
_ABSENT = _SETS["absence_prepositions"]
"""What follows is not in the image: no leash, and a broom ridden like a horse is no horse."""
_IRREGULAR = {"people": "person", "kids": "kid", "clothes": "clothes"}


@dataclass(frozen=True, slots=True)
class Mention:
    """A noun or verb of a caption with its possible names in a graph.

    Attributes:
        head: Its main token.
        pos: Its part of speech.
        options: (first token, names for the tokens from there to the end), longest first. A name is in a graph's
            form: lower case, spaces.
        end: One past the last token.
        plural: A noun in the plural.
        determiner: Lower-case determiner or number in front of it, or empty.
        modifiers: Lower-case adjectives and nouns that modify it.
        negated: ``no dog``, ``without a leash``, ``like a horse``: it is not in the image.
        doubtful: Right after a plural and with a verb's form: in "firefighters duck" a parser may see a bird.
    """

    head: int
    pos: PartOfSpeech
    options: tuple[tuple[int, tuple[str, ...]], ...]
    end: int
    plural: bool = False
    determiner: str = ""
    modifiers: tuple[str, ...] = ()
    negated: bool = False
    doubtful: bool = False


@functools.lru_cache(maxsize=1 << 16)
def noun_lemmas(word: str, plural: bool, guess: str) -> tuple[str, ...]:
    """Return a noun's dictionary forms, likeliest first.

    Args:
        word: As written.
        plural: Whether it was tagged as a plural.
        guess: The parser's lemma.
    """
    word, guess = word.lower(), guess.lower()
    if word in _IRREGULAR:
        return (_IRREGULAR[word],)
    if not plural or word in _PLURAL_ONLY:
        return (word,)
    from lemminflect import getLemma

    found = [form for form in getLemma(word, upos="NOUN") if form != word]
    found.sort(key=lambda form: form != guess)
    return tuple(dict.fromkeys([*(found or [guess]), word]))


@functools.lru_cache(maxsize=1 << 16)
def verb_lemmas(word: str, guess: str) -> tuple[str, ...]:
    """Return a verb's dictionary forms, likeliest first; the parser's guess last (it makes ``rid`` of ``riding``)."""
    from lemminflect import getLemma

    return tuple(dict.fromkeys([*getLemma(word.lower(), upos="VERB"), guess.lower()]))


@functools.lru_cache(maxsize=1 << 14)
def parts_of_speech(word: str) -> frozenset[str]:
    """Return the parts of speech that the dictionary gives a word; none for an unknown one."""
    from lemminflect import getAllLemmas

    return frozenset(getAllLemmas(word))


def may_be_verb(word: str) -> bool:
    """Return whether a word can be a form of a verb."""
    return "VERB" in parts_of_speech(word)


def mentions(parse: CaptionParse) -> Iterator[Mention]:
    """Yield the mentions of a caption in reading order: head nouns and full verbs."""
    start_of = {token: first for first, stop in parse["noun_phrases"] for token in range(first, stop)}
    children = Dependencies(parse).children
    for token, pos in enumerate(parse["pos"]):
        inside = parse["deps"][token] == "compound" and parse["heads"][token] > token
        if pos in _NOUNS and not inside and parse["words"][token].lower() not in _NOT_A_THING:
            yield _noun(parse, token, start_of.get(token, token), children[token])
        elif pos == "VERB" and parse["lemmas"][token] not in ("be", "have"):
            yield _verb(parse, token, children[token])


def _noun(parse: CaptionParse, head: int, start: int, children: list[int]) -> Mention:
    words = [word.lower() for word in parse["words"]]
    plural = parse["tags"][head] in ("NNS", "NNPS") or words[head] == "people"
    lemmas = noun_lemmas(words[head], plural, parse["lemmas"][head])
    options: list[tuple[int, tuple[str, ...]]] = [(head, lemmas)]
    for first in range(head - 1, max(start, head - _LONGEST + 1) - 1, -1):
        if words[first] == "-":
            continue
        if parse["pos"][first] not in _MODIFIERS and parse["tags"][first] not in ("VBG", "VBN"):
            break
        front = [word for word in words[first:head] if word != "-"]
        bare = [parse["lemmas"][token].lower() for token in range(first, head) if words[token] != "-"]
        # Some graphs hold compounds as written ("boxing ring"), some word by word in dictionary form ("box ring").
        names = [" ".join([*part, lemma]) for lemma in lemmas for part in (front, bare)]
        options.insert(0, (first, tuple(dict.fromkeys(names))))
    left = [token for token in children if token < head]
    determiners = [words[token] for token in left if parse["deps"][token] in ("det", "nummod", "poss")]
    governor = words[parse["heads"][head]] if parse["deps"][head] == "pobj" else ""
    return Mention(
        head,
        "NOUN",
        tuple(options),
        head + 1,
        plural,
        determiners[0] if determiners else "",
        tuple(words[token] for token in left if parse["deps"][token] in ("amod", "compound", "nmod")),
        negated="no" in determiners or not _ABSENT.isdisjoint((governor, words[start - 1] if start else "")),
        doubtful=head > 0 and parse["tags"][head - 1] == "NNS" and may_be_verb(words[head]),
    )


def _verb(parse: CaptionParse, head: int, children: list[int]) -> Mention:
    lemmas = verb_lemmas(parse["words"][head], parse["lemmas"][head])
    options: list[tuple[int, tuple[str, ...]]] = [(head, lemmas)]
    particles = [token for token in children if parse["deps"][token] == "prt" and token > head]
    if particles:
        particle = parse["words"][particles[0]].lower()
        options.insert(0, (head, tuple(f"{lemma} {particle}" for lemma in lemmas)))
    negated = any(parse["deps"][token] == "neg" for token in children)
    return Mention(head, "VERB", tuple(options), head + 1, negated=negated)


def context_words(parses: Iterable[CaptionParse]) -> set[str]:
    """Return the content words of all captions of an image, in dictionary form and as written."""
    return {word for parse in parses for word, _ in content_words(parse)}


def content_words(parse: CaptionParse) -> Iterator[tuple[str, int]]:
    """Yield (form, token) of a caption's nouns, verbs and adjectives: as written, and each dictionary form."""
    for token, pos in enumerate(parse["pos"]):
        word, guess = parse["words"][token].lower(), parse["lemmas"][token]
        forms: tuple[str, ...] = ()
        if pos in _NOUNS:
            forms = noun_lemmas(word, parse["tags"][token] in ("NNS", "NNPS"), guess)
        elif pos == "VERB":
            forms = verb_lemmas(word, guess)
        elif pos not in ("ADJ", "NUM"):
            continue
        if pos != "VERB" and word.endswith("ing"):
            # "a cyclist riding" is often read as a noun.
            forms = (*forms, *verb_lemmas(word, word))
        for form in dict.fromkeys((word, *forms)):
            yield form, token
