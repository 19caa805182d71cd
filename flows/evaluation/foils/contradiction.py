"""Whether the captions of a photograph contradict a caption of another one that is nearly the same as one of them.

The check only refuses; it makes no text. It reads claims (`curation.entailment`) and counts which words people use of
the same photograph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from curation.entailment.claims import Claims
from curation.entailment.entail import MergedClaims, is_compatible, merge_claims
from curation.entailment.read_claims import read_claims
from curation.entailment.tokens import tags_of, word_class
from curation.entailment.word_meanings import word_relations
from curation.knowledge.open_graph import SeedGraph
from curation.models.parser import Parse
from curation.text.lexicon import noun_lemma, verb_lemma
from flows.evaluation.foils.near_captions import read_words

MIN_TOGETHER = 3
"""Photographs that have two words in different captions, before these count as words for the same."""
MIN_SHARE = 0.3
"""Least share of the rarer word's photographs that have both."""
MIN_LIFT = 3.0
"""Least ratio of the photographs that have both to those expected of independent words."""
VERBS_TOGETHER, VERBS_SHARE, VERBS_LIFT = 2, 0.1, 1.0
"""The same three numbers for two verbs: one action has many names, and several actions happen at once."""
MIN_SEEN = 5
"""Photographs in which a verb must stand before its counts say anything."""

REASONS = ("other_kind", "unconfirmed", "compatible", "mentioned", "same_thing")
_CATEGORIES = {"N": "noun", "A": "attribute", "U": "number", "V": "verb"}

ClassedWord = tuple[str, str]
"""A word in dictionary form, and its class."""


@dataclass(frozen=True, slots=True)
class CaptionRead:
    """A caption with its parse.

    Attributes:
        text: The caption.
        words: Its words as `read_words` gives them.
        tags: Word class by word.
        parse: The parse.
    """

    text: str
    words: tuple[str, ...]
    tags: Mapping[str, str]
    parse: Parse


