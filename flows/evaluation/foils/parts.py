"""Cuts one phrase out of a caption, so that what is left is still a true text."""

from __future__ import annotations

from curation.models.parser import Parse
from curation.text.articles import fix_articles
from flows.evaluation.foils.near_captions import Span, read_words

MIN_WORDS = 2
"""Words that are left at least, without articles and forms of "be"."""
_PHRASES = frozenset({"prep", "amod", "advmod", "acl", "relcl", "advcl", "npadvmod", "compound", "agent"})
"""Arcs over which a word or phrase hangs that can be left out: it describes something that is named anyway."""


def without_phrase(caption: str, parse: Parse, span: Span) -> str:
    """Return a caption without the smallest phrase that has some of its characters, or its subject alone.

    "A dog runs through the snow" without the snow is "a dog runs", and without "runs through" it is "a dog".

    Args:
        caption: The caption.
        parse: Its parse.
        span: The characters [start, end).

    Returns:
        The rest; empty if fewer than `MIN_WORDS` words are left, or the characters are in the subject itself.
    """
    places = zip(parse["starts"], parse["words"], strict=True)
    inside = {at for at, (start, word) in enumerate(places) if start < span[1] and start + len(word) > span[0]}
    top = min(inside)
    while not (_can_be_left_out(parse, top) and inside <= _below(parse, top)):
        if parse["heads"][top] == top:
            return _subject(caption, parse, top, inside)
        top = parse["heads"][top]
    start, end = _characters(parse, _below(parse, top))
    rest = fix_articles(" ".join(f"{caption[:start]} {caption[end:]}".split()))
    return rest if len(read_words(rest).words) >= MIN_WORDS else ""


def _can_be_left_out(parse: Parse, top: int) -> bool:
    """Return whether a caption is still one without what hangs here: not "of people", nor "onto a roof" of "off onto a roof"."""
    follows = parse["pos"][parse["heads"][top]] == "ADP"
    return parse["deps"][top] in _PHRASES and parse["words"][top].lower() != "of" and not follows


def _subject(caption: str, parse: Parse, root: int, without: set[int]) -> str:
    """Return the subject of a sentence with all that describes it, if it has none of some tokens."""
    for at, (dep, head) in enumerate(zip(parse["deps"], parse["heads"], strict=True)):
        if dep == "nsubj" and head == root and without.isdisjoint(_below(parse, at)):
            start, end = _characters(parse, _below(parse, at))
            subject = caption[start:end]
            return subject if len(read_words(subject).words) >= MIN_WORDS else ""
    return ""


def _characters(parse: Parse, tokens: set[int]) -> Span:
    """Return the characters from the first to the last of some tokens."""
    last = max(tokens)
    return parse["starts"][min(tokens)], parse["starts"][last] + len(parse["words"][last])


def _below(parse: Parse, top: int) -> set[int]:
    """Return a token and all that depend on it, directly or not."""
    found, size = {top}, 0
    while len(found) > size:
        size = len(found)
        found |= {at for at, head in enumerate(parse["heads"]) if head in found}
    return found
