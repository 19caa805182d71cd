"""Why a negative of one image is no negative: its claims beside those of the image's captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.entailment.claims import Claims
from curation.entailment.entail import MergedClaims, is_compatible, is_entailed, merge_claims
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
"""The shuffle that leaves a sentence a sentence."""
_GROWN_UP_PAIRS = (frozenset({"girl", "woman"}), frozenset({"boy", "man"}))
_POSTURES = frozenset({"sit", "stand", "lie", "lean"})
_ACTIONS_IN_ANY_POSTURE = _SETS["actions_in_any_posture"]
"""What one does in some posture that captions leave out."""
_CHILDREN = _SETS["children"]
_ADULTS = _SETS["adults"]


@dataclass(slots=True)
class SampleClaims:
    """An image's captions and negatives, read.

    Attributes:
        texts: The captions in plain form.
        lists: The captions with lists in alphabetical order.
        captions: What each claims.
        records: The negatives.
        claims: What each negative claims.
        pairs: Which words each negative puts in place of which; none for those that only lost their order.
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
    """Read captions and negatives; see `equivalence.read_claims` for `copies`."""
    own_tags = [tags_of([parse]) for parse in parses]
    shared: dict[str, str] = {}
    for found in reversed(own_tags):
        shared |= found  # where captions differ, the first one's
    tags = [shared | found for found in own_tags]
    told = [read_claims(text, tags[at], copies=copies) for at, text in enumerate(captions)]
    claims, pairs = [], []
    for record in records:
        caption, own = captions[record["caption"]], tags[record["caption"]]
        known = tag_new_words(caption, record["text"], record["edits"], own)
        claims.append(read_claims(record["text"], known, copies=copies))
        pairs.append([] if record["type"] == "order" else replaced_words(caption, record, own))
    lists = frozenset(map(sort_lists, captions))
    return SampleClaims(frozenset(content_words(caption) for caption in captions), lists, told, records, claims, pairs)


def claim_words(read: SampleClaims) -> Iterator[str]:
    """Yield all words whose meaning may be asked for, some more than once."""
    for claims in (*read.captions, *read.claims):
        for thing in claims.things:
            yield thing.noun
            yield from (word.removeprefix("do:") for word in thing.properties)
    for pairs in read.pairs:
        for old, new, _ in pairs:
            yield from (old, new)


class ImageClaims:
    """What the captions of one image claim, one by one and together; worked out when first asked."""

    def __init__(self, read: SampleClaims, kinds: WordRelations) -> None:
        self.read, self.kinds = read, kinds
        self._told: dict[int, MergedClaims] = {}
        self._named: dict[str, bool] = {}
        self._fitting: dict[str, bool] = {}
        things = [thing for claims in read.captions for thing in claims.things if not thing.denied]
        self._nouns = frozenset(thing.noun for thing in things)
        self._said = frozenset(word for thing in things for word in thing.properties)

    def merged(self, caption: int) -> MergedClaims:
        """Return what one caption says, or with -1 what all say together."""
        if caption not in self._told:
            claims = self.read.captions if caption < 0 else [self.read.captions[caption]]
            self._told[caption] = merge_claims(claims, self.kinds)
        return self._told[caption]

    def mentions_all(self, claims: Claims) -> bool:
        """Say whether some caption names each thing, its number and what each of the living does.

        Quick: where none does, as with most negatives, none of them says it all, and no caption's world is needed.
        """
        return self._is_told(claims) and all(self._is_named(thing.noun) for thing in claims.things if not thing.denied)

    def _is_named(self, noun: str) -> bool:
        named = self._named.get(noun)
        if named is None:
            named = any(self.kinds.covers(noun, other) for other in self._nouns)
            self._named[noun] = named
        return named

    def _is_told(self, claims: Claims) -> bool:
        """Say whether some caption tells each number, and what each of the living does."""
        new = [word for thing in claims.things if not thing.denied for word in thing.properties - self._said]
        if any(word[0] == "#" for word in new):
            return False
        return not any(word[:3] == "do:" for word in new) or not self.kinds.is_living(one.noun for one in claims.things)

    def is_entailed(self, claims: Claims, caption: int) -> bool:
        """Say whether one caption says all that is claimed, or with -1 all of them together."""
        return is_entailed(claims, self.merged(caption), self.kinds)

    def is_compatible(self, claims: Claims) -> bool:
        """Say whether nothing that the captions say speaks against a claim.

        Quick, as `mentions_all` is: a new thing, another number or a new deed of the living would have been told.
        """
        return (
            self._is_told(claims)
            and all(self._may_be_called(thing.noun) for thing in claims.things if not thing.denied)
            and is_compatible(claims, self.merged(-1), self.kinds)
        )

    def _may_be_called(self, noun: str) -> bool:
        """Say whether the name fits something that some caption names."""
        fits = self._fitting.get(noun)
        if fits is None:
            fits = noun in self._nouns or any(self.kinds.may_be_called(noun, (other,)) for other in self._nouns)
            self._fitting[noun] = fits
        return fits


def rejection_reason(
    record: Mapping[str, Any], claims: Claims, pairs: Sequence[WordPair], image: ImageClaims
) -> tuple[str, str]:
    """Return why a record is no negative, and what shows it; two empty strings when nothing does.

    A text whose words have lost their order (type ``order``) is wrong by its form: only a text that still says what its
    caption says is refused, or, where only naming words changed places, what the captions say together.
    """
    own, kinds, shuffled = record["caption"], image.kinds, record["type"] == "order"
    known = "" if shuffled else synonym_or_hypernym(pairs, kinds)
    if known == "hypernym" and record["operation"] in _EXCHANGE_OPERATIONS:
        known = ""  # both words are still there: who does what is what counts
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
        reason, detail = _told_or_open(own, claims, image, mentioned=mentioned)
    elif record.get("span_class") == _WELL_FORMED and mentioned and image.is_entailed(claims, -1):
        reason, detail = "said_by_other_caption", "the captions together say so"
    return reason, detail


def _open_words(pairs: Sequence[WordPair], image: ImageClaims) -> tuple[str, str] | None:
    """Return why words that replace each other need not exclude each other, if that is all that changes."""
    if not pairs:
        return None
    old, new, _ = pairs[0]
    if all(frozenset(pair[:2]) in _GROWN_UP_PAIRS for pair in pairs) and not _age_is_told(image):
        return "synonym", f"{old} or {new}: no caption tells the age"
    if all(kind == "V" and one in _ACTIONS_IN_ANY_POSTURE and other in _POSTURES for one, other, kind in pairs):
        return "possible", f"who may {old} may {new} all the while"
    return None


def _age_is_told(image: ImageClaims) -> bool:
    """Say whether some caption tells a child from an adult: many call a young woman a girl."""
    return any(
        thing.noun in _CHILDREN or thing.noun in _ADULTS or not thing.properties.isdisjoint(("small", "old"))
        for claims in image.read.captions
        for thing in claims.things
        if image.kinds.is_living([thing.noun])
    )


def _told_or_open(own: int, claims: Claims, image: ImageClaims, *, mentioned: bool) -> tuple[str, str]:
    """Return what the other captions have for a claim: they say so, or do not speak against it."""
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
