"""Which words of a corpus exclude each other: a verdict on each pair, and classes of words of which any two do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curation.blind.tokens import Mask
from curation.contrasts.caption_words import are_forms_of_one_word
from curation.contrasts.evidence import Occurrences, PairEvidence

_LEAST_COSINE = 0.5
_LEAST_COSINE_IN_FRAMES, _LEAST_FRAMES = 0.25, 10
_LEAST_MINIMAL = 3
_LEAST_AGREEMENT, _SURE_AGREEMENT = 0.5, 0.75
_MOST_MIXED, _SYNONYMS_MIXED = 0.2, 0.5
_LEAST_APART, _LEAST_SHARE_APART = 2, 0.1
_LEAST_EXPECTED, _MOST_TOGETHER, _MOST_TOPIC = 10.0, 0.25, 0.84
_LEAST_COSINE_OF_RARE, _LEAST_FRAMES_OF_RARE, _MOST_TOGETHER_OF_RARE, _MOST_TOPIC_OF_RARE = 0.6, 3, 0.5, 0.75
_LEAST_SHARE_OF_CLASS = 0.4
_MAX_MEMBERS = 64
_MAX_CLASSES = 1000

Relation = Callable[[str, str], bool]


class Contrast(NamedTuple):
    """Two words that exclude each other, with the reason in words."""

    one: str
    other: str
    evidence: str
    strength: int


class ContrastClass(NamedTuple):
    """Words of which any two exclude each other.

    Attributes:
        name: Its two most frequent members as learned.
        members: Word -> how often it comes, the most frequent first.
        contrasts: The pairs for which there is direct evidence, the strongest first.
        evidence: That of the class as a whole, where it has one.
    """

    name: str
    members: Mapping[str, int]
    contrasts: Sequence[Contrast]
    evidence: str = ""


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on the pairs of some evidence.

    Attributes:
        similar: The two can stand in one place.
        excluding: There is evidence that they exclude each other, and none against it.
        refused: There is evidence that both may be true, or a list or graph says so.
        against: Captions of one image call a thing by both.
        reasons: What the evidence is, for the excluding ones.
    """

    similar: Mask
    excluding: Mask
    refused: Mask
    against: Mask
    reasons: Sequence[str]


def judge(
    found: Occurrences, evidence: PairEvidence, kept: Collection[str], may_be_same: Relation, exclude: Relation
) -> Verdicts:
    """Judge pairs of words.

    Args:
        found: The words.
        evidence: Their evidence.
        kept: Words that are never exchanged for others.
        may_be_same: Whether lists or a graph say that two words may be true of one thing.
        exclude: Whether lists say that two words exclude each other.
    """
    names, pairs = found.names, list(zip(evidence.one.tolist(), evidence.other.tolist(), strict=True))
    frames = (evidence.frames >= _LEAST_FRAMES) & (evidence.cosine >= _LEAST_COSINE_IN_FRAMES)
    similar = (evidence.cosine >= _LEAST_COSINE) | frames | (evidence.minimal >= _LEAST_MINIMAL)
    with np.errstate(invalid="ignore"):
        sure = evidence.agreement >= _SURE_AGREEMENT
        agreed = sure | ((evidence.agreement >= _LEAST_AGREEMENT) & ~(evidence.mixed >= _SYNONYMS_MIXED))
        unmixed = np.isnan(evidence.agreement) & (evidence.mixed <= _MOST_MIXED)
        against: Mask = (evidence.agreement < _LEAST_AGREEMENT) | ((evidence.mixed >= _SYNONYMS_MIXED) & ~sure)
    apart = evidence.kept_apart >= np.maximum(_LEAST_APART, _LEAST_SHARE_APART * evidence.together)
    rare = (evidence.expected >= _LEAST_EXPECTED) & (evidence.together <= _MOST_TOGETHER * evidence.expected)
    alone = rare & (evidence.topic <= _MOST_TOPIC)
    alone |= (
        (evidence.cosine >= _LEAST_COSINE_OF_RARE)
        & (evidence.frames >= _LEAST_FRAMES_OF_RARE)
        & (evidence.together <= _MOST_TOGETHER_OF_RARE * evidence.expected + 0.5)
        & (evidence.topic <= _MOST_TOPIC_OF_RARE)
    )
    likely = similar & ~against
    listed = np.zeros(len(pairs), np.bool_)
    refused = np.array(against, np.bool_)
    for place in range(len(pairs)):
        one, other = (names[number] for number in pairs[place])
        if one in kept or other in kept or may_be_same(one, other):
            refused[place] = True
        elif exclude(one, other):
            listed[place] = not against[place]
        elif are_forms_of_one_word(one, other):
            refused[place] = True
    excluding = ~refused & ((likely & (agreed | unmixed | apart | alone)) | listed)
    reasons = [
        _reason(evidence, place, bool(agreed[place] or unmixed[place]), bool(apart[place]), bool(alone[place]))
        if excluding[place]
        else ""
        for place in range(len(pairs))
    ]
    return Verdicts(similar, excluding, refused, against, reasons)


