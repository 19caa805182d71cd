"""Exchange words of a caption for others of their class, as often in one direction as in the other.

A word is exchanged for another with the probability min(1, w(new) / w(old)), where w(word) estimates how often the word
stands between its two neighbours in the corpus, this caption left out. That is the rule of Metropolis et al. 1953: what
is drawn by it from texts of a corpus leaves their distribution as it is, so that a pair of caption and negative looks the
same from both ends, and text alone cannot tell which is which as far as w knows what the corpus does.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from curation.blind.tokens import hash_words
from curation.contrasts.caption_words import EDGE, Word, is_number, split_and_join
from curation.contrasts.learn import FORM_WEIGHTS, WEIGHTS
from curation.engine.fits import Fit
from curation.text.languages import CaptionLanguage
from data_manifests.seeds import draw_seed

_MASK = (1 << 64) - 1
_SENTENCE_ENDS = frozenset(".!?;\u3002\uff01\uff1f")
_MAX_BY_CHANCE = 2.0
_SHARE_BY_CHANCE = 0.5
"""How much of the times that a word would come beside another by chance are added to those that it did."""
_UNIT = 1 << 64


class Member(NamedTuple):
    """A word of a class: the class's place, how many times the word comes, and how it is mostly written."""

    group: int
    times: int
    form: str


class Substitute(NamedTuple):
    """A possible exchange in a caption.

    Attributes:
        order: A draw by which exchanges are taken.
        word: The old word.
        new: The new one, as it is to be written.
        kind: Name of the class.
        type: Type of negative.
        evidence: Why they exclude each other.
    """

    order: int
    word: Word
    new: str
    kind: str
    type: str
    evidence: str


