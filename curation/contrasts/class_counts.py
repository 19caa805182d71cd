"""How often the words of a class come between two neighbours, and what follows for exchanges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from curation.blind.tokens import Float64s, Int64s, Mask, UInt64s, hash_words
from curation.contrasts.decisions import merged_contexts, merged_forms
from curation.contrasts.learn import FORM_WEIGHTS, WEIGHTS
from curation.engine.fits import Fit

_MAX_BY_CHANCE = 2.0
_SMOOTHING = 4.0
"""How many times a word is taken to have come beside what its class comes beside, besides the times that it did."""
_FIXED_SHARE, _LEAST_FIXED = 0.5, 2
"""A word that stands in half of the places beside another, and twice, is fixed to it: "soft tissue"."""
_MAX_CACHED = 1 << 16


class Place(NamedTuple):
    """A word of a caption between its neighbours, with what parts of speech tell, where a parser gave any.

    Attributes:
        word: The word, in lower case.
        before: The word before it.
        after: The word after it.
        tag: Its part of speech; empty if not known.
        is_capital: Whether it begins with a capital letter.
        is_modified: Whether the word before it is a modifier that does not go with any noun.
        is_modifier: Whether the word after it is a noun that it may belong to.
    """

    word: str
    before: str
    after: str
    tag: str
    is_capital: bool
    is_modified: bool
    is_modifier: bool


@dataclass(frozen=True)
class Members:
    """The words of a class, ready to be counted.

    Attributes:
        name: Name of the class.
        type: Type of its negatives.
        form: Form of a general class (see `general_classes`); empty for a learned one.
        reason: Why two words exclude each other, where they have no evidence of their own.
        words: The words.
        forms: How each is mostly written.
        hashes: Their hashes [words].
        times: How often each comes [words].
        meanings: Numbers of their meanings [words]: words of one meaning do not exclude each other.
        moved: Which have been put into another class: they count here, and are not exchanged [words].
    """

    name: str
    type: str
    form: str
    reason: str
    words: Sequence[str]
    forms: Sequence[str]
    hashes: UInt64s
    times: Float64s
    meanings: Int64s
    moved: Mask

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Members:
        """Return the words of a class of a fit; see `curation.contrasts.decisions.classes_of`."""
        words, times, forms = (list(column) for column in zip(*described["members"], strict=True))
        known = described["meanings"]
        meanings = np.array([known.get(word, -1 - place) for place, word in enumerate(words)], np.int64)
        return cls(
            described["name"], described["type"], described["form"], described["reason"], words, forms,
            hash_words(words), np.array(times, np.float64), meanings, np.isin(words, described["moved"]),
        )  # fmt: skip


class Counts:
    """How often words come, alone and beside others.

    Args:
        fit: What `with_decisions` returned.
    """

    def __init__(self, fit: Fit) -> None:
        self._tables = {name: merged_contexts(fit.arrays, name) for name in WEIGHTS}
        self._attested = merged_forms(fit.arrays)
        self._num_words = fit.values["num_words"]
        self._known: dict[str, np.uint64] = {}
        self._times: dict[str, float] = {}

    def beside(self, side: str, neighbour: str, members: Members) -> Float64s:
        """Return how often each word of a class has another on one side, "before" or "after"."""
        return self._beside(side, neighbour, members.hashes)

    def is_beside(self, side: str, word: str, neighbour: str) -> bool:
        """Return whether a word ever has another on one side."""
        return bool(self._beside(side, neighbour, self._hash(word))[0] > 0)

    def has_form(self, word: str, *signs: str) -> bool:
        """Return whether a word comes behind two words with some signs; see `CaptionLanguage.agreement_sign`."""
        hashes = [*map(self._hash, signs), self._hash(word)]
        key = sum(
            (part * np.uint64(weight) for part, weight in zip(hashes, FORM_WEIGHTS, strict=True)),
            np.zeros(1, np.uint64),
        )
        known = self._attested
        at = int(np.searchsorted(known, key)[0])
        return at < len(known) and bool(known[at] == key[0])

    def _beside(self, side: str, neighbour: str, hashes: UInt64s) -> Float64s:
        weights = WEIGHTS[side]
        part = np.uint64(weights[0] if side == "before" else weights[2])
        return self._counts(side, self._hash(neighbour) * part + hashes * np.uint64(weights[1]))

    def times(self, word: str) -> float:
        """Return how often a word comes."""
        known = self._times.get(word)
        if known is None:
            if len(self._times) >= _MAX_CACHED:
                self._times.clear()
            known = float(self._counts("words", self._hash(word) * np.uint64(WEIGHTS["words"][1]))[0])
            self._times[word] = known
        return known

    def by_chance(self, word: str) -> float:
        """Return how often a word comes in a place by chance."""
        return self.times(word) / float(self._num_words)

    def _counts(self, table: str, keys: UInt64s) -> Float64s:
        known, counts = self._tables[table]
        if not len(known):
            return np.zeros(len(keys))
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where(known[at] == keys, counts[at], 0).astype(np.float64)

    def _hash(self, word: str) -> UInt64s:
        known = self._known.get(word)
        if known is None:
            if len(self._known) >= _MAX_CACHED:
                self._known.clear()
            known = self._known[word] = hash_words([word])[0]
        return np.array([known], np.uint64)


@dataclass(frozen=True)
class Around:
    """How often each word of a class comes beside the neighbours of a place, and these come at all.

    Attributes:
        times: How often each word comes [words].
        before: With the word before the place before it [words].
        after: With the word after the place after it [words].
        sides: How often the two neighbours come.
        chances: How often they come in a place by chance.
    """

    times: Float64s
    before: Float64s
    after: Float64s
    sides: tuple[float, float]
    chances: tuple[float, float]

    @classmethod
    def of(cls, counts: Counts, members: Members, place: Place) -> Around:
        """Count; "a" and "an" are one word."""
        first, last = ("a" if side == "an" else side for side in (place.before, place.after))
        return cls(
            members.times,
            counts.beside("before", first, members),
            counts.beside("after", last, members),
            (counts.times(first), counts.times(last)),
            (counts.by_chance(first), counts.by_chance(last)),
        )

    def weights(self) -> Float64s:
        """Return how often each word is expected in the place, with the neighbours of its class as far as its own are few."""
        total = max(self.times.sum(), 1.0)
        found = self.times.copy()
        for beside in (self.before, self.after):
            found *= (beside + _SMOOTHING * max(beside.sum(), 1.0) / total) / (self.times + _SMOOTHING)
        return np.maximum(found, 1e-12)

    def is_fixed(self, own: int, form: str, place: Place) -> bool:
        """Return whether a general noun or adjective mostly makes one name with a neighbour: "soft tissue", "cold abscess"."""
        found = [(self.after, self.sides[1], place.after)] if form in ("noun", "mass", "adjective", "bound") else []
        found += [(self.before, self.sides[0], place.before)] if form in ("noun", "mass") else []
        return any(
            side[:1].isalpha() and beside[own] >= max(_LEAST_FIXED, _FIXED_SHARE * times) and (beside > 0).sum() < 2
            for beside, times, side in found
        )

    def goes(self, form: str, place: Place) -> Mask:
        """Return which words may stand in the place [words].

        None may beside a word beside which it never came, though it would by chance. A learned word must have come beside
        both neighbours; a general noun beside a modifier must have done so, or two of its class.
        """
        found = np.ones(len(self.times), np.bool_)
        for beside, chance in zip((self.before, self.after), self.chances, strict=True):
            found &= (beside > 0) | (self.times * chance < _MAX_BY_CHANCE)
        if not form:
            found &= (self.before > 0) & (self.after > 0)
        if form in ("noun", "mass") and place.is_modified and (self.before > 0).sum() < 2:
            found &= self.before > 0
        if (form == "bound" or (form in ("noun", "mass") and place.is_modifier)) and (self.after > 0).sum() < 2:
            found &= self.after > 0
        return np.asarray(found)
