"""Whether the captions of an image entail some claims, or at least do not contradict them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from curation.entailment.claims import SCENE, Claims, Thing, ThingKey
from curation.entailment.word_meanings import (
    TRANSITIVE_RELATIONS,
    UNSTATED_RELATIONS,
    WordRelations,
    canonical_link,
    contradicts,
    feature_value,
    is_symmetric,
)
from curation.text.lexicon import POSITION_VERBS
from curation.text.wordlists import word_sets

ClaimLink = tuple[int, str, int]

_OFTEN_UNSTATED = frozenset({"size", "pattern", "wetness", "height"})
_COLOURS_OF_THE_LIVING = word_sets("claims")["colours_of_living_things"]
_INSIDE_PREPOSITIONS = ("on", "in", "inside", "into", "against", "through", "at")
_MAX_LINKS = 2_000
_MAX_STEPS = 20_000
"""Attempts after which a search counts as failed: only texts with about a hundred things need more."""


@dataclass(slots=True)
class Entity:
    """A thing of the picture.

    Attributes:
        names: Its nouns in the captions.
        properties: Its properties in the captions.
        plural: Whether some caption has it in the plural.
    """

    names: set[str] = field(default_factory=set)
    properties: set[str] = field(default_factory=set)
    plural: bool = False


@dataclass(slots=True)
class MergedClaims:
    """The claims of several captions.

    Attributes:
        entities: The things.
        links: (entity, relation, entity), with all that follow from transitive ones.
        denied: Nouns of things that the captions say are absent.
        unattached: Words that belong to no thing.
        fitting: (key of a thing, strict, living) -> entities that it may be. This and the next two are caches of
            `_EntityMatch`, for one `WordRelations`: texts about one picture name the same things again and again.
        named: (noun, strict) -> entities that may have this name.
        unstated: (property, entity, strict, living) -> see `_EntityMatch._may_be_unstated`.
    """

    entities: list[Entity] = field(default_factory=list)
    links: set[ClaimLink] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    unattached: set[str] = field(default_factory=set)
    fitting: dict[tuple[ThingKey, bool, bool], list[int]] = field(default_factory=dict, repr=False, compare=False)
    named: dict[tuple[str, bool], list[int]] = field(default_factory=dict, repr=False, compare=False)
    unstated: dict[tuple[str, int, bool, bool], bool] = field(default_factory=dict, repr=False, compare=False)


def merge_claims(claims: Iterable[Claims], relations: WordRelations) -> MergedClaims:
    """Merge the claims of several texts.

    Texts do not say which of their things are the same. Each thing is merged with the entity that shares most with it,
    of those whose name fits and whose properties do not contradict it; two things of one text are never the same entity.
    """
    merged = MergedClaims()
    for of_text in claims:
        entity_of, taken = {SCENE: SCENE}, set[int]()
        # things with many properties first: they are the easiest to recognise
        for number in sorted(range(len(of_text.things)), key=lambda number: -len(of_text.things[number].properties)):
            thing = of_text.things[number]
            if thing.denied:
                merged.denied.add(thing.noun)
                continue
            index = _same_entity(thing, merged, taken, relations)
            if index < 0:
                index = len(merged.entities)
                merged.entities.append(Entity())
            entity = merged.entities[index]
            entity.names.add(thing.noun)
            entity.properties |= thing.properties
            entity.plural |= thing.plural
            entity_of[number] = index
            taken.add(index)
        merged.links |= {
            canonical_link(entity_of[one], relation, entity_of[other])
            for one, relation, other in of_text.links
            if one in entity_of and other in entity_of
        }
        merged.unattached |= of_text.unattached
    merged.links = _with_transitive_links(merged.links)
    return merged


def _same_entity(thing: Thing, merged: MergedClaims, taken: set[int], relations: WordRelations) -> int:
    """Return the entity that shares most with a thing, or -1 where none fits."""
    best, most = -1, -1
    if len(taken) == len(merged.entities):
        return best
    for index, entity in enumerate(merged.entities):
        if index in taken:
            continue
        shared = 2 * len(thing.properties & entity.properties) + (thing.noun in entity.names)
        if shared <= most or not relations.may_be(thing.noun, entity.names):
            continue
        if not any(_contradicts(word, entity, relations) for word in thing.properties):
            best, most = index, shared
    return best


def _is_position_of_lifeless(word: str, entity: Entity, relations: WordRelations) -> bool:
    """Return whether a verb only states where a lifeless thing is: it lies, stands or sits there."""
    return word[:3] == "do:" and word[3:] in POSITION_VERBS and not relations.is_living(entity.names)


def _contradicts(word: str, entity: Entity, relations: WordRelations) -> bool:
    return contradicts(word, entity.properties) and not _is_position_of_lifeless(word, entity, relations)


def _with_transitive_links(links: set[ClaimLink]) -> set[ClaimLink]:
    """Add the links that follow: what is left of a thing that is left of a third is left of the third."""
    closed = set(links)
    while True:
        more = {
            (one, relation, three)
            for one, relation, two in closed
            if relation in TRANSITIVE_RELATIONS
            for middle, other, three in closed
            if middle == two and other == relation and three != one
        } - closed
        if not more or len(closed) > _MAX_LINKS:
            return closed
        closed |= more


def is_entailed(claims: Claims, merged: MergedClaims, relations: WordRelations) -> bool:
    """Return whether the captions state all of the claims."""
    if not claims.unattached <= merged.unattached:
        return False
    denied = [thing for thing in claims.things if thing.denied]
    if any(not any(relations.synonymous(thing.noun, noun) for noun in merged.denied) for thing in denied):
        return False
    return _EntityMatch(claims, merged, relations, strict=True).found()


def is_compatible(claims: Claims, merged: MergedClaims, relations: WordRelations) -> bool:
    """Return whether the captions do not contradict the claims.

    Captions would have named new things, actions, and what somebody holds or wears, so these contradict if no caption
    names them. Captions often leave out descriptions and directions, so these do not.
    """
    if not claims.unattached <= merged.unattached:
        return False
    for thing in claims.things:
        if thing.denied and any(relations.may_be(thing.noun, entity.names) for entity in merged.entities):
            return False
    return _EntityMatch(claims, merged, relations, strict=False).found()


class _EntityMatch:
    """A search for different entities that the things of a text may be.

    Args:
        claims: The text's claims.
        merged: The captions' claims.
        relations: Relations of their words.
        strict: Whether the captions must state everything (entailment), or only must not contradict it.
    """

    def __init__(self, claims: Claims, merged: MergedClaims, relations: WordRelations, *, strict: bool) -> None:
        self.claims, self.merged, self.relations, self.strict = claims, merged, relations, strict
        self.steps = 0

    def found(self) -> bool:
        things = self.claims.things
        self.living = self.relations.is_living(thing.noun for thing in things)
        self.fitting = []
        for thing_key in self.claims.thing_keys():
            key = thing_key, self.strict, self.living
            entities = self.merged.fitting.get(key)
            if entities is None:
                entities = self.merged.fitting[key] = self._fitting(thing_key)
            if not entities:
                return False
            self.fitting.append(entities)
        self.order = [number for number, thing in enumerate(things) if not thing.denied]
        rank = {number: index for index, number in enumerate(self.order)} | {SCENE: -1}
        self.links: list[list[ClaimLink]] = [[] for _ in self.order]
        for link in sorted(self.claims.links):
            if link[0] in rank and link[2] in rank:
                self.links[max(rank[link[0]], rank[link[2]])].append(link)
        return self._match(0, {SCENE: SCENE})

    def _match(self, index: int, chosen: dict[int, int]) -> bool:
        """Return whether entities can be found for the things from an index on, by backtracking."""
        if index == len(self.order):
            return True
        number = self.order[index]
        for entity in self.fitting[index]:
            self.steps += 1
            if self.steps > _MAX_STEPS:
                return False
            if entity in chosen.values():
                continue
            chosen[number] = entity
            if all(self._holds(*link, chosen) for link in self.links[index]) and self._match(index + 1, chosen):
                return True
            del chosen[number]
        return False

    def _fitting(self, thing_key: ThingKey) -> list[int]:
        """Return the entities that a thing may be."""
        noun, properties, plural = thing_key
        named = self.merged.named.get((noun, self.strict))
        if named is None:
            named = self.merged.named[noun, self.strict] = self._named(noun)
        return [index for index in named if self._fits(properties, index, plural)]

    def _named(self, noun: str) -> list[int]:
        """Return the entities that may have a name."""
        entities, relations = self.merged.entities, self.relations
        own = [index for index, entity in enumerate(entities) if noun in entity.names]
        if self.strict:
            return [
                index
                for index, entity in enumerate(entities)
                if noun in entity.names or any(relations.covers(noun, name) for name in entity.names)
            ]
        # A name that the captions have for one entity is not another name of a second one.
        return own or [index for index, entity in enumerate(entities) if relations.may_be_called(noun, entity.names)]

    def _fits(self, properties: frozenset[str], index: int, plural: bool) -> bool:
        entity, known = self.merged.entities[index], self.merged.unstated
        if plural and not self._is_several(entity):
            return False
        for word in properties - entity.properties:
            key = word, index, self.strict, self.living
            unstated = known.get(key)
            if unstated is None:
                unstated = known[key] = self._may_be_unstated(word, entity)
            if not unstated:
                return False
        return True

    def _is_several(self, entity: Entity) -> bool:
        """Return whether there are several things with an entity's name."""
        return entity.plural or sum(not entity.names.isdisjoint(other.names) for other in self.merged.entities) > 1

    def _may_be_unstated(self, word: str, entity: Entity) -> bool:
        """Return whether a property may be true although no caption states it in these words."""
        if word.startswith("not:"):
            return not self.strict and word[4:] not in entity.properties
        if _contradicts(word, entity, self.relations):
            return False
        if word.startswith("do:"):
            # Captions would have stated the actions of people and animals.
            return not self.living and _is_position_of_lifeless(word, entity, self.relations)
        if any(self.relations.synonymous(word, other) for other in entity.properties):
            return True
        return not self.strict and not word.startswith("#") and self._may_be_left_out(word, entity)

    def _may_be_left_out(self, word: str, entity: Entity) -> bool:
        """Return whether a describing word fits the thing and captions may well leave it out."""
        feature = feature_value(word)[0]
        living = self.relations.is_living(entity.names)
        if feature == "colour":
            return not living or word in _COLOURS_OF_THE_LIVING
        if feature == "age":
            return living or word == "old"
        if feature in _OFTEN_UNSTATED:
            return True
        # Any other word only if a similar thing has it: "a bearded boy" may be true, "a barren dog" is false.
        return any(
            word in other.properties and self.relations.is_living(other.names) == living
            for other in self.merged.entities
        )

    def _holds(self, one: int, relation: str, other: int, chosen: dict[int, int]) -> bool:
        """Return whether a link holds between the chosen entities, or may hold unless `strict`."""
        here, there = chosen[one], chosen[other]
        links = self.merged.links
        if canonical_link(here, relation, there) in links:
            return True
        if self.strict or relation not in UNSTATED_RELATIONS:
            return False
        # What is on or in a thing is not beside it, and nothing is behind a thing that surrounds everything.
        inside = {
            (first, preposition, second)
            for first, second in ((here, there), (there, here))
            for preposition in _INSIDE_PREPOSITIONS
        }
        if not inside.isdisjoint(links) or (SCENE, "at", there) in links or (SCENE, "at", here) in links:
            return False
        return is_symmetric(relation) or (there, relation, here) not in links
