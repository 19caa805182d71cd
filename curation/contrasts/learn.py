"""Learn the contrasts of a corpus from a sample of its captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from curation.blind.tokens import Int64s, hash_words
from curation.contrasts.caption_words import JOIN_ROUNDS, Phrases, WordTable, as_written, join
from curation.contrasts.classes import ContrastClass, Relation, Verdicts, build_classes, judge
from curation.contrasts.evidence import Occurrences, PairEvidence
from curation.contrasts.general_classes import GeneralClass, exclude, general_classes, places_of
from curation.contrasts.numbers import numbers_of_units
from curation.contrasts.open_slots import OpenSlot, open_slots
from curation.text.languages import ENGLISH, CaptionLanguage

_LEAST_COUNT, _CAPTIONS_PER_COUNT = 3, 4_000
_MAX_CONTEXTS = 400_000
_LEAST_SHARE_OF_MEANING = 0.25
"""A word of several general classes stays in those whose other words are at least this share as frequent as in the best."""
_OPEN_FORMS, _LEAST_OF_CLASS = ("noun", "mass", "verb"), 4
"""A general class of things or actions of which captions have fewer words is none of theirs: one cat is a part of a name."""
_MAX_CONTRASTS = 40
_ENDS = frozenset(".!?:")
"""Behind which a word has a capital, whatever it is."""
"""Most pairs of a class whose evidence is kept to be read."""
DECIDED = "people decided so"
"""Why words of a vocabulary's class exclude each other."""

_TYPES = {
    "NOUN": "object", "PROPN": "object", "ADJ": "attribute", "VERB": "action", "NUM": "number", "X": "attribute",
}  # fmt: skip

WEIGHTS = {"words": (0, 1, 0), "before": (3, 5, 0), "after": (0, 5, 11)}
"""Multiples of the hashes of the word before, the word itself and the word after that make the keys of each table."""

FORM_WEIGHTS = (13, 3, 5)
"""Multiples of the hashes of the signs of the two words before, and of the word itself, that make the keys of forms."""


class LearningImage(NamedTuple):
    """What is held of an image: its captions as words in the original case, and the part of speech of its words."""

    captions: Sequence[Sequence[str]]
    pos: Mapping[str, str]


