"""The single change between a caption and another text: found word by word, its type read from both parses."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from curation.models.parser import Parse
from curation.rewriting.text_checks import Verdict
from curation.text.lexicon import noun_lemma, number_value, verb_lemma
from curation.text.phrases import Caption
from curation.text.wordlists import word_sets

_SETS = word_sets("single_edit")

REASONS = (
    "nothing_changed",
    "several_changes",
    "only_added",
    "only_removed",
    "other_kind",
    "same_word",
    "other_form",
    "repeated_word",
)
_MOST_WORDS = 3
_TYPES = {"NOUN": "object", "PROPN": "object", "ADJ": "attribute", "VERB": "action", "NUM": "number", "ADP": "relation"}
_MODIFIERS = ("amod", "compound", "nmod")
_SILENT = frozenset({"a", "an", "the"})


class OneChange(NamedTuple):
    """The caption's tokens [first, stop), their replacement in the other text, and the type of the change."""

    first: int
    stop: int
    text: str
    type: str


def one_change(caption: Caption, text: str, parse: Parse) -> OneChange | Verdict:
    """Return the only change between a caption and a text, or why there is not exactly one clear change.

    Articles and marks are ignored: the caption keeps its own.

    Args:
        caption: The caption.
        text: The other text.
        parse: The other text's parse.
    """
    ours = _compared(caption.raw)
    theirs = _compared(parse["words"])
    matcher = SequenceMatcher(
        a=[caption.words[token] for token in ours],
        b=[parse["words"][token].lower() for token in theirs],
        autojunk=False,
    )
    changes = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    if len(changes) != 1:
        return Verdict("several_changes", f"{len(changes)}") if changes else Verdict("nothing_changed")
    operation, start, end, new_start, new_end = changes[0]
    if operation in ("insert", "delete"):
        return Verdict("only_added" if operation == "insert" else "only_removed")
    return _replaced(caption, ours[start:end], text, parse, theirs[new_start:new_end])


def _replaced(caption: Caption, old: Sequence[int], text: str, parse: Parse, new: Sequence[int]) -> OneChange | Verdict:
    """Return the replacement of some tokens by others, or what is wrong with it."""
    last, then = old[-1], new[-1]
    if max(len(old), len(new)) > _MOST_WORDS or last - old[0] + 1 > len(old) or then - new[0] + 1 > len(new):
        return Verdict("several_changes", f"{len(old)} words for {len(new)}")
    kinds = _type(caption.words, caption.parse, old), _type([word.lower() for word in parse["words"]], parse, new)
    if kinds[0] != kinds[1] or not kinds[0]:
        return Verdict("other_kind", f"{kinds[0] or 'mixed'} for {kinds[1] or 'mixed'}")
    if kinds[0] in ("object", "action") and (verdict := _forms(caption, last, parse, then)):
        return verdict
    if not all(caption.is_whole_word(token) for token in (old[0], last)):
        return Verdict("other_kind", "a part of a word")
    if kinds[0] != "relation" and {parse["words"][token].lower() for token in new} & {*caption.words} - {
        caption.words[token] for token in old
    }:
        return Verdict("repeated_word", text[parse["starts"][new[0]] :].split(" ", 1)[0])
    replacement = text[parse["starts"][new[0]] : parse["starts"][then] + len(parse["words"][then])]
    return OneChange(old[0], last + 1, replacement, kinds[0])


def _compared(words: Sequence[str]) -> list[int]:
    return [
        token
        for token, word in enumerate(words)
        if any(char.isalnum() for char in word) and word.lower() not in _SILENT
    ]


def _type(words: Sequence[str], parse: Parse, tokens: Sequence[int]) -> str:
    """Return the type of negative that changing these words makes; an empty string for several types."""
    pos, deps = parse["pos"], parse["deps"]
    if all(pos[token] in ("ADP", "ADV", "SCONJ", "PART") or words[token] in _SETS["place_words"] for token in tokens):
        return "relation"
    found = set()
    for token in tokens:
        if number_value(words[token]) is not None:
            found.add("number")
        elif pos[token] in ("NOUN", "PROPN", "VERB") and deps[token] in _MODIFIERS and len(tokens) == 1:
            found.add("attribute")  # "a brick building"
        else:
            found.add(_TYPES.get(pos[token], ""))
    return found.pop() if len(found) == 1 else ""


def _forms(caption: Caption, old: int, parse: Parse, new: int) -> Verdict | None:
    word, other = caption.words[old], parse["words"][new].lower()
    if {noun_lemma(word), verb_lemma(word)} & {noun_lemma(other), verb_lemma(other)}:
        return Verdict("same_word", f"{word} -> {other}")
    tags = [tag.removesuffix("P") if tag == "NNP" else tag for tag in (caption.tags[old], parse["tags"][new])]
    if tags[0] != tags[1]:
        return Verdict("other_form", f"{word} -> {other}: {tags[0]} for {tags[1]}")
    return None
