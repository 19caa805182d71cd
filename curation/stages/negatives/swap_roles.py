"""Exchange subject and object of a verb, or the two sides of a spatial relation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field
from curation.models.parser import CaptionParse
from curation.negatives.semantic_roles import Link, links
from curation.negatives.slots import Change, Slot, SlotStage
from curation.text.edits import normalise, swap_spans
from curation.text.lexicon import COLOURS
from curation.text.phrases import Caption
from curation.text.word_families import is_animal, is_human, object_families
from curation.text.wordlists import word_sets
from data_manifests.sample import Sample

_SETS = word_sets("swap_roles")

_REFERRING = _SETS["referring"]
"""Words that refer to one of the two sides; after the exchange they would refer to the wrong one."""
_FAMILIES = ("shape", "car", "bike", "boat", "building", "board", "seat")
"""Families of inanimate objects that can replace each other."""
_WORN = ("top", "bottom", "hat", "eyewear", "shoe", "neck")
_AFTER = ("acl", "relcl", "conj", "cc", "appos")


@dataclass(frozen=True)
class SwapRoles(SlotStage):
    """Make up to `per_caption` negatives per caption by exchanging the two sides of a verb or spatial relation.

    Provides ``role_negatives``, a list of negative records: "a dog chases a cat" to "a cat chases a dog", active,
    passive ("chased by") and without a finite verb ("a dog chasing a cat"), and "a man behind a woman" to "a woman
    behind a man". Each side must be able to take the other's role: two living beings, or two objects of one family. The
    finite verb agrees with its new subject. Symmetric relations ("next to", "and", "hug") are left out, and so are
    captions with a pronoun, which would refer to the wrong side.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.

    Raises:
        InputError: `per_caption` is below 1.

    Source: Yuksekgonul et al. 2023 (ARO's relation task), section 3, arXiv 2210.01936.
    Differs: ARO exchanges the two objects of an annotated relation; here subject and object come from the parse, and
        symmetric relations are not exchanged at all (ARO leaves them out of its scores).
    """

    name: ClassVar[str] = "swap_roles"
    version: ClassVar[int] = 2
    provides: ClassVar[tuple[Field, ...]] = (Field("role_negatives", publish="sample", role="negatives"),)
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 3, arXiv 2210.01936"
    knows_only_english: ClassVar[bool] = True
    operation: ClassVar[str] = "role"

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Exchange roles in every caption of every sample."""
        return [{"role_negatives": self.negatives(sample, _find_slots, _may_change)} for sample in samples]


def _may_change(parse: CaptionParse) -> bool:
    return len(parse["noun_phrases"]) > 1 and _REFERRING.isdisjoint(map(str.lower, parse["words"]))


def _find_slots(caption: Caption) -> list[Slot]:
    known = [
        token for token, pos in enumerate(caption.pos) if pos in ("NOUN", "PROPN") and _is_known(caption.lemma(token))
    ]
    if len(known) < 2:  # quicker than looking for relations
        return []
    slots, used = [], set[frozenset[int]]()
    for link in links(caption):
        pair = frozenset((link.one, link.other))
        if pair not in used and len(pair) == 2 and _exchangeable(caption, link):
            used.add(pair)
            action = caption.pos[link.through] == "VERB"
            name, kind = ("agent", "action") if action else ("place", "relation")
            slots.append(Slot(name, kind, (link,), partial(_change, caption)))
    return slots


def _is_known(lemma: str) -> bool:
    return is_human(lemma) or bool(object_families(lemma)) or is_animal(lemma)


def _exchangeable(caption: Caption, link: Link) -> bool:
    """Return whether each noun can take the other's role."""
    if not caption.is_noun(link.one) or not caption.is_noun(link.other):
        return False
    one, other = caption.lemma(link.one), caption.lemma(link.other)
    if (is_human(one) or is_animal(one)) and (is_human(other) or is_animal(other)):
        return True
    families = [family for family in object_families(one) if family.name in _FAMILIES and other in family.members]
    return any(one != other or family.name == "shape" for family in families)


def _change(caption: Caption, link: Link) -> Change | None:
    spans = [_side(caption, noun, link.through) for noun in (link.one, link.other)]
    if spans[0] is None or spans[1] is None:
        return None
    one, other = sorted([spans[0], spans[1]])
    if one[1] > other[0] or one[0] <= link.through < one[1] or other[0] <= link.through < other[1]:
        return None
    first, second = caption.span(*one), caption.span(*other)
    if normalise(caption.text[first.start : first.end]) == normalise(caption.text[second.start : second.end]):
        return None
    pieces = swap_spans(caption.text, caption.parse, first, second)
    plurals = caption.is_plural(link.one), caption.is_plural(link.other)
    if plurals[0] != plurals[1]:
        for noun, plural in ((link.one, plurals[1]), (link.other, plurals[0])):
            agreed = caption.agreement_edits(noun, plural=plural)
            if agreed is None:
                return None
            pieces += [piece for piece in agreed if not _inside(piece.start, first, second)]
    words = [caption.text[span.start : span.end] for span in (first, second)]
    return Change(pieces, f"swap roles of '{link.words}': '{words[0]}' <-> '{words[1]}'")


def _inside(start: int, *spans: Any) -> bool:
    return any(span.start <= start < span.end for span in spans)


def _side(caption: Caption, noun: int, through: int) -> tuple[int, int] | None:
    """Return the tokens of one side: the noun phrase and what stands between it and the verb ("in a red shirt")."""
    base = caption.phrase(noun)
    attached = [child for child in caption.with_dep(noun, *_AFTER) if child != through]
    if base is None or attached or caption.deps[noun] == "conj" or caption.words[base[0]] in ("no", "any"):
        return None
    modifiers = [child for child in caption.with_dep(noun, "prep") if child not in (through, base[0]) and child > noun]
    if not modifiers or modifiers[0] > through > noun or through in caption.subtree(modifiers[0]):
        return base
    if noun > through:
        return _with_clothes(caption, noun, base)
    tokens = sorted(
        {*range(*base), *(below for child in modifiers if child < through for below in caption.subtree(child))}
    )
    follower = tokens[-1] + 1
    if follower != through and caption.pos[follower : follower + 1] not in (["VERB"], ["AUX"], ["PUNCT"]):
        return None
    return (base[0], follower) if tokens[-1] - tokens[0] + 1 == len(tokens) and tokens[-1] < through else None


def _with_clothes(caption: Caption, noun: int, base: tuple[int, int]) -> tuple[int, int]:
    """Return a noun phrase with "in blue" or "in a red coat" right after it: the clothes move with their wearer."""
    for child in caption.with_dep(noun, "prep"):
        below = caption.subtree(child)
        objects = [caption.lemma(token) for token in caption.with_dep(child, "pobj")]
        dressed = any(
            word in COLOURS or any(family.name in _WORN for family in object_families(word)) for word in objects
        )
        if child == base[1] and caption.words[child] == "in" and dressed and below[-1] - child + 1 == len(below):
            return base[0], below[-1] + 1
    return base
