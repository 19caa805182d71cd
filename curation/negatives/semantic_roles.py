"""Semantic roles in a caption: pairs of nouns that a verb or spatial relation connects asymmetrically."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from curation.text.phrases import Caption
from curation.text.wordlists import word_sets

_SETS = word_sets("semantic_roles")

SYMMETRIC_VERBS = _SETS["symmetric_verbs"]
"""Verbs that mean about the same when the two sides are exchanged; and "ride", which only one side can."""
ASYMMETRIC_PLACES = _SETS["asymmetric_places"]
"""Directed spatial relations: not "next to", "near", "beside", "by" nor "with"."""


class Link(NamedTuple):
    """Two nouns and what connects them.

    Attributes:
        one: The agent, or the object whose position is given.
        other: The patient, or the landmark.
        through: The connecting token: a verb, or the first word of a relation.
        words: The verb's dictionary form, or the relation.
    """

    one: int
    other: int
    through: int
    words: str


def links(caption: Caption) -> Iterator[Link]:
    """Yield the pairs of nouns that a verb or a directed spatial relation connects."""
    for verb, pos in enumerate(caption.pos):
        if pos == "VERB":
            yield from _of_verb(caption, verb)
    for place in caption.spatial_phrases():
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
        if lemma in _SETS["aimed_verbs"] and not caption.with_dep(verb, "dobj"):
            for preposition in caption.with_dep(verb, "prep"):
                if caption.words[preposition] in _SETS["aimed_prepositions"]:
                    words = f"{lemma} {caption.words[preposition]}"
                    yield from (Link(doer, target, verb, words) for target in caption.with_dep(preposition, "pobj"))
