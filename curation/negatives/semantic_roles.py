"""Who does what to whom, and what is where, in a caption: pairs of nouns that do not stand alike to each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from curation.knowledge.homonyms import word_set
from curation.text.phrases import Caption

SYMMETRIC_VERBS = word_set(
    "be have meet kiss hug embrace marry fight wrestle face share resemble join date divorce accompany touch battle box "
    "oppose compete near become see ride"
)
"""Verbs that say the same, or nearly, when the two sides change places; and "ride", which only one side can."""
ASYMMETRIC_PLACES = word_set("above below beneath underneath under over behind inside within") | {
    "to the left of", "to the right of", "on the left of", "on the right of", "left of", "right of", "on top of", "in front of",
    "on the left side of", "on the right side of",
}  # fmt: skip
"""Relations of place that have a direction: not "next to", "near", "beside", "by" nor "with"."""
_AIMED = word_set("at after toward towards behind from past over onto")
_AIMING = word_set(
    "look stare bark point wave smile shout yell laugh run chase walk jump leap gaze glare throw kick sit stand lean splash growl swing "
    "lie climb race sneak go fall"
)


class Link(NamedTuple):
    """Two nouns and what holds between them.

    Attributes:
        one: Who does it, or whose place is told.
        other: To whom, or where.
        through: The token between them: a verb, or the first word of a relation.
        words: The verb's dictionary form, or the relation.
    """

    one: int
    other: int
    through: int
    words: str


def links(caption: Caption) -> Iterator[Link]:
    """Yield the pairs of nouns of a caption that a verb or a place with a direction holds together."""
    for verb, pos in enumerate(caption.pos):
        if pos == "VERB":
            yield from _of_verb(caption, verb)
    for place in caption.places():
        if place.words in ASYMMETRIC_PLACES and place.landmark >= 0 and place.subject >= 0:
            yield Link(place.subject, place.landmark, place.first, place.words)


def _of_verb(caption: Caption, verb: int) -> Iterator[Link]:
    lemma = caption.verb(verb)
    if lemma in SYMMETRIC_VERBS or caption.with_dep(verb, "neg"):
        return
    passive = caption.with_dep(verb, "nsubjpass")
    doers = caption.with_dep(verb, "nsubj")
    if not doers and not passive and caption.deps[verb] == "acl":
        (passive if caption.tags[verb] == "VBN" else doers).append(caption.heads[verb])
    for by in caption.with_dep(verb, "agent"):
        for agent in caption.with_dep(by, "pobj"):
            yield from (Link(agent, patient, verb, lemma) for patient in passive)
    for doer in doers:
        yield from (Link(doer, target, verb, lemma) for target in caption.with_dep(verb, "dobj"))
        if lemma in _AIMING and not caption.with_dep(verb, "dobj"):
            for preposition in caption.with_dep(verb, "prep"):
                if caption.words[preposition] in _AIMED:
                    words = f"{lemma} {caption.words[preposition]}"
                    yield from (Link(doer, target, verb, words) for target in caption.with_dep(preposition, "pobj"))
