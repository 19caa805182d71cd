"""The words of texts as claims are read from them: what kind each is, by our own lists and the captions' parses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from curation.knowledge.homonyms import word_set
from curation.models.parser import Parse
from curation.text.lexicon import COUNTING_NOUNS, NEGATIONS, NUMBERS
from curation.text.word_meanings import PATTERN_NOUNS, is_describing, value_of

_WORD = re.compile(r"['\u2019]s\b|\d+(?:[.,]\d+)*|[^\W\d_]+(?:(?:['\u2019](?!s\b)|-)[^\W\d_]+)*|[^\w\s]")

_RUNS: Mapping[tuple[str, ...], str] = {
    tuple(run.split()): name
    for name, runs in {
        "left of": ("to the left of", "on the left of", "on the left side of", "at the left of", "left of"),
        "right of": ("to the right of", "on the right of", "on the right side of", "at the right of", "right of"),
        "in front of": ("in front of", "at the front of"),
        "next to": ("next to", "adjacent to", "close by", "by the side of", "at the side of"),
        "close to": ("close to",), "behind": ("in back of",), "on": ("on top of", "upon", "onto", "atop"),
        "along with": ("along with",), "together with": ("together with",), "out": ("out of",),
        "inside": ("inside of",), "off": ("off of",),
    }.items()
    for run in runs
}  # fmt: skip
_RUN_LENGTHS: Mapping[str, list[int]] = {
    first: sorted({len(run) for run in _RUNS if run[0] == first}, reverse=True) for first in {run[0] for run in _RUNS}
}
"""First word of a run -> how many words such runs have, most first."""
PREPOSITIONS = word_set(
    "about above across after against along alongside amid among amongst around at atop before behind below "
    "beneath beside between beyond by down during for from in inside into near of off on onto out outside over "
    "past through throughout to toward towards under underneath up upon with within without while as like"
) | set(_RUNS.values())
_ARTICLES = word_set("a an the this that these those some any each every another his her its their my our your")
BE = word_set("is are was were be been being am 're has have had having does do did there it to")
JOINING = frozenset({"and", "or", ",", "&", ";", "plus", "while", "as", "but"})
CLAUSE = frozenset({"while", "as"})
DENYING = frozenset({"not", "never", "nobody", "nothing", "neither", "nor", "isn't", "aren't"})
RELATIVE = frozenset({"who", "that", "which", "whose"})
SHOWING = word_set("see sees show shows depict depicts")
PICTURES = word_set("picture photo photograph image drawing painting view shot snapshot scene close-up closeup")
PARTS = word_set("group pair couple bunch lot duo trio dozen number herd row pile set crowd team pack flock variety")
_TAGS: Mapping[str, str] = {
    "NOUN": "N", "PROPN": "N", "ADJ": "A", "VERB": "V", "AUX": "X", "ADP": "P", "SCONJ": "P", "PART": "P", "CCONJ": "C",
    "ADV": "R", "NUM": "U", "DET": "D", "PRON": "O", "PUNCT": "Q", "INTJ": "N",
}  # fmt: skip


def split_words(text: str) -> list[str]:
    """Return a text's words and marks in lower case."""
    return list(_split(text))


@lru_cache(maxsize=1 << 13)
def _split(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def plain(text: str) -> str:
    """Return a text without what does not change its claim by itself: case, spaces, articles, marks."""
    return " ".join(word for word in split_words(text) if word[0].isalnum() and word not in ("a", "an", "the"))


def tags_of(parses: Iterable[Parse]) -> dict[str, str]:
    """Return the tag of each word of some captions; where they differ, the first one's."""
    found: dict[str, str] = {}
    for parse in parses:
        for word, pos in zip(parse["words"], parse["pos"], strict=True):
            for part in (word.lower(),) if word.isalpha() else split_words(word):
                found.setdefault(part, _TAGS.get(pos, "N"))
    return found


def with_new_words(
    caption: str, text: str, edits: Sequence[Sequence[int]], tags: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the tags with those of words that an edit brought in.

    A new word takes the tag of the word it replaces when a dictionary allows it, else the first that it allows.
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


_FIXED: Mapping[str, str] = (
    dict.fromkeys(NUMBERS, "U")
    | dict.fromkeys(NEGATIONS, "P")
    | dict.fromkeys(JOINING, "C")
    | dict.fromkeys(BE, "X")
    | dict.fromkeys(PREPOSITIONS, "P")
    | dict.fromkeys((*_ARTICLES, "no"), "D")
    | dict.fromkeys((*PATTERN_NOUNS, *COUNTING_NOUNS, "twins"), "N")
)


def kind_of(word: str, tags: Mapping[str, str]) -> str:
    """Return what a word is: D (article), N, A, V, U (number), P, X (form of be), C, R, O or Q (mark)."""
    return _kind(word, tags.get(word, ""))


def kinds_in(words: Iterable[str], tags: Mapping[str, str]) -> list[str]:
    """Return what each word is; see `kind_of`."""
    tag_of = tags.get
    return [_kind(word, tag_of(word, "")) for word in words]


@lru_cache(maxsize=1 << 16)
def _kind(word: str, tag: str) -> str:
    fixed = "U" if word.isdigit() else _FIXED.get(word)
    if fixed is not None:
        return fixed
    tag = tag or ("N" if word[0].isalnum() else "Q")
    return "A" if is_describing(word) and (tag != "N" or value_of(word)[0] != "colour") else tag


def joined_runs(words: Sequence[str]) -> list[str]:
    """Join prepositions of several words into one."""
    joined: list[str] = []
    at = 0
    while at < len(words):
        lengths = _RUN_LENGTHS.get(words[at])
        if lengths is None:
            joined.append(words[at])
            at += 1
            continue
        for length in lengths:
            name = _RUNS.get(tuple(words[at : at + length]))
            if name is not None:
                joined.append(name)
                at += length
                break
        else:
            joined.append(words[at])
            at += 1
    return joined