def _reason(evidence: PairEvidence, place: int, images: bool, apart: bool, alone: bool) -> str:
    found = []
    if images and not np.isnan(evidence.agreement[place]):
        found.append(f"captions of one image agree on which of the two it is (kappa {evidence.agreement[place]:.2f})")
    elif images:
        found.append(f"captions of an image of one seldom say the other ({evidence.mixed[place]:.2f})")
    if apart:
        found.append(f"{evidence.kept_apart[place]} times side by side in a caption")
    if alone:
        found.append(
            f"together in {evidence.together[place]} captions where {evidence.expected[place]:.0f} were expected, "
            f"and the rest of their captions differs ({evidence.topic[place]:.2f})"
        )
    return "; ".join(found) or "opposites in our lists"


def build_classes(found: Occurrences, evidence: PairEvidence, verdicts: Verdicts) -> list[ContrastClass]:
    """Return classes of words: joined from the strongest pair on, while no two members are refused and most are known to exclude each other."""
    names, counts = found.names, found.counts
    strength = evidence.frames + evidence.minimal + evidence.kept_apart
    pairs = zip(evidence.one.tolist(), evidence.other.tolist(), strict=True)
    known: dict[tuple[int, int], int] = {pair: place for place, pair in enumerate(pairs)}
    places = np.flatnonzero(verdicts.excluding)
    order = places[np.lexsort((places, -evidence.cosine[places], -strength[places]))].tolist()
    class_of: dict[int, list[int]] = {}
    for place in order:
        one, other = int(evidence.one[place]), int(evidence.other[place])
        mine, theirs = class_of.setdefault(one, [one]), class_of.setdefault(other, [other])
        if mine is theirs or len(mine) + len(theirs) > _MAX_MEMBERS:
            continue
        crossed = [known.get((min(a, b), max(a, b)), -1) for a in mine for b in theirs]
        if any(cross >= 0 and verdicts.refused[cross] for cross in crossed):
            continue
        excluding = sum(cross >= 0 and bool(verdicts.excluding[cross]) for cross in crossed)
        if excluding < _LEAST_SHARE_OF_CLASS * len(crossed):
            continue
        mine += theirs
        for member in theirs:
            class_of[member] = mine
    groups = {id(members): members for members in class_of.values() if len(members) > 1}
    classes = []
    for members in groups.values():
        ordered = sorted(members, key=lambda number: (-int(counts[number]), names[number]))
        inside = [
            Contrast(names[one], names[other], verdicts.reasons[place], int(strength[place]))
            for a, one in enumerate(sorted(members))
            for other in sorted(members)[a + 1 :]
            if (place := known.get((one, other), -1)) >= 0 and verdicts.excluding[place]
        ]
        classes.append(
            ContrastClass(
                "/".join(names[number] for number in ordered[:2]),
                {names[number]: int(counts[number]) for number in ordered},
                sorted(inside, key=lambda contrast: (-contrast.strength, contrast.one, contrast.other)),
            )
        )
    classes.sort(key=lambda one: (-sum(one.members.values()), one.name))
    return classes[:_MAX_CLASSES]
