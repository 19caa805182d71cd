"""Checks of a model's text that need no parse: length, language, repetition, echoes of the prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from curation.text.articles import fix_articles
from curation.text.caption_facts import plain_words
from curation.text.lexicon import FUNCTION_WORDS, is_english
from curation.text.wordlists import word_sets

_SETS = word_sets("text_checks")

REASONS = (
    "empty", "truncated", "only_thinking", "invalid_json", "wrong_field", "lost_noun", "lost_number", "lost_colour", "lost_negation",
    "added_negation", "new_object", "changed_number", "changed_colour", "changed_gender", "new_action", "contradiction", "swapped_roles",
    "too_short", "too_long", "not_english", "copy", "template_echo", "prompt_leak", "repeated", "several_sentences",
    "wrong_article", "unsafe_caption", "long_caption",
)  # fmt: skip
"""Every reason to reject a rewrite, except ``no_answer_...``."""

_CHATTER = re.compile(
    r"^(sure|certainly|of course|here (is|are)|i (can|can't|cannot|am|will)|as an ai|sorry|output|answer)\b"
)
_SENTENCE_END = re.compile(r"[.!?;]+(?=\s+\w)")
_FEW_WORDS = 6
_NGRAM = 3
_ECHO_WORDS = 4
_SHORTEST = 0.35
_DENSE = 3.0
"""From this growth on a family may use several sentences."""


class Verdict(NamedTuple):
    """Why a text is rejected."""

    reason: str
    detail: str = ""


def screen(
    text: str,
    caption: str,
    others: Sequence[Sequence[str]],
    echoes: frozenset[tuple[str, ...]],
    growth: float,
) -> Verdict | None:
    """Return why a text is rejected, or None.

    Args:
        text: The text.
        caption: The caption it was made from.
        others: The words of the image's other captions.
        echoes: Texts of the prompt, see `echoes_of`.
        growth: How many times as many words it may have, plus a few.
    """
    words, source = plain_words(text), plain_words(caption)
    own = {word for one in (source, *others) for word in one}
    if not words:
        return Verdict("empty")
    found = _echo(text, words, source, echoes) or _leak(text, words, own) or _length(words, source, growth)
    if found:
        return found
    if words in {source, *map(tuple, others)}:
        return Verdict("copy")
    if found := _form(text, caption, words, source):
        return found
    if growth < _DENSE and _num_sentences(text) > max(1, _num_sentences(caption)):
        return Verdict("several_sentences")
    return _language(text, words, own)


def _form(text: str, caption: str, words: Sequence[str], source: Sequence[str]) -> Verdict | None:
    if repeated := _repeated(words, source):
        return Verdict("repeated", repeated)
    wrong = fix_articles(text) != text and fix_articles(caption) == caption
    return Verdict("wrong_article") if wrong else None


def _length(words: Sequence[str], source: Sequence[str], growth: float) -> Verdict | None:
    detail = f"{len(words)} words for {len(source)}"
    if len(words) < min(2, len(source)) or len(words) < _SHORTEST * len(source):
        return Verdict("too_short", detail)
    return Verdict("too_long", detail) if len(words) > growth * len(source) + _FEW_WORDS else None


def _echo(
    text: str, words: tuple[str, ...], source: tuple[str, ...], echoes: frozenset[tuple[str, ...]]
) -> Verdict | None:
    if "=>" in text:
        return Verdict("template_echo", "=>")
    for echo in sorted(echoes):
        if not _contains(source, echo) and (words == echo or (len(echo) >= _ECHO_WORDS and _contains(words, echo))):
            return Verdict("template_echo", " ".join(echo)[:80])
    return None


def _contains(words: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return any(words[at : at + len(part)] == part for at in range(len(words) - len(part) + 1))


def _leak(text: str, words: Sequence[str], own: set[str]) -> Verdict | None:
    leaked = sorted(_SETS["prompt_words"].intersection(words) - own)
    if leaked:
        return Verdict("prompt_leak", leaked[0])
    chatter = _CHATTER.match(text.casefold())
    return Verdict("prompt_leak", chatter[0]) if chatter and not own.issuperset(chatter[0].split()) else None


def _repeated(words: Sequence[str], source: Sequence[str]) -> str:
    """Return repeated words: a word twice in a row, or a trigram that occurs more often than in the source."""
    for one, two in pairwise(words):
        if one == two and not any(a == b == one for a, b in pairwise(source)):
            return f"{one} {two}"
    runs = [tuple(words[at : at + _NGRAM]) for at in range(len(words) - _NGRAM + 1)]
    own = [tuple(source[at : at + _NGRAM]) for at in range(len(source) - _NGRAM + 1)]
    return next((" ".join(run) for run in runs if runs.count(run) > max(1, own.count(run))), "")


def _num_sentences(text: str) -> int:
    return len(_SENTENCE_END.findall(text)) + 1


def _language(text: str, words: Sequence[str], own: set[str]) -> Verdict | None:
    strange = [
        char for char in text if char.isalpha() and not char.isascii() and char.casefold() not in "éèêàâçñöüäïôûîí"
    ]
    if strange:
        return Verdict("not_english", f"letter U+{ord(strange[0]):04X}")
    unknown = [word for word in words if word not in own and word not in FUNCTION_WORDS and not is_english(word)]
    return Verdict("not_english", unknown[0]) if len(unknown) > 0.3 * len(words) else None


def echoes_of(texts: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Return texts of a prompt as words, for `screen`."""
    return frozenset(words for words in map(plain_words, texts) if len(words) > 1)