class CaptionChecker:
    """Checks captions against those of other photographs.

    Args:
        photographs: The captions of each photograph that is asked about, and of others to count words in.
    """

    def __init__(self, photographs: Mapping[str, Sequence[CaptionRead]]) -> None:
        self._photographs = photographs
        every = [caption for captions in photographs.values() for caption in captions]
        words = {word for caption in every for word in (*caption.tags, *caption.parse["lemmas"])}
        self._relations = word_relations(SeedGraph(), words)
        self._words_of = cache(self._all_words)
        self._tags_of = cache(self._shared_tags)
        self._claims_of = cache(self._merged_claims)
        self._num_with, self._num_together = _count_words(
            [
                [set(self._classed(caption.words, caption.tags)) for caption in captions]
                for captions in photographs.values()
            ]
        )

    def category(self, one: CaptionRead, span: Sequence[str], other: CaptionRead, other_span: Sequence[str]) -> str:
        """Return what two spans are: ``noun``, ``verb`` ...; an empty string if they do not answer the same question.

        "Wearing a collar" and "on the steps" may both be true, and so may two prepositions ("at", "near").
        """
        kinds = _kinds(span, one.tags)
        if kinds != _kinds(other_span, other.tags) or kinds <= {"P", "W"}:
            return ""
        if kinds <= {"N", "P", "W"} and len(kinds) > 1:
            return "prepositional_phrase"
        if kinds == {"V", "P"}:
            return "verb"
        return _CATEGORIES[next(iter(kinds))] if len(kinds) == 1 else "predicate"

    def is_confirmed(self, photograph: str, number: int, span: Sequence[str]) -> bool:
        """Return whether another caption of the photograph says something of what a span of one says, or there is no other."""
        caption = self._photographs[photograph][number]
        others = [other for at, other in enumerate(self._photographs[photograph]) if at != number]
        said = self._classed(span, caption.tags)
        return not others or any(
            word in _forms(others) or self._is_other_name((word, kind), others) for word, kind in said
        )

    def refusal(self, photograph: str, caption: CaptionRead, span: Sequence[str], *, exchanged: bool) -> str:
        """Return why a caption may be true of a photograph, an empty string if it is contradicted.

        It is refused as ``compatible`` if the photograph's captions, together or one of them alone, do not contradict it;
        as ``mentioned`` if they have all content words of its span; as ``same_thing`` if people often use each new word
        of its span where others use a word of these captions.

        Args:
            photograph: The photograph.
            caption: The caption of another photograph.
            span: Its words that differ.
            exchanged: Whether they are the same words in another order.
        """
        tags = {**self._tags_of(photograph), **caption.tags}
        claims = read_claims(caption.text, tags, copies=False)
        if any(is_compatible(claims, known, self._relations) for known in self._claims_of(photograph)):
            return "compatible"
        if exchanged:
            return ""
        own, known_words = self._photographs[photograph], self._words_of(photograph)
        unsaid = [(word, kind) for word, kind in self._classed(span, caption.tags) if word not in known_words]
        if not unsaid:
            return "mentioned"
        alike = all(self._is_rare_verb(word, own) or self._is_other_name(word, own) for word in unsaid)
        return "same_thing" if alike else ""

    def _is_rare_verb(self, word: ClassedWord, captions: Sequence[CaptionRead]) -> bool:
        """Return whether a verb stands in too few photographs with several captions to tell what else it is said of."""
        return word[1] == "V" and self._num_with[word] < MIN_SEEN and len(captions) > 1

    def _is_other_name(self, word: ClassedWord, captions: Sequence[CaptionRead]) -> bool:
        """Return whether people often use a word of photographs which others describe by a word of these captions."""
        number = self._num_with[word]
        for known in {known for caption in captions for known in self._classed(caption.words, caption.tags)}:
            verbs = word[1] == known[1] == "V"
            together, share, lift = (
                (VERBS_TOGETHER, VERBS_SHARE, VERBS_LIFT) if verbs else (MIN_TOGETHER, MIN_SHARE, MIN_LIFT)
            )
            other = self._num_with[known]
            least = share * (min(number, other) if word[1] == known[1] else other)
            expected = number * other / len(self._photographs)
            if self._num_together[frozenset((word, known))] >= max(together, least, lift * expected):
                return True
        return False

    def _classed(self, words: Iterable[str], tags: Mapping[str, str]) -> list[ClassedWord]:
        """Return nouns, verbs, adjectives and numbers in dictionary form."""
        found = []
        for word in words:
            kind = word_class(word, tags)
            if kind in "NVAU":
                found.append((noun_lemma(word) if kind == "N" else verb_lemma(word) if kind == "V" else word, kind))
        return found

    def _all_words(self, photograph: str) -> frozenset[str]:
        """Return the words of a photograph's captions in every form, whatever class they have there."""
        return _forms(self._photographs[photograph])

    def _shared_tags(self, photograph: str) -> dict[str, str]:
        """Return the word classes of a photograph's captions; where they differ, the first one's."""
        return {
            word: kind
            for caption in reversed(self._photographs[photograph])
            for word, kind in caption.tags.items()
        }  # fmt: skip

    def _merged_claims(self, photograph: str) -> list[MergedClaims]:
        """Return the claims of all captions together, then of each one."""
        shared, captions = self._tags_of(photograph), self._photographs[photograph]
        claims: list[Claims] = [read_claims(one.text, {**shared, **one.tags}, copies=False) for one in captions]
        return [merge_claims(part, self._relations) for part in (claims, *([one] for one in claims))]


def read_caption(text: str, parse: Parse) -> CaptionRead:
    """Return a caption with what the check needs of it."""
    return CaptionRead(text, read_words(text).words, tags_of([parse]), parse)


def _forms(captions: Iterable[CaptionRead]) -> frozenset[str]:
    """Return the words of captions as written, as nouns and as verbs."""
    words = {word for caption in captions for word in caption.words}
    return frozenset(form for word in words for form in (word, noun_lemma(word), verb_lemma(word)))


def _kinds(span: Sequence[str], tags: Mapping[str, str]) -> frozenset[str]:
    """Return the word classes of a span: what describes a noun or a verb does not count beside it.

    "with" and "without" (W) say what a thing has, other prepositions (P) where it is.
    """
    found = {"W" if word in ("with", "without") else word_class(word, tags) for word in span} & set("NVAUPW")
    return frozenset(found - {"A", "U"} if found & {"N", "V"} else found)


def _count_words(
    photographs: Iterable[Sequence[set[ClassedWord]]],
) -> tuple[Counter[ClassedWord], Counter[frozenset[ClassedWord]]]:
    """Return in how many photographs each word stands, and two words of one class in different captions."""
    single, together = Counter[ClassedWord](), Counter[frozenset[ClassedWord]]()
    for captions in photographs:
        places: dict[ClassedWord, set[int]] = {}
        for number, words in enumerate(captions):
            for word in words:
                places.setdefault(word, set()).add(number)
        single.update(places.keys())
        for one, other in combinations(sorted(places), 2):
            if len(places[one] | places[other]) > 1:
                together[frozenset((one, other))] += 1
    return single, together
