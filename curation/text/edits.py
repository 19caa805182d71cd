"""Edits of a caption by characters: pieces put in, case kept in place, articles put right, tokens counted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from curation.models.parser import CaptionParse
from curation.text.articles import article_for

_SENTENCE_ENDS = (".", "!", "?")
_TOUCHING = ("-", "_")


class Span(NamedTuple):
    """Tokens [first, last] and their characters [start, end)."""

    first: int
    last: int
    start: int
    end: int


class Edit(NamedTuple):
    """Characters [start, end) of the caption and what stands there in the negative."""

    start: int
    end: int
    text: str
    num_tokens: int = -1
    """Tokens in `text`; -1 counts its words."""


def span_of(parse: CaptionParse, first: int, stop: int) -> Span:
    """Return the span of tokens first:stop."""
    return Span(first, stop - 1, parse["starts"][first], parse["starts"][stop - 1] + len(parse["words"][stop - 1]))


def is_whole_words(caption: str, span: Span) -> bool:
    """Say whether a span is made of whole words: letters in it, and none, nor a hyphen, touching it."""
    before, after = caption[max(0, span.start - 1) : span.start], caption[span.end : span.end + 1]
    if before in _TOUCHING or before.isalnum() or after in _TOUCHING or after.isalnum():
        return False
    inside = caption[span.start : span.end]
    return inside.isalnum() or any(map(str.isalnum, inside))


def swap_spans(caption: str, parse: CaptionParse, one: Span, other: Span) -> list[Edit]:
    """Return the pieces that exchange two spans that do not overlap, `one` first, with case and articles repaired."""
    initial = sentence_starts(parse["words"])
    capital = [span.first in initial and caption[span.start].isupper() for span in (one, other)]
    pieces: list[Edit] = []
    for place, leaves, joins in ((one, capital[1], capital[0]), (other, capital[0], capital[1])):
        source = other if place is one else one
        text = in_case(caption[source.start : source.end], parse, source.first, leaves, joins)
        pieces += fix_article(caption, parse, place, text, outside=(one, other))
        pieces.append(Edit(place.start, place.end, text, source.last - source.first + 1))
    return pieces


def in_case(text: str, parse: CaptionParse, first: int, leaves: bool, joins: bool) -> str:
    """Return a span's text with the case of its new place.

    Args:
        text: The span as written.
        parse: Its caption's parse.
        first: The span's first token.
        leaves: It leaves a capitalised beginning of a sentence.
        joins: It comes to one.
    """
    word = parse["words"][first]
    if leaves == joins or any(char.isupper() for char in word[1:]):
        return text
    if joins:
        return text[0].upper() + text[1:]
    return text if parse["tags"][first] in ("NNP", "NNPS") else text[0].lower() + text[1:]


def match_case(old: str, new: str) -> str:
    """Return a word in the case of the one whose place it takes."""
    if len(old) > 1 and old.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def sentence_starts(words: Sequence[str]) -> set[int]:
    """Return the first real word of the caption and of each sentence in it."""
    starts, waiting = set(), True
    for token, word in enumerate(words):
        if waiting and any(char.isalnum() for char in word):
            starts.add(token)
            waiting = False
        waiting = waiting or word in _SENTENCE_ENDS
    return starts


def fix_article(caption: str, parse: CaptionParse, place: Span, text: str, outside: Sequence[Span] = ()) -> list[Edit]:
    """Return the corrected article before a place that `text` now fills, or nothing when it is right already."""
    token = place.first - 1
    if token < 0 or parse["tags"][token] != "DT" or any(span.first <= token <= span.last for span in outside):
        return []
    word, start = parse["words"][token], parse["starts"][token]
    if word.lower() not in ("a", "an") or not caption[start + len(word) : place.start].isspace():
        return []
    needed = article_for(text)
    if word.lower() == needed:
        return []
    needed = needed.upper() if len(word) > 1 and word.isupper() else needed
    return [Edit(start, start + len(word), needed[0].upper() + needed[1:] if word[0].isupper() else needed)]


def apply_edits(caption: str, pieces: Sequence[Edit]) -> tuple[str, list[list[int]]]:
    """Put the pieces into the caption; return the text and the edits that made it, in reading order."""
    text, done, edits = "", 0, []
    for start, end, new, _ in sorted(pieces):
        text += caption[done:start]
        edits.append([start, end, len(text), len(text) + len(new)])
        text, done = text + new, end
    return text + caption[done:], edits


def token_edits(parse: CaptionParse, pieces: Sequence[Edit]) -> list[list[int]]:
    """Return the edits in tokens: [first, stop) of the caption's parse, [new_first, new_stop) of the negative.

    The negative's tokens are the caption's own outside the edits, and inside those moved, or else words between spaces.
    """
    starts = parse["starts"]
    found, shift = [], 0
    for start, end, new, num_tokens in sorted(pieces):
        first = bisect_left(starts, start)
        stop = bisect_left(starts, end, first)
        count = len(new.split()) if num_tokens < 0 else num_tokens
        found.append([first, stop, first + shift, first + shift + count])
        shift += count - (stop - first)
    return found


def normalise(text: str) -> str:
    """Return a text without the differences that do not count: case and runs of space."""
    return " ".join(text.casefold().split())
