"""Why a negative may be true of its image, in a language whose sentences are not read: its words compared with the captions'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.entailment.tokens import split_words
from curation.text.languages import CaptionLanguage


def plain_rejection_reason(
    captions: Sequence[str], record: Mapping[str, Any], language: CaptionLanguage
) -> tuple[str, str]:
    """Return a reason of `find_false_negatives` with a detail; two empty texts for a negative that may stay.

    ``same_text``: a caption, except for case, spaces and punctuation; ``same_meaning``: a caption's words in another
    order; ``said_by_other_caption``: another caption has all the new words; ``possible``: something is exchanged behind a
    word that denies it, or the edit takes words away and brings none.
    """
    words = _words(record["text"])
    others = [_words(caption) for caption in captions]
    if words in others:
        return "same_text", ""
    if sorted(words) in map(sorted, others):
        return "same_meaning", "the words of a caption in another order"
    old, new = _edited(captions[record["caption"]], record)
    added = set(new) - set(old)
    if not added:
        return "possible", "it only leaves words out"
    for number, other in enumerate(others):
        if number != record["caption"] and added <= set(other):
            return "said_by_other_caption", captions[number]
    before = _words(captions[record["caption"]][: min(edit[0] for edit in record["edits"])])
    denied = language.negations.intersection(before)
    return ("possible", f"behind '{min(denied)}'") if denied else ("", "")


def _words(text: str) -> list[str]:
    return [word for word in split_words(text) if word[0].isalnum()]


def _edited(caption: str, record: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the words that the edits take away, and those that they bring."""
    old = [word for edit in record["edits"] for word in _words(caption[edit[0] : edit[1]])]
    return old, [word for edit in record["edits"] for word in _words(record["text"][edit[2] : edit[3]])]
