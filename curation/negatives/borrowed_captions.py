"""Whether a caption of another image is false of this one, and what it mentions that this one's captions do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from curation.entailment.claims import Claims
from curation.entailment.entail import is_compatible, is_entailed, merge_claims
from curation.entailment.read_claims import read_claims
from curation.entailment.tokens import content_words, tags_of
from curation.entailment.word_meanings import WordRelations
from curation.models.parser import CaptionParse
from curation.text.caption_facts import CaptionFacts, facts_of, plain_words
from curation.text.lexicon import NEGATIONS, canonical_noun, same_action
from curation.text.word_families import same_meaning
from curation.text.wordlists import word_sets

_SETS = word_sets("borrowed_captions")

REASONS = ("too_similar", "same_text", "said", "possible", "nothing_new", "denies", "repeated")
"""Why a caption is not borrowed."""

_ABSTRACT = _SETS["abstract_nouns"]
"""Nouns that fit almost any image: none of them makes a caption false."""


@dataclass(frozen=True)
class ImageTexts:
    """An image's captions, read once for all images that may borrow them.

    Attributes:
        captions: As written.
        parses: Their parses.
        claims: Their claims.
        facts: Their words by role.
    """

    captions: tuple[str, ...]
    parses: Sequence[CaptionParse]
    claims: tuple[Claims, ...]
    facts: tuple[CaptionFacts, ...]


def read(captions: tuple[str, ...], parses: Sequence[CaptionParse]) -> ImageTexts:
    """Read an image's captions."""
    tags = tags_of(parses)
    claims = tuple(
        read_claims(text, dict(tags) | tags_of([parse]), copies=True)
        for text, parse in zip(captions, parses, strict=True)
    )
    facts = tuple(facts_of(text, parse) for text, parse in zip(captions, parses, strict=True))
    return ImageTexts(captions, parses, claims, facts)


class CaptionBorrower:
    """Decides which captions of other images are false of one image.

    Args:
        own: The image's captions.
        kinds: Meanings of words.
    """

    def __init__(self, own: ImageTexts, kinds: WordRelations) -> None:
        self.own, self.kinds = own, kinds
        self.texts = {content_words(caption) for caption in own.captions}
        self.merged = cache(lambda index: merge_claims(own.claims if index < 0 else [own.claims[index]], kinds))
        """The claims of one caption, or with -1 of all together."""
        self.nouns = {canonical_noun(noun) for facts in own.facts for noun in facts.nouns}
        self.lemmas = frozenset[str]().union(*(facts.lemmas for facts in own.facts))
        self.verbs = {verb for facts in own.facts for verb in facts.verbs} | self.lemmas
        self.colours = {colour for facts in own.facts for colour, _ in facts.colours}
        self.numbers = {number for facts in own.facts for number, _ in facts.numbers}

    def judge(self, other: ImageTexts, index: int) -> tuple[str, str]:
        """Return (type, reason) of another image's caption: a type where it may be borrowed, else a reason."""
        words, claims = other.parses[index]["words"], other.claims[index]
        kind = self.new_in(other.facts[index])
        reason = ""
        if not NEGATIONS.isdisjoint(map(str.lower, words)):
            reason = "denies"
        elif content_words(other.captions[index]) in self.texts:
            reason = "same_text"
        elif any(is_entailed(claims, self.merged(own), self.kinds) for own in (*range(len(self.own.captions)), -1)):
            reason = "said"
        elif is_compatible(claims, self.merged(-1), self.kinds):
            reason = "possible"
        elif not kind:
            reason = "nothing_new"
        return ("", reason) if reason else (kind, "")

    def new_in(self, facts: CaptionFacts) -> str:
        """Return the type of what a caption mentions and this image's captions do not: objects first, then actions."""
        new = [noun for noun in facts.nouns if not self._mentions(noun)]
        if new:
            return "object"
        if any(not same_action(verb, self.verbs) for verb in facts.verbs):
            return "action"
        if any(colour not in self.colours for colour, _ in facts.colours):
            return "attribute"
        return "number" if any(value not in self.numbers for value, _ in facts.numbers) else ""

    def _mentions(self, noun: str) -> bool:
        """Return whether some caption mentions an object, also by a synonym or another name of its kind."""
        return (
            noun in _ABSTRACT
            or any(same_meaning(noun, one) for one in self.nouns)
            or canonical_noun(noun) in self.nouns
            or noun in self.lemmas
            or any(self.kinds.covers(one, noun) or self.kinds.covers(noun, one) for one in self.nouns)
        )

    def nearest(self, text: str) -> int:
        """Return the number of the caption that shares most words with a text; the first of equals."""
        words = set(plain_words(text))
        shared = [_overlap(words, set(facts.words)) for facts in self.own.facts]
        return shared.index(max(shared))


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / max(1, len(one | other))