class Substitutes:
    """The contrasts of a fit, ready to be used.

    Args:
        fit: What `Learner.learn` returned.
    """

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        self._joined = frozenset((one, other) for one, other in fit.values["joined"])
        self._classes: Sequence[Mapping[str, Any]] = fit.values["classes"]
        self._members = {
            word: Member(place, count, form)
            for place, one in enumerate(self._classes)
            for word, count, form in one["members"]
        }
        self._evidence = {
            frozenset((one, other)): evidence for item in self._classes for one, other, evidence, _ in item["contrasts"]
        }
        self._synonyms = {
            frozenset((one, other)) for group in fit.values["synonyms"] for one in group for other in group
        }
        self._language = CaptionLanguage(fit.values["language"])
        self._negations = self._language.negations
        self._num_words = fit.values["num_words"]
        self._hashes: dict[str, int] = {}

    @cached_property
    def _tables(self) -> dict[str, dict[int, int]]:
        arrays = self.fit.arrays
        return {
            name: dict(zip(arrays[f"{name}_keys"].tolist(), arrays[f"{name}_counts"].tolist(), strict=True))
            for name in WEIGHTS
        }

    @cached_property
    def _forms(self) -> frozenset[int]:
        return frozenset(self.fit.arrays["forms"].tolist())

    def words(self, caption: str) -> list[Word]:
        """Return the words of a caption as they were learned."""
        return split_and_join(caption, self._joined)

    def of_caption(self, caption: str, named: frozenset[str], *seeds: str | int) -> list[Substitute]:
        """Return exchanges that were drawn, in the order of their draws.

        Args:
            caption: The caption.
            named: Words of all captions of the image: none of them is a new word.
            seeds: What draws depend on besides caption and words.
        """
        words, denied, found = self.words(caption), False, list[Substitute]()
        for place, word in enumerate(words):
            if word.text in _SENTENCE_ENDS:
                denied = False
            sides = [words[at].text if 0 <= at < len(words) else EDGE for at in (place - 1, place + 1)]
            member = self._members.get(word.text)
            if member is not None and (not denied or word.text in self._negations):
                options = self._of_word(word.text, member, sides)
            elif is_number(word.text) and not denied:
                options = self._of_number(word.text, sides)
            else:
                options = iter(())
            denied = denied or word.text in self._negations
            for new, share, kind, type_, evidence in options:
                order = draw_seed(*seeds, caption, word.start, new)
                if order < share * _UNIT and not _is_named(new, named) and self._agrees(new, words, place):
                    written = self._written(caption[word.start : word.end], word.text, new)
                    # the draw among the drawn, spread again over all 64 bits
                    found.append(Substitute(int(order / min(share, 1.0)), word, written, kind, type_, evidence))
        return sorted(found, key=lambda one: (one.order, one.word.start, one.new))

    def _of_word(self, word: str, member: Member, sides: Sequence[str]) -> Iterator[tuple[str, float, str, str, str]]:
        """Yield the words that may stand in place of one, each with its share of draws, class, type and evidence."""
        one = self._classes[member.group]
        own = self._weight(word, member.times, sides, 1)
        if not own:
            return
        for other, count, _ in one["members"]:
            if frozenset((word, other)) in self._synonyms:
                continue
            if other != word and (weight := self._weight(other, count, sides, 0)):
                evidence = self._evidence.get(frozenset((word, other)), f"both in the class {one['name']}")
                yield other, weight / own, one["name"], one["type"], evidence

    def _of_number(self, word: str, sides: Sequence[str]) -> Iterator[tuple[str, float, str, str, str]]:
        numbers: dict[str, int] = dict(self.fit.values["numbers"].get(sides[1], ()))
        own = numbers.get(word, 0) - 1
        for other, count in numbers.items() if own > 0 else ():
            if other != word:
                yield other, count / own, f"number of {sides[1]}", "number", f"both are numbers of {sides[1]}"

    def _weight(self, word: str, count: int, sides: Sequence[str], own: int) -> float:
        """Return how often a word is expected between two others, without `own` times; 0 if it does not go with them.

        It goes with a word that it has come beside, and with one beside which it would hardly have come by chance.
        """
        count -= own
        if count <= 0:
            return 0.0
        first, last = ("a" if side == "an" else side for side in sides)
        both = max(self._count("both", first, word, last) - own, 0)
        expected, attested = 1.0, 0
        for name, side in (("before", first), ("after", last)):
            beside = self._count(name, first, word, last) - own
            by_chance = count * self._count("words", "", side, "") / self._num_words
            if beside <= 0 and by_chance >= _MAX_BY_CHANCE:
                return 0.0
            attested += beside > 0
            expected *= max(beside, 0) + _SHARE_BY_CHANCE * by_chance
        return both + expected / count if attested else 0.0

    def _agrees(self, new: str, words: Sequence[Word], place: int) -> bool:
        """Return whether a new word has the form that its place asks for, as far as the corpus shows.

        It stands somewhere behind the same function word (behind the same two of them), or behind words with the same
        endings. At the beginning of a caption it ends like the old word, or stands somewhere before the same word.
        """
        if not self._language.inflects or not new.isalpha():
            return True
        second, first = (words[at].text if at >= 0 else EDGE for at in (place - 2, place - 1))
        if not first[:1].isalpha():
            after = words[place + 1].text if place + 1 < len(words) else EDGE
            return new[-1] == words[place].text[-1] or self._count("after", "", new, after) > 0
        kept = self._language.kept_words
        if first in kept and second not in kept:
            return self._count("before", first, new, "") > 0
        signs = [self._hash(self._language.agreement_sign(word)) for word in (second, first)]
        return sum(map(operator.mul, (*signs, self._hash(new)), FORM_WEIGHTS)) & _MASK in self._forms

    def _count(self, table: str, *words: str) -> int:
        hashes = map(self._hash, words)
        return self._tables[table].get(sum(map(operator.mul, hashes, WEIGHTS[table])) & _MASK, 0)

    def _hash(self, word: str) -> int:
        known = self._hashes.get(word)
        if known is None:
            known = self._hashes[word] = int(hash_words([word])[0])
        return known

    def _written(self, old: str, word: str, new: str) -> str:
        """Return a new word in the case of the old one, or as it is mostly written."""
        if word not in self._members:
            return new
        usual, form = self._members[word].form, self._members[new].form
        if old in (usual, word):
            return form
        if len(old) > 1 and old.isupper():
            return form.upper()
        return form[:1].upper() + form[1:] if old[:1].isupper() else form


def _is_named(new: str, named: frozenset[str]) -> bool:
    """Return whether a word is among others, also in singular or plural."""
    return any(form in named for form in (new, f"{new}s", new.removesuffix("s"), f"{new}es", new.removesuffix("es")))
