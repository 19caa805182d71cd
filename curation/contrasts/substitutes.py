"""Exchange words of a caption for others of their class, as often in one direction as in the other.

A word is exchanged for another with the probability min(1, w(new) / w(old)), where w(word) estimates how often the word
stands between its two neighbours in the corpus. That is the rule of Metropolis et al. 1953: what is drawn by it from texts
of a corpus leaves their distribution as it is, so that a pair of caption and negative looks the same from both ends, and
text alone cannot tell which is which as far as w knows what the corpus does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from curation.blind.tokens import Float64s
from curation.contrasts.caption_words import EDGE, Phrases, Word, is_number
from curation.contrasts.class_counts import Around, Counts, Members, Place
from curation.contrasts.decisions import classes_of
from curation.contrasts.evidence import mixed
from curation.contrasts.general_classes import free_modifiers
from curation.contrasts.numbers import Numbers, Options
from curation.engine.fits import Fit
from curation.text.languages import CaptionLanguage
from curation.text.wordlists import word_rows
from data_manifests.seeds import draw_seed

_MASK = (1 << 64) - 1
_SENTENCE_ENDS = frozenset(".!?;\u3002\uff01\uff1f")
_NEGATION_ENDS = frozenset(row[0] for row in word_rows("negation_ends"))
_LEAST_SHARE = 0.01
_UNIT = float(1 << 64)
_MOST_OF_CLASS = 8
"""Most exchanges of a place by one class."""
_MAX_CACHED = 1 << 14

_NOUNS = frozenset({"NOUN"})
_MODIFIERS = frozenset({"ADJ", "NOUN"})
_TAGS_OF_FORMS: Mapping[str, frozenset[str]] = {
    "noun": frozenset({"VERB", "AUX", "ADP", "ADV", "PRON", "DET"}),
    "mass": frozenset({"VERB", "AUX", "ADP", "ADV", "PRON", "DET"}),
    "adjective": frozenset({"VERB", "AUX", "ADP", "PRON", "SCONJ"}),
    "bound": frozenset({"VERB", "AUX", "ADP", "PRON", "SCONJ"}),
    "verb": frozenset({"NOUN", "ADP", "DET", "ADJ", "ADV"}),
    "place": frozenset({"NOUN", "ADJ", "VERB"}),
}
"""Parts of speech that the last word of a member of such a class does not have."""


class Substitute(NamedTuple):
    """A possible exchange in a caption.

    Attributes:
        order: A draw by which exchanges are taken: below 1 if the rule draws it, above otherwise.
        word: The old word.
        new: The new one, as it is to be written.
        kind: Name of the class.
        type: Type of negative.
        evidence: Why they exclude each other.
    """

    order: float
    word: Word
    new: str
    kind: str
    type: str
    evidence: str


class Substitutes:
    """The contrasts of a fit, ready to be used.

    Args:
        fit: What `with_decisions` returned.
    """

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        classes = classes_of(fit.values)
        self._of_word: dict[str, list[Members]] = {}
        self._forms: dict[str, str] = {}
        for one in map(Members.of, classes):
            for word, form, is_moved in zip(one.words, one.forms, one.moved.tolist(), strict=True):
                if not is_moved:
                    self._of_word.setdefault(word, []).append(one)
                    self._forms.setdefault(word, form)
        self._phrases = Phrases(self._of_word)
        self._language = CaptionLanguage(fit.values["language"])
        self._negations, self._inflects = self._language.negations, self._language.inflects
        self._evidence = {
            frozenset((one, other)): evidence
            for item in reversed(classes)  # what people have decided is said first
            for one, other, evidence, _ in item["contrasts"]
        }
        self._keep = frozenset(fit.values["keep"])
        self._refused: dict[str, set[str]] = {}
        for group in (*fit.values["synonyms"], *fit.values["refused"]):
            for word in group:
                self._refused.setdefault(word, set()).update(group)
        self._numbers = Numbers(fit.values["numbers"])
        self._counts = Counts(fit)
        self._options: dict[Place, list[Options]] = {}

    def words(self, caption: str) -> list[Word]:
        """Return the words of a caption as they were learned."""
        return self._phrases.split(caption)

    def of_caption(
        self, caption: str, words: Sequence[Word], named: Collection[str], tags: Mapping[int, str], *seeds: str | int
    ) -> list[Substitute]:
        """Return possible exchanges in the order of their draws.

        Args:
            caption: The caption.
            words: Its words, see `words`.
            named: Words of all captions of the image, in all their forms: none of them is a new word.
            tags: Parts of speech of its words, by where they start; may be empty.
            seeds: What draws depend on besides caption and words.
        """
        denied, found = False, list[Substitute]()
        draw = draw_seed(*seeds, caption)
        for at, word in enumerate(words):
            if word.text in _NEGATION_ENDS:
                denied = False
            if not denied or word.text in self._negations:
                for options in self._of_place(caption, words, at, tags):
                    drawn = mixed(options.hashes ^ np.uint64((draw + word.start) & _MASK)) / _UNIT
                    found += self._first(caption, words, at, options, drawn / options.shares, named)
            denied = denied or word.text in self._negations
        return sorted(found, key=lambda one: (one.order, one.word.start, one.new))

    def _first(
        self, caption: str, words: Sequence[Word], at: int, options: Options, orders: Float64s, named: Collection[str]
    ) -> Iterator[Substitute]:
        """Yield the first exchanges of one place by their draws."""
        word, left = words[at], _MOST_OF_CLASS
        begins = at == 0 or words[at - 1].text in _SENTENCE_ENDS
        for place in np.argsort(orders, kind="stable").tolist():
            new = options.words[place]
            if new in named or (self._inflects and not self._agrees(new, words, at)):
                continue
            written = self._written(caption[word.start : word.end], word.text, new, begins)
            evidence = self._evidence.get(frozenset((word.text, new)), options.reason)
            yield Substitute(float(orders[place]), word, written, options.kind, options.type, evidence)
            left -= 1
            if not left:
                return

    def _of_place(self, caption: str, words: Sequence[Word], at: int, tags: Mapping[int, str]) -> Sequence[Options]:
        """Return what may stand in place of one word of a caption."""
        word = words[at]
        if is_number(word.text):
            return self._numbers.of(words, at)
        if word.text not in self._of_word or not self._keep.isdisjoint((word.text, *word.text.split(" "))):
            return ()
        written = caption[word.start : word.end]
        if len(written) > 1 and written.isupper() != self._forms[word.text].isupper() and not (
            caption.isupper() or caption.islower()
        ):  # fmt: skip
            return ()  # "TOE" is no toe, and "pet" no PET
        before, after = (words[near] if 0 <= near < len(words) else Word(EDGE, -1, -1) for near in (at - 1, at + 1))
        place = Place(
            word.text,
            before.text,
            after.text,
            tags.get(word.start if " " not in word.text else word.end - len(word.text.rsplit(" ", 1)[1]), ""),
            written[:1].isupper(),
            tags.get(before.start) in _MODIFIERS and before.text not in free_modifiers(),
            tags.get(after.start) in _NOUNS,
        )
        known = self._options.get(place)
        if known is None:
            if len(self._options) >= _MAX_CACHED:
                self._options.clear()
            found = (self._of_member(one, place) for one in self._of_word[place.word])
            known = self._options[place] = [one for one in found if one is not None]
        return known

    def _of_member(self, one: Members, place: Place) -> Options | None:
        """Return the words of a class that may stand in place of one of them."""
        if place.tag in _TAGS_OF_FORMS.get(one.form, ()) or (one.form == "proper" and not place.is_capital):
            return None
        is_last = not place.after.isalpha() or place.after in self._language.kept_words
        if one.form == "adjective" and place.tag == "NOUN" and is_last and one.name != "colours":
            return None  # "in the middle"
        around = Around.of(self._counts, one, place)
        own = one.words.index(place.word)
        if around.is_fixed(own, one.form, place):
            return None
        weights = around.weights()
        shares = np.minimum(weights / weights[own], 1.0)
        allowed = (
            around.goes(one.form, place) & (shares >= _LEAST_SHARE) & (one.meanings != one.meanings[own]) & ~one.moved
        )
        refused = self._refused.get(place.word, ())
        parts = set(place.word.split(" ")) if not one.form else set()
        kept = [
            at
            for at in np.flatnonzero(allowed).tolist()
            if one.words[at] not in refused
            and self._keep.isdisjoint((one.words[at], *one.words[at].split(" ")))
            and parts.isdisjoint(one.words[at].split(" "))
        ]
        if not kept:
            return None
        return Options([one.words[at] for at in kept], shares[kept], one.hashes[kept], one.name, one.type, one.reason)

    def _agrees(self, new: str, words: Sequence[Word], at: int) -> bool:
        """Return whether a new word has the form that its place asks for, as far as the corpus shows.

        It stands somewhere behind the same function word (behind the same two of them), or behind words with the same
        endings. At the beginning of a caption it ends like the old word, or stands somewhere before the same word.
        """
        if not new.isalpha():
            return True
        second, first = (words[near].text if near >= 0 else EDGE for near in (at - 2, at - 1))
        if not first[:1].isalpha():
            after = words[at + 1].text if at + 1 < len(words) else EDGE
            return new[-1] == words[at].text[-1] or self._counts.is_beside("after", new, after)
        kept = self._language.kept_words
        if first in kept and second not in kept:
            return self._counts.is_beside("before", new, first)
        return self._counts.has_form(new, *map(self._language.agreement_sign, (second, first)))

    def _written(self, old: str, word: str, new: str, begins: bool) -> str:
        """Return a new word in the case of the old one, or as it is mostly written; capitalised where a sentence begins."""
        if word not in self._forms:
            return new
        usual, form = self._forms[word], self._forms[new]
        if begins and old[:1].isupper():
            form = form[:1].upper() + form[1:]
        if old in (usual, word):
            return form
        if len(old) > 1 and old.isupper():
            return form.upper()
        if old[:1].isupper() and any(part[:1].isupper() for part in old.split()[1:]):
            return " ".join(part[:1].upper() + part[1:] for part in form.split(" "))
        return form[:1].upper() + form[1:] if old[:1].isupper() else form


def all_forms(words: Iterable[str]) -> frozenset[str]:
    """Return words with their likely singulars and plurals."""
    found = set(words)
    return frozenset(
        [
            *found,
            *(f"{word}s" for word in found),
            *(f"{word}es" for word in found),
            *(word.removesuffix("s") for word in found),
            *(word.removesuffix("es") for word in found),
        ]
    )
