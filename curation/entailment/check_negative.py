"""Why a negative may be true of its image: its claims compared with those of the image's captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from curation.entailment.claims import Claims
from curation.entailment.entail import is_compatible, is_entailed, merge_claims
from curation.entailment.plausibility import sort_lists
from curation.entailment.read_claims import read_claims
from curation.entailment.tokens import content_words, tag_new_words, tags_of
from curation.entailment.word_meanings import WordRelations
from curation.entailment.word_pairs import WordPair, replaced_words, synonym_or_hypernym
from curation.models.parser import Parse
from curation.text.wordlists import word_sets

_SETS = word_sets("claims")

_EXCHANGE_OPERATIONS = ("swap", "bind", "role")
_WELL_FORMED = "naming"
"""The span class of shuffles whose result is still a grammatical sentence."""
_GROWN_UP_PAIRS = (frozenset({"girl", "woman"}), frozenset({"boy", "man"}))
_POSTURES = frozenset({"sit", "stand", "lie", "lean"})
_ACTIONS_IN_ANY_POSTURE = _SETS["actions_in_any_posture"]
"""Actions that are done in a posture which captions often leave out."""
_AGED_NOUNS = _SETS["children"] | _SETS["adults"]


@dataclass(slots=True)
class SampleClaims:
    """The claims of an image's captions and negatives.

    Attributes:
        texts: The captions as `content_words`.
        lists: The captions with their lists in alphabetical order.
        captions: The claims of each caption.
        records: The negatives.
        claims: The claims of each negative.
        pairs: The words that each negative replaces; none for shuffled words.
    """

    texts: frozenset[str]
    lists: frozenset[str]
    captions: list[Claims]
    records: list[dict[str, Any]]
    claims: list[Claims]
    pairs: list[list[WordPair]]


def read_sample_claims(
    captions: Sequence[str], parses: Sequence[Parse], records: list[dict[str, Any]], *, copies: bool
) -> SampleClaims:
    """Return the claims of captions and negatives; see `read_claims` for `copies`."""
    own_tags = [tags_of([parse]) for parse in parses]
    shared: dict[str, str] = {}
    for found in reversed(own_tags):
        shared |= found  # where captions differ, the first one's
    tags = [shared | found for found in own_tags]
    caption_claims = [read_claims(text, own, copies=copies) for text, own in zip(captions, tags, strict=True)]
    claims, pairs = [], []
    for record in records:
        caption, own = captions[record["caption"]], tags[record["caption"]]
        known = tag_new_words(caption, record["text"], record["edits"], own)
        claims.append(read_claims(record["text"], known, copies=copies))
        pairs.append([] if record["type"] == "order" else replaced_words(caption, record, own))
    texts, lists = frozenset(map(content_words, captions)), frozenset(map(sort_lists, captions))
    return SampleClaims(texts, lists, caption_claims, records, claims, pairs)


def claim_words(read: SampleClaims) -> Iterator[str]:
    """Yield all words whose relations are needed, some more than once."""
    for claims in (*read.captions, *read.claims):
        for thing in claims.things:
            yield thing.noun
            yield from (word.removeprefix("do:") for word in thing.properties)
    for pairs in read.pairs:
        for old, new, _ in pairs:
            yield from (old, new)


class ImageClaims:
    """The claims of the captions of one image, singly and together; computed when first needed."""

    def __init__(self, read: SampleClaims, relations: WordRelations) -> None:
        self.read, self.relations = read, relations
        self.merged = cache(
            lambda caption: merge_claims(read.captions if caption < 0 else [read.captions[caption]], relations)
        )
        """The claims of one caption, or with -1 of all captions together."""
        things = [thing for claims in read.captions for thing in claims.things if not thing.denied]
        nouns = frozenset(thing.noun for thing in things)
        self._properties = frozenset(word for thing in things for word in thing.properties)
        self._is_named = cache(lambda noun: any(relations.covers(noun, other) for other in nouns))
        self._may_be_named = cache(
            lambda noun: noun in nouns or any(relations.may_be_called(noun, (other,)) for other in nouns)
        )

    def mentions_all(self, claims: Claims) -> bool:
        """Return whether the captions name each thing, its number, and each action of people and animals.

        A quick test: most negatives fail it, and then no caption entails them and no claims need to be merged.
        """
        return self._states_details(claims) and all(
            self._is_named(thing.noun) for thing in claims.things if not thing.denied
        )

    def _states_details(self, claims: Claims) -> bool:
        """Return whether some caption states each number, and each action of people and animals."""
        new = [word for thing in claims.things if not thing.denied for word in thing.properties - self._properties]
        if any(word[0] == "#" for word in new):
            return False
        return not any(word[:3] == "do:" for word in new) or not self.relations.is_living(
            thing.noun for thing in claims.things
        )

    def is_entailed(self, claims: Claims, caption: int) -> bool:
        """Return whether one caption entails the claims, or with -1 all captions together."""
        return is_entailed(claims, self.merged(caption), self.relations)

    def is_compatible(self, claims: Claims) -> bool:
        """Return whether the captions together contradict no claim.

        Quick for most negatives: captions would have named a new thing, another number or a new action.
        """
        return (
            self._states_details(claims)
            and all(self._may_be_named(thing.noun) for thing in claims.things if not thing.denied)
            and is_compatible(claims, self.merged(-1), self.relations)
        )


def rejection_reason(
    record: Mapping[str, Any], claims: Claims, pairs: Sequence[WordPair], image: ImageClaims
) -> tuple[str, str]:
    """Return the reason why a record is no negative, with details; two empty strings when it is one.

    A text with shuffled words (type ``order``) is wrong by its form. It is rejected only if its own caption entails it,
    or, where only nouns and adjectives are shuffled, if the captions together do.
    """
    own, relations, shuffled = record["caption"], image.relations, record["type"] == "order"
    known = "" if shuffled else synonym_or_hypernym(pairs, relations)
    if known == "hypernym" and record["operation"] in _EXCHANGE_OPERATIONS:
        known = ""  # both words are still there, so the roles decide
    reason = detail = ""
    lists = "" if shuffled else sort_lists(record["text"])
    if content_words(record["text"]) in image.read.texts:
        reason, detail = "same_text", "equal to a caption but for case, spaces and articles"
    elif not shuffled and lists in image.read.lists:
        reason, detail = "same_meaning", "the same with a list in another order"
    elif known:
        reason = "same_role" if known == "synonym" and record["operation"] in _EXCHANGE_OPERATIONS else known
        detail = "; ".join(f"{old} -> {new}" for old, new, _ in pairs)
    elif record["operation"] == "replace" and (open_words := _open_words(pairs, image)):
        reason, detail = open_words
    elif (mentioned := image.mentions_all(claims)) and image.is_entailed(claims, own):
        weaker = _size(claims) < _size(image.read.captions[own])
        reason = "possible" if weaker else "same_meaning"
        detail = "says less than its caption" if weaker else "its caption says so"
    elif not shuffled:
        reason, detail = _reason_from_captions(own, claims, image, mentioned=mentioned)
    elif record.get("span_class") == _WELL_FORMED and mentioned and image.is_entailed(claims, -1):
        reason, detail = "said_by_other_caption", "the captions together say so"
    return reason, detail


def _open_words(pairs: Sequence[WordPair], image: ImageClaims) -> tuple[str, str] | None:
    """Return why two replaced words may both be true, if nothing else changes."""
    if not pairs:
        return None
    old, new, _ = pairs[0]
    if all(frozenset(pair[:2]) in _GROWN_UP_PAIRS for pair in pairs) and not _states_age(image):
        return "synonym", f"{old} or {new}: no caption tells the age"
    if all(kind == "V" and one in _ACTIONS_IN_ANY_POSTURE and other in _POSTURES for one, other, kind in pairs):
        return "possible", f"who may {old} may {new} all the while"
    return None


def _states_age(image: ImageClaims) -> bool:
    """Return whether some caption states an age: many people call a young woman a girl."""
    return any(
        thing.noun in _AGED_NOUNS or not thing.properties.isdisjoint(("small", "old"))
        for claims in image.read.captions
        for thing in claims.things
        if image.relations.is_living([thing.noun])
    )


def _reason_from_captions(own: int, claims: Claims, image: ImageClaims, *, mentioned: bool) -> tuple[str, str]:
    """Return the reason if other captions entail the claims, or if no caption contradicts them."""
    for other in range(len(image.read.captions)) if mentioned else ():
        if other != own and image.is_entailed(claims, other):
            return "said_by_other_caption", f"caption {other} says so"
    if mentioned and image.is_entailed(claims, -1):
        return "said_by_other_caption", "the captions together say so"
    if image.is_compatible(claims):
        return "possible", "no caption speaks against it"
    return "", ""


def _size(claims: Claims) -> int:
    return len(claims.things) + len(claims.links) + sum(len(thing.properties) for thing in claims.things)
