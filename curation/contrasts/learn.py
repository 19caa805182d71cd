"""Learn the contrasts of a corpus from a sample of its captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from curation.blind.tokens import Int64s, hash_words
from curation.contrasts.caption_words import JOIN_ROUNDS, WordTable, as_written, is_number, join
from curation.contrasts.classes import ContrastClass, Relation, Verdicts, build_classes, judge
from curation.contrasts.evidence import Occurrences, PairEvidence
from curation.contrasts.vocabulary import ContrastVocabulary
from curation.text.languages import ENGLISH, CaptionLanguage

_LEAST_COUNT, _CAPTIONS_PER_COUNT = 3, 4_000
_MAX_CONTEXTS = 400_000
_MAX_NUMBERS, _MAX_UNITS = 64, 200
_LEAST_NUMBERS, _LEAST_MEASURED, _LEAST_SHARE_MEASURED = 5, 10, 0.3
_MAX_CONTRASTS = 40
"""Most pairs of a class whose evidence is kept to be read."""
_TYPES = {
    "NOUN": "object", "PROPN": "object", "ADJ": "attribute", "VERB": "action", "NUM": "number", "X": "attribute",
}  # fmt: skip

WEIGHTS = {"words": (0, 1, 0), "before": (3, 5, 0), "after": (0, 5, 11), "both": (3, 5, 11)}
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
        vocabulary: What people have decided, which is stronger than all evidence.
        language: The captions' language.
    """

    images: Sequence[LearningImage]
    may_be_same: Relation
    exclude: Relation
    vocabulary: ContrastVocabulary
    language: CaptionLanguage = ENGLISH

    def learn(self) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
        """Return JSON values and arrays of a fit; see `curation.contrasts.substitutes.Substitutes`."""
        num_captions = sum(len(image.captions) for image in self.images)
        least = max(_LEAST_COUNT, num_captions // _CAPTIONS_PER_COUNT)
        lowered = [[[word.lower() for word in caption] for caption in image.captions] for image in self.images]
        joined: set[tuple[str, str]] = self.vocabulary.joined_pairs()
        for _ in range(JOIN_ROUNDS):
            table = WordTable.of([[join(caption, joined) for caption in image] for image in lowered])
            joined |= table.pairs_to_join(2 * least, self.language.kept_words)
        table = WordTable.of([[join(caption, joined) for caption in image] for image in lowered])
        found = Occurrences.of(table, least)
        classes: list[ContrastClass] = []
        if len(found.units) > 1:
            evidence = PairEvidence.of(found, found.candidates())
            classes = build_classes(found, evidence, self._judged(found, evidence))
        counts = np.bincount(table.ids, minlength=len(table.words)).tolist()
        classes = self.vocabulary.applied_to(classes, dict(zip(table.words, counts, strict=True)))
        forms = self._forms({word for one in classes for word in one.members}, joined)
        types = self._types()
        values = {
            "joined": sorted(map(list, joined)),
            "classes": [_describe(one, forms, types, self.language.negations) for one in classes],
            "synonyms": sorted(map(sorted, self.vocabulary.synonyms)),
            "numbers": _numbers(table),
            "language": self.language.code,
            "num_captions": num_captions,
            "num_words": len(table.ids),
        }
        members = {word for one in classes for word in one.members}
        return values, {**_contexts(table, members), "forms": _forms_attested(table, members, self.language)}

    def _judged(self, found: Occurrences, evidence: PairEvidence) -> Verdicts:
        return judge(found, evidence, self.language.kept_words, self.may_be_same, self.exclude)

    def _forms(self, members: set[str], joined: set[tuple[str, str]]) -> dict[str, str]:
        """Return how each member is mostly written within captions: "CT", "Men"."""
        written: dict[str, Counter[str]] = {word: Counter() for word in members}
        parts = {word.split(" ")[0] for word in members}
        for image in self.images:
            for caption in image.captions:
                lowered = [word.lower() for word in caption]
                if parts.isdisjoint(lowered):
                    continue
                at = 0
                for word in join(lowered, joined):
                    stop = at + 1 + word.count(" ")
                    if word in written:
                        # the first word of a caption is capitalised, whatever it is
                        written[word][as_written(" ".join(caption[at:stop]))] += 1 if at else 0
                    at = stop
        return {word: min(forms, key=lambda form: (-forms[form], form)) for word, forms in written.items() if forms}

    def _types(self) -> dict[str, str]:
        """Return the type of negative that each word makes, by the part of speech that most images have it as."""
        votes: dict[str, Counter[str]] = {}
        for image in self.images:
            for word, pos in image.pos.items():
                votes.setdefault(word, Counter())[pos] += 1
        most = {word: min(found, key=lambda pos: (-found[pos], pos)) for word, found in votes.items()}
        return {word: _TYPES.get(pos, "relation") for word, pos in most.items()}


def _describe(
    one: ContrastClass, forms: Mapping[str, str], types: Mapping[str, str], negations: frozenset[str]
) -> dict[str, Any]:
    """Return a class as JSON."""
    votes = Counter(types.get(word.split(" ")[-1], "attribute") for word in one.members)
    kind = min(votes, key=lambda name: (-votes[name], name))
    return {
        "name": one.name,
        "type": "negation" if negations & one.members.keys() else kind,
        "members": [[word, count, forms.get(word, as_written(word))] for word, count in one.members.items()],
        "contrasts": [list(contrast) for contrast in one.contrasts[:_MAX_CONTRASTS]],
    }


def _numbers(table: WordTable) -> dict[str, list[list[Any]]]:
    """Return the numbers that come before each unit, the most frequent first, with counts: "mm" -> [["5", 12], ...].

    A unit is a word that often follows numbers, many different ones: "mm", "years", but not "shows" of "figure 2 shows".
    """
    numeric = np.array([is_number(word) for word in table.words])
    spelled = np.array([word.isalpha() for word in table.words])
    counts, size = np.bincount(table.ids, minlength=len(table.words)), len(table.words)
    one, other = table.ids[:-1], table.ids[1:]
    measured = numeric[one] & spelled[other]
    pairs, times = np.unique(other[measured] * size + one[measured], return_counts=True)
    by_unit: dict[str, list[list[Any]]] = {}
    for unit in np.unique(pairs // size).tolist():
        inside = pairs // size == unit
        total = int(times[inside].sum())
        if inside.sum() >= _LEAST_NUMBERS and total >= max(_LEAST_MEASURED, _LEAST_SHARE_MEASURED * counts[unit]):
            found = [
                [table.words[pair % size], count]
                for pair, count in zip(pairs[inside], times[inside].tolist(), strict=True)
            ]
            by_unit[table.words[unit]] = sorted(found, key=lambda item: (-item[1], item[0]))[:_MAX_NUMBERS]
    most = sorted(by_unit, key=lambda unit: (-sum(count for _, count in by_unit[unit]), unit))[:_MAX_UNITS]
    return {unit: by_unit[unit] for unit in sorted(most)}


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


def _contexts(table: WordTable, members: set[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Return how often each word comes, and each member after a word, before a word, and between two: sorted keys and counts.

    Of more than 400,000 contexts of a kind the most frequent are kept, and of those of both sides only repeated ones.
    """
    hashes = hash_words(list(table.words))
    if "an" in table.words and "a" in table.words:
        hashes = hashes.copy()
        hashes[table.words.index("an")] = hashes[table.words.index("a")]
    is_member = np.array([word in members for word in table.words])[table.ids]
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name, weights in WEIGHTS.items():
        at = np.flatnonzero(is_member[1:-1] | (name == "words")) + 1
        sides = [hashes[table.ids[at + step]] for step in (-1, 0, 1)]
        keys, counts = np.unique(
            sum(
                (side * np.uint64(weight) for side, weight in zip(sides, weights, strict=True)), np.zeros(1, np.uint64)
            ),
            return_counts=True,
        )
        often: Int64s = np.flatnonzero(counts > (1 if name == "both" else 0))
        often = np.sort(often[np.lexsort((keys[often], -counts[often]))][:_MAX_CONTEXTS])
        found |= {f"{name}_keys": keys[often], f"{name}_counts": counts[often].astype(np.uint32)}
    return found
