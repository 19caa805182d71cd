"""Replace a spatial relation by its opposite: left and right, above and below, in front and behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field
from curation.models.parser import CaptionParse
from curation.negatives.slots import Change, Slot, SlotStage
from curation.negatives.spatial_opposites import OPPOSITE_PLACES, OPPOSITE_WORDS, fits_place
from curation.text.edits import Edit, match_case
from curation.text.lexicon import canonical_noun
from curation.text.phrases import Caption, SpatialPhrase
from data_manifests.sample import Sample

_OWNED = ("the", "his", "her", "their", "its")
_SIDED = ("side", "hand", "foot", "arm", "leg", "corner", "edge", "shoulder", "eye", "ear")
_OPPOSITE_CUES = {*OPPOSITE_WORDS, "front", "top", "bottom", "out", "away", *OPPOSITE_PLACES}
"""Every caption that can change has one of these."""


@dataclass(frozen=True)
class InvertRelations(SlotStage):
    """Make up to `per_caption` negatives per caption by inverting a spatial relation or direction.

    Provides ``space_negatives``, a list of negative records: left and right, above and below, over and under, in front of
    and behind, inside and outside, into and out of, onto and off, up and down, towards and away from, indoors and
    outdoors, foreground and background. A relation changes only with nouns and verbs with which its opposite makes
    sense, never without an opposite ("next to", "near", "between"), and never between two objects of one name, where
    both may be true.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.

    Raises:
        InputError: `per_caption` is below 1.

    Source: Liu, Emerson and Collier 2023 (VSR), section 3, arXiv 2205.00363.
    Differs: VSR has people say whether a relation drawn from a list holds; here only opposites are used, which exclude
        each other.
    """

    name: ClassVar[str] = "invert_relations"
    version: ClassVar[int] = 2
    provides: ClassVar[tuple[Field, ...]] = (Field("space_negatives", publish="sample", role="negatives"),)
    source: ClassVar[str] = "Liu et al. 2023, section 3, arXiv 2205.00363"
    knows_only_english: ClassVar[bool] = True
    operation: ClassVar[str] = "space"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Invert relations in every caption of every sample."""
        return [{"space_negatives": self.negatives(sample, _find_slots, _may_change)} for sample in samples]


def _may_change(parse: CaptionParse) -> bool:
    return not _OPPOSITE_CUES.isdisjoint(map(str.lower, parse["words"]))


def _find_slots(caption: Caption) -> list[Slot]:
    slots, in_relation = [], set[int]()
    for place in caption.spatial_phrases():
        if place.words in OPPOSITE_PLACES and place.landmark >= 0:
            in_relation.update(range(place.first, place.stop))
            if _invertible(caption, place):
                slots.append(Slot("place", "relation", OPPOSITE_PLACES[place.words], partial(_place, caption, place)))
    for token, word in enumerate(caption.words):
        if word not in OPPOSITE_WORDS or OPPOSITE_WORDS[word] in caption.words:
            continue
        if token not in in_relation and _is_direction(caption, token):
            slots.append(Slot("direction", "relation", (OPPOSITE_WORDS[word],), partial(_word, caption, token)))
    return slots


def _invertible(caption: Caption, place: SpatialPhrase) -> bool:
    noun = caption.lemma(place.landmark)
    if place.subject >= 0 and canonical_noun(caption.lemma(place.subject)) == canonical_noun(noun):
        return False
    determined = bool(caption.with_dep(place.landmark, "det", "poss", "nummod", "compound", "amod"))
    head = caption.heads[place.first]
    verb = caption.verb(head) if caption.pos[head] in ("VERB", "AUX") else ""
    return fits_place(place.words, noun, verb, determined)


def _is_direction(caption: Caption, token: int) -> bool:
    word, dep = caption.words[token], caption.deps[token]
    if not caption.is_whole_word(token) or (token and not caption.raw[token - 1][-1:].isalnum()):
        return False
    before, after = caption.words[token - 1] if token else "", "".join(caption.words[token + 1 : token + 2])
    if word in ("left", "right"):
        return before in _OWNED and (
            after in _SIDED or not after[:1].isalpha() or after in ("is", "and", "as", "while")
        )
    if word in ("inside", "outside"):
        return dep == "advmod" and not after[:1].isalpha() and bool(before)
    if word in ("foreground", "background"):
        return before == "the" and not caption.with_dep(token, "amod", "compound", "prep")
    return dep in ("advmod", "amod", "pobj", "prep") and not after[:1].isalpha() and bool(before)


def _place(caption: Caption, place: SpatialPhrase, new: str) -> Change:
    span = caption.span(place.first, place.stop)
    rule = f"invert '{place.words}' -> '{new}' before '{caption.raw[place.landmark]}'"
    return Change([Edit(span.start, span.end, match_case(caption.raw[place.first], new))], rule)


def _word(caption: Caption, token: int, new: str) -> Change:
    rule = f"invert '{caption.words[token]}' -> '{new}'"
    return Change(caption.replacement_edits(token, new), rule)