@dataclass(frozen=True)
class Learner:
    """Learns contrasts.

    Attributes:
        images: The captions to learn from.
        may_be_same: Whether lists or a graph say that two words may be true of one thing.
        exclude: Whether lists say that two words exclude each other.
        language: The captions' language.
    """

    images: Sequence[LearningImage]
    may_be_same: Relation
    exclude: Relation
    language: CaptionLanguage = ENGLISH

    def learn(self) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
        """Return JSON values and arrays of a fit; see `curation.contrasts.decisions.with_decisions`, which adds to them."""
        num_captions = sum(len(image.captions) for image in self.images)
        least = max(_LEAST_COUNT, num_captions // _CAPTIONS_PER_COUNT)
        lowered = lowered_captions(self.images)
        joined: set[tuple[str, str]] = set()
        for _ in range(JOIN_ROUNDS):
            table = WordTable.of([[join(caption, joined) for caption in image] for image in lowered])
            joined |= table.pairs_to_join(2 * least, self.language.kept_words)
        table = WordTable.of([[join(caption, joined) for caption in image] for image in lowered])
        found = Occurrences.of(table, least)
        classes: list[ContrastClass] = []
        refused: list[tuple[str, str]] = []
        if len(found.units) > 1:
            evidence = PairEvidence.of(found, found.candidates())
            verdicts = judge(found, evidence, self.language.kept_words, self.may_be_same, self.exclude)
            classes = build_classes(found, evidence, verdicts)
            refused = _refused(found, evidence, verdicts)
        general = self._general_classes(lowered)
        names = {word: one.of.name for one in reversed(general) for word in one.members}
        names |= {word: one.name for one in classes for word in one.members if word not in names}
        captions = [caption for image in lowered for caption in image]
        classes += map(_of_names, open_slots(captions, names, self.language.kept_words))
        known = {word for one in classes for word in one.members} | {word for one in general for word in one.members}
        phrases = Phrases(known)
        table = WordTable.of([[phrases.join(caption) for caption in image] for image in lowered])
        forms, types = written_forms(self.images, known, phrases), types_of_words(self.images)
        counts = count_words(table)
        described = [describe(one, forms, types, self.language.negations) for one in classes]
        is_lower = all(word == word.lower() for image in self.images for caption in image.captions for word in caption)
        described += [_describe_general(one, counts, forms, is_lower) for one in general]
        values = {
            "classes": [one for one in described if len(set(_meanings(one))) > 1],
            "refused": refused,
            "numbers": numbers_of_units(table),
            "language": self.language.code,
            "num_captions": num_captions,
            "num_words": len(table.ids),
        }
        return values, context_arrays(table, known, self.language)

    def _general_classes(self, lowered: Sequence[Sequence[Sequence[str]]]) -> list[_Named]:
        """Return the general classes of which the captions have two meanings or more."""
        known = list(places_of()) if self.language.is_english else []
        phrases = Phrases(known)
        counts = Counter(word for image in lowered for caption in image for word in phrases.join(caption))
        return _clearest(general_classes(), {word: counts[word] for word in known if counts[word]})


def lowered_captions(images: Sequence[LearningImage]) -> list[list[list[str]]]:
    """Return the words of the captions of images in lower case."""
    return [[[word.lower() for word in caption] for caption in image.captions] for image in images]


def written_forms(images: Sequence[LearningImage], members: set[str], phrases: Phrases) -> dict[str, str]:
    """Return how each member is mostly written within captions: "CT", "Men"."""
    written: dict[str, Counter[str]] = {word: Counter() for word in members}
    parts = {word.split(" ")[0] for word in members}
    for image in images:
        for caption in image.captions:
            lowered = [word.lower() for word in caption]
            if parts.isdisjoint(lowered):
                continue
            at = 0
            for word in phrases.join(lowered):
                stop = at + 1 + word.count(" ")
                if word in written:
                    # the first word of a sentence is capitalised, whatever it is
                    begins = not at or caption[at - 1] in _ENDS
                    written[word][as_written(" ".join(caption[at:stop]))] += 0 if begins else 1
                at = stop
    most = {word: min(forms, key=lambda form: (-forms[form], form)) for word, forms in written.items() if forms}
    # what was seen at the beginning only may owe its capital to that, but "ERCP" does not
    return {word: form for word, form in most.items() if written[word][form] or form[1:] != word[1:]}


def types_of_words(images: Sequence[LearningImage]) -> dict[str, str]:
    """Return the type of negative that each word makes, by the part of speech that most images have it as."""
    votes: dict[str, Counter[str]] = {}
    for image in images:
        for word, pos in image.pos.items():
            votes.setdefault(word, Counter())[pos] += 1
    most = {word: min(found, key=lambda pos: (-found[pos], pos)) for word, found in votes.items()}
    return {word: _TYPES.get(pos, "relation") for word, pos in most.items()}


def _of_names(slot: OpenSlot) -> ContrastClass:
    """Return the class of the names of a slot."""
    return ContrastClass("/".join(list(slot.fillers)[:2]), slot.fillers, (), slot.evidence)


class _Named(NamedTuple):
    """A general class, and its words that the captions have."""

    of: GeneralClass
    members: Sequence[str]


def _clearest(classes: Sequence[GeneralClass], counts: Mapping[str, int]) -> list[_Named]:
    """Return classes with two meanings or more, each word in those of its classes that the captions speak of."""
    total = [sum(counts.get(word, 0) for word in one.meanings) for one in classes]
    others: dict[tuple[int, str], int] = {}
    for word in counts:
        for place in places_of()[word]:
            one = classes[place]
            same = sum(counts.get(other, 0) for other, number in one.meanings.items() if number == one.meanings[word])
            others[place, word] = total[place] - same
    best = {word: max(others[place, word] for place in places_of()[word]) for word in counts}
    found = []
    for place, one in enumerate(classes):
        members = [
            word
            for word in one.meanings
            if word in counts and others[place, word] >= max(1, _LEAST_SHARE_OF_MEANING * best[word])
        ]
        enough = one.form not in _OPEN_FORMS or sum(counts[word] for word in members) >= _LEAST_OF_CLASS
        if enough and len({one.meanings[word] for word in members}) > 1:
            found.append(_Named(one, members))
    return found


def count_words(table: WordTable) -> dict[str, int]:
    """Return how often each word comes."""
    return dict(zip(table.words, np.bincount(table.ids, minlength=len(table.words)).tolist(), strict=True))


def _refused(found: Occurrences, evidence: PairEvidence, verdicts: Verdicts) -> list[tuple[str, str]]:
    """Return the pairs of words that captions of one image call the same thing, whatever our lists say.

    Not those of closed classes: an image may have a large and a small star, and "A above B" is "B below A".
    """
    names, places = found.names, np.flatnonzero(verdicts.against)
    pairs = [(names[evidence.one[place]], names[evidence.other[place]]) for place in places.tolist()]
    return [pair for pair in pairs if not exclude(*pair, closed=True)]


def describe(
    one: ContrastClass, forms: Mapping[str, str], types: Mapping[str, str], negations: frozenset[str]
) -> dict[str, Any]:
    """Return a class as JSON."""
    votes = Counter(types.get(word.split(" ")[-1], "attribute") for word in one.members)
    kind = min(votes, key=lambda name: (-votes[name], name))
    return {
        "name": one.name,
        "type": "negation" if negations & one.members.keys() else kind,
        "form": "",
        "reason": one.evidence or f"both in the class {one.name}",
        "members": [[word, count, forms.get(word, as_written(word))] for word, count in one.members.items()],
        "meanings": {},
        "contrasts": [list(contrast) for contrast in one.contrasts[:_MAX_CONTRASTS]]
        or _two_of(list(one.members), {}, one.evidence or DECIDED),
    }


def _describe_general(
    one: _Named, counts: Mapping[str, int], forms: Mapping[str, str], is_lower: bool
) -> dict[str, Any]:
    """Return a general class as JSON, as `describe` does; without what captions write as another word: "TOE", "pet"."""
    written: dict[str, str] = {}
    for word in sorted(one.members, key=lambda word: (-counts.get(word, 0), word)):
        capitals = one.of.capitals.get(word, "")
        form = word if is_lower else forms.get(word, capitals or word)
        if counts.get(word) and (is_lower or len(form) == 1 or form.isupper() == capitals.isupper()):
            written[word] = form
    reason = f"both are {one.of.name.split(',')[0]} in our lists"
    return {
        "name": one.of.name,
        "type": "negation" if not ENGLISH.negations.isdisjoint(written) else one.of.type,
        "form": one.of.form,
        "reason": reason,
        "members": [[word, counts[word], form] for word, form in written.items()],
        "meanings": {word: one.of.meanings[word] for word in written},
        "contrasts": _two_of(list(written), one.of.meanings, reason),
    }


def _two_of(words: Sequence[str], meanings: Mapping[str, int], evidence: str) -> list[list[Any]]:
    """Return the first two words of different meanings as a contrast, which shows what the evidence of their class is."""
    other = next((word for word in words[1:] if word not in meanings or meanings[word] != meanings[words[0]]), "")
    return [[words[0], other, evidence, 0]] if other else []


def _meanings(described: Mapping[str, Any]) -> list[Any]:
    return [described["meanings"].get(word, word) for word, _, _ in described["members"]]


def _forms_attested(table: WordTable, members: set[str], language: CaptionLanguage) -> np.ndarray[Any, Any]:
    """Return the sorted keys of members behind what the two words before show: an ending, or the word if it is a function word."""
    if not language.inflects:
        return np.zeros(0, np.uint64)
    words = list(table.words)
    of_word, of_sign = hash_words(words), hash_words([language.agreement_sign(word) for word in words])
    is_member = np.array([word in members for word in words])[table.ids]
    at = np.flatnonzero(is_member[2:]) + 2
    parts = (of_sign[table.ids[at - 2]], of_sign[table.ids[at - 1]], of_word[table.ids[at]])
    keys = sum(
        (part * np.uint64(weight) for part, weight in zip(parts, FORM_WEIGHTS, strict=True)), np.zeros(1, np.uint64)
    )
    return np.unique(keys)


def context_arrays(
    table: WordTable, members: set[str], language: CaptionLanguage, *, counted: set[str] | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Return how often each word comes, and each member after a word and before one: sorted keys and counts.

    Of more than 400,000 contexts of a kind the most frequent are kept.

    Args:
        table: The captions.
        members: Words of classes.
        language: The captions' language; in one that inflects, keys of forms are there, too.
        counted: The words of which it is said how often they come; None for all.
    """
    hashes = hash_words(list(table.words))
    if "an" in table.words and "a" in table.words:
        hashes = hashes.copy()
        hashes[table.words.index("an")] = hashes[table.words.index("a")]
    is_member = np.array([word in members for word in table.words])[table.ids]
    is_counted = np.array([counted is None or word in counted for word in table.words])[table.ids]
    found: dict[str, np.ndarray[Any, Any]] = {"forms": _forms_attested(table, members, language)}
    for name, weights in WEIGHTS.items():
        at = np.flatnonzero(is_counted[1:-1] if name == "words" else is_member[1:-1]) + 1
        sides = [hashes[table.ids[at + step]] for step in (-1, 0, 1)]
        keys, counts = np.unique(
            sum(
                (side * np.uint64(weight) for side, weight in zip(sides, weights, strict=True)), np.zeros(1, np.uint64)
            ),
            return_counts=True,
        )
        often: Int64s = np.sort(np.lexsort((keys, -counts))[:_MAX_CONTEXTS])
        found |= {f"{name}_keys": keys[often], f"{name}_counts": counts[often].astype(np.uint32)}
    return found
