"""Edits of a caption by characters: replacements with the case of their place, corrected articles, counted tokens."""

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
    """A replacement of the caption's characters [start, end)."""

    start: int
    end: int
    text: str
    num_tokens: int = -1
    """Number of tokens in `text`; -1: its number of words."""


def span_of(parse: CaptionParse, first: int, stop: int) -> Span:
    """Return the span of tokens first:stop."""
    return Span(first, stop - 1, parse["starts"][first], parse["starts"][stop - 1] + len(parse["words"][stop - 1]))


def is_whole_words(caption: str, span: Span) -> bool:
    """Return whether a span consists of whole words: it has letters, and no letter or hyphen is next to it."""
    before, after = caption[max(0, span.start - 1) : span.start], caption[span.end : span.end + 1]
    if before in _TOUCHING or before.isalnum() or after in _TOUCHING or after.isalnum():
        return False
    inside = caption[span.start : span.end]
    return inside.isalnum() or any(map(str.isalnum, inside))


def swap_spans(caption: str, parse: CaptionParse, one: Span, other: Span) -> list[Edit]:
    """Return the edits that swap two spans that do not overlap, `one` first, with case and articles corrected."""
    initial = sentence_starts(parse["words"])
    capital = [span.first in initial and caption[span.start].isupper() for span in (one, other)]
    replacements: list[Edit] = []
    for place, leaves, joins in ((one, capital[1], capital[0]), (other, capital[0], capital[1])):
        source = other if place is one else one
        text = in_case(caption[source.start : source.end], parse, source.first, leaves, joins)
        replacements += fix_article(caption, parse, place, text, outside=(one, other))
        replacements.append(Edit(place.start, place.end, text, source.last - source.first + 1))
    return replacements


def in_case(text: str, parse: CaptionParse, first: int, leaves: bool, joins: bool) -> str:
    """Return a span's text with the case of its new place.

    Args:
        text: The span as written.
        parse: Its caption's parse.
        first: The span's first token.
        leaves: Its old place is a capitalised beginning of a sentence.
        joins: Its new place is one.
    """
    word = parse["words"][first]
    if leaves == joins or any(char.isupper() for char in word[1:]):
        return text
    if joins:
        return text[0].upper() + text[1:]
    return text if parse["tags"][first] in ("NNP", "NNPS") else text[0].lower() + text[1:]


def match_case(old: str, new: str) -> str:
    """Return a word in the case of the word that it replaces."""
    if len(old) > 1 and old.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def sentence_starts(words: Sequence[str]) -> set[int]:
    """Return the first token with a letter or digit of each sentence."""
    starts, waiting = set(), True
    for token, word in enumerate(words):
        if waiting and any(char.isalnum() for char in word):
            starts.add(token)
            waiting = False
        waiting = waiting or word in _SENTENCE_ENDS
    return starts


def fix_article(caption: str, parse: CaptionParse, place: Span, text: str, outside: Sequence[Span] = ()) -> list[Edit]:
    """Return the edit of the article before a place that `text` now fills; empty when the article is correct."""
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


def apply_edits(caption: str, replacements: Sequence[Edit]) -> tuple[str, list[list[int]]]:
    """Return the edited caption, and the edits as [start, end, new_start, new_end] in reading order."""
    text, done, edits = "", 0, []
    for start, end, new, _ in sorted(replacements):
        text += caption[done:start]
        edits.append([start, end, len(text), len(text) + len(new)])
        text, done = text + new, end
    return text + caption[done:], edits


def token_edits(parse: CaptionParse, replacements: Sequence[Edit]) -> list[list[int]]:
    """Return the edits in tokens: [first, stop, new_first, new_stop], of the caption's parse and of the negative.

    The negative's tokens are the caption's outside the edits; inside they are moved tokens, or words between spaces.
    """
    starts = parse["starts"]
    found, shift = [], 0
    for start, end, new, num_tokens in sorted(replacements):
        first = bisect_left(starts, start)
        stop = bisect_left(starts, end, first)
        count = len(new.split()) if num_tokens < 0 else num_tokens
        found.append([first, stop, first + shift, first + shift + count])
        shift += count - (stop - first)
    return found


def normalise(text: str) -> str:
    """Return a text in one case and with single spaces, for comparison."""
    return " ".join(text.casefold().split())
