"""Noun phrases, agreement and spatial phrases of a parsed caption, for the stages that make negatives."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import NamedTuple

from curation.models.parser import CaptionParse
from curation.text.dependencies import Dependencies
from curation.text.dependency_tree import inflected
from curation.text.edits import Edit, Span, fix_article, is_whole_words, match_case, span_of
from curation.text.lexicon import noun_lemma, verb_lemma
from curation.text.wordlists import word_rows, word_sets

PLURAL_ONLY = word_sets("lexicon")["plural_only"]
"""Nouns whose plural is their dictionary form."""
_PLURALS = {"person": "people", "fish": "fish", "deer": "deer", "sheep": "sheep"}
_BE = {"is": "are", "was": "were", "has": "have", "does": "do"}
_SINGULAR = {many: one for one, many in _BE.items()} | {"am": "is"}
_SUBJECT_DEPS = ("nsubj", "nsubjpass")

_SHORT, _TITLE_WORDS, _TITLE_SHARE = 2, 3, 0.8
"""Words of a title: longer than so many letters, at least so many with a capital, and such a share of them."""

MALE_TO_FEMALE = {"he": "she", "his": "her", "him": "her", "himself": "herself"}
FEMALE_TO_MALE = {"she": "he", "her": "his", "hers": "his", "herself": "himself"}

_SPATIAL_PHRASES: dict[str, list[tuple[str, ...]]] = {}
"""First word -> phrases as words, longer ones first."""
for (_phrase,) in word_rows("place_phrases"):
    _SPATIAL_PHRASES.setdefault(_phrase.split()[0], []).append(tuple(_phrase.split()))


class SpatialPhrase(NamedTuple):
    """A spatial phrase: tokens [first, stop), its words, the noun of the place, and the noun that is at the place."""

    first: int
    stop: int
    words: str
    landmark: int
    """-1 where none is found."""
    subject: int
    """-1 where none is found."""


class Caption(Dependencies):
    """A caption and its parse, addressed by token indices.

    Lighter than `curation.text.dependency_tree.CaptionTree`: one is made per caption and stage.
    """

    def __init__(self, text: str, parse: CaptionParse) -> None:
        super().__init__(parse)
        self.text, self.parse = text, parse
        self.raw, self.starts = parse["words"], parse["starts"]

    @cached_property
    def is_title(self) -> bool:
        """Whether it is written As A Title, with a capital at most words, which the tagger then takes for names."""
        words = [word for word in self.raw if word.isalpha() and len(word) > _SHORT]
        capital = sum(word[0].isupper() for word in words)
        return sum(map(str.istitle, words)) >= _TITLE_WORDS and capital >= _TITLE_SHARE * len(words)

    def lemma(self, token: int) -> str:
        """Return a noun's dictionary form."""
        word = self.words[token]
        return word if word in PLURAL_ONLY else noun_lemma(word)

    def verb(self, token: int) -> str:
        """Return a verb's dictionary form."""
        return verb_lemma(self.words[token])

    def span(self, first: int, stop: int) -> Span:
        """Return the span of tokens [first, stop)."""
        return span_of(self.parse, first, stop)

    def is_whole_word(self, token: int) -> bool:
        """Return whether a token is a whole word and no part of a hyphenated one."""
        word, start = self.raw[token], self.starts[token]
        if (
            word.isalpha()
            and self.text[start - 1 : start] in (" ", "")
            and self.text[start + len(word) : start + len(word) + 1] in (" ", "")
        ):
            return True
        return is_whole_words(self.text, self.span(token, token + 1))

    def is_noun(self, token: int) -> bool:
        """Return whether a token is a common noun; see `is_title` for names that are none."""
        # The parser takes "Boy" at the beginning of a caption for a name.
        return self.tags[token] in ("NN", "NNS") or (self.pos[token] == "PROPN" and token == 0)

    def is_plural(self, noun: int) -> bool:
        """Return whether a noun is in the plural."""
        if self.pos[noun] == "PROPN" and self.is_title:  # "Men" and "Shirts" are tagged as the name of one
            return self.words[noun] in PLURAL_ONLY or self.lemma(noun) != self.words[noun]
        return self.tags[noun] in ("NNS", "NNPS") or self.words[noun] in PLURAL_ONLY

    def phrase(self, noun: int) -> tuple[int, int] | None:
        """Return the tokens [first, stop) of the noun phrase that ends with a noun, or None."""
        return next(((first, stop) for first, stop in self.parse["noun_phrases"] if stop == noun + 1), None)

    def replacement_edits(self, token: int, new: str) -> list[Edit]:
        """Return the edits that replace a token by another word, in its case and with the article before it corrected."""
        place = self.span(token, token + 1)
        text = match_case(self.raw[token], new)
        return [*self.fix_article(place, text), Edit(place.start, place.end, text)]

    def fix_article(self, place: Span, text: str) -> list[Edit]:
        """Return the edit of the article before a place that `text` now fills."""
        return fix_article(self.text, self.parse, place, text)

    def agreement_edits(self, noun: int, *, plural: bool) -> list[Edit] | None:
        """Return the edits that make the verbs of a subject agree with its new number; None where that is uncertain."""
        head, edits = self.heads[noun], []
        verbs = [head] if self.deps[noun] in _SUBJECT_DEPS else []
        if self.deps[noun] == "attr" and self.with_dep(head, "expl"):
            verbs = [head]
        verbs += [
            child for verb in verbs for child in self.with_dep(verb, "conj") if not self.with_dep(child, *_SUBJECT_DEPS)
        ]
        for clause in self.with_dep(noun, "relcl"):
            who = self.with_dep(clause, *_SUBJECT_DEPS)
            if who and self.words[who[0]] in ("that", "which", "who"):
                verbs.append(clause)
        for verb in verbs:
            finite = next((child for child in self.with_dep(verb, "aux", "auxpass") if child < verb), verb)
            word, tag = self.words[finite], self.tags[finite]
            odd = (tag == "NN" and finite == verb) or (tag == "VBD" and word[-1] == "s" and word != "was")
            if not word[0].isalnum() or odd:
                return None
            new = agree_verb(word, tag, plural)
            if new and new != word:
                place = self.span(finite, finite + 1)
                edits.append(Edit(place.start, place.end, match_case(self.raw[finite], new)))
        return edits

    def spatial_phrases(self) -> Iterator[SpatialPhrase]:
        """Yield the spatial phrases in reading order, at each token the longest."""
        token = 0
        while token < len(self.words):
            for words in _SPATIAL_PHRASES.get(self.words[token], ()):
                stop = token + len(words)
                if tuple(self.words[token:stop]) == words and self.is_whole_word(token):
                    yield SpatialPhrase(
                        token, stop, " ".join(words), self._landmark(token, stop), self._located(token, stop)
                    )
                    token = stop - 1
                    break
            token += 1

    def _landmark(self, first: int, stop: int) -> int:
        for token in range(stop - 1, first - 1, -1):
            below = [child for child in self.with_dep(token, "pobj") if child >= stop]
            if below:
                return below[0]
        return -1

    def _located(self, first: int, stop: int) -> int:
        """Return the noun that is at the place: the one that the phrase depends on, or the subject of the verb that it depends on."""
        token = self.heads[first]
        for _ in range(4):
            if not first <= token < stop and self.pos[token] in ("NOUN", "PROPN"):
                return token
            subjects = [child for child in self.with_dep(token, *_SUBJECT_DEPS) if self.pos[child] in ("NOUN", "PROPN")]
            if subjects:
                return subjects[0]
            token = self.heads[token]
        return -1

    def gender_pronouns(self, gender: str) -> list[int]:
        """Return the pronouns of a gender, ``m`` or ``f``."""
        table = MALE_TO_FEMALE if gender == "m" else FEMALE_TO_MALE
        return [token for token, word in enumerate(self.words) if word in table]


@lru_cache(maxsize=4096)
def agree_verb(word: str, tag: str, plural: bool) -> str:
    """Return the form of a finite verb for a singular or plural subject, or an empty string where there is one form only."""
    if word in _BE or word in _SINGULAR:
        return _BE.get(word, word) if plural else _SINGULAR.get(word, word)
    if tag == "VBZ" and plural:
        return verb_lemma(word)
    return inflected(verb_lemma(word), "VBZ") if tag == "VBP" and not plural else ""


@lru_cache(maxsize=8192)
def noun_form(lemma: str, many: bool) -> str:
    """Return a noun in the singular or plural; an empty string where the plural is unknown."""
    if not many or lemma in PLURAL_ONLY:
        return lemma
    return _PLURALS.get(lemma) or inflected(lemma, "NNS")


@lru_cache(maxsize=8192)
def verb_form(lemma: str, tag: str) -> str:
    """Return a verb in the form of a Penn tag; an empty string where it is unknown."""
    return lemma if tag in ("VB", "VBP") else inflected(lemma, tag)
