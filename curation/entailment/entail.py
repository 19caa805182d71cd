"""Whether claims follow from what the captions of an image say, or may at least be true beside it."""

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

_SETS = word_sets("claims")

_OFTEN_UNSTATED = frozenset({"size", "pattern", "wetness", "height"})
_COLOURS_OF_THE_LIVING = _SETS["colours_of_living_things"]
_INSIDE_PREPOSITIONS = ("on", "in", "inside", "into", "against", "through", "at")
_MAX_STEPS = 20_000
"""Attempts to place a thing before a match counts as not found: texts of a hundred things are no captions."""


@dataclass(slots=True)
class Entity:
    """One thing of the picture, as far as the captions tell.

    Attributes:
        names: Nouns it goes by.
        said: All that is said of it.
        plural: Some caption speaks of several.
    """

    names: set[str]
    properties: set[str]
    plural: bool = False


@dataclass(slots=True)
class MergedClaims:
    """What captions say together.

    Attributes:
        entities: The things.
        links: (entity, relation, entity), with what follows for transitive ones.
        denied: Nouns of what is said not to be there.
        rest: Words without an owner.
        fitting: (mark of a thing, strict, alive) -> entities that it may be. This and the next two are filled by
            `_EntityMatch`, for one `WordRelations`: texts about one picture name the same things again and again.
        named: (noun, strict) -> entities that may go by it.
        silent: (word, entity, strict, alive) -> see `_Match._silent`.
    """

    entities: list[Entity] = field(default_factory=list)
    links: set[tuple[int, str, int]] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    unattached: set[str] = field(default_factory=set)
    fitting: dict[tuple[ThingKey, bool, bool], list[int]] = field(default_factory=dict, repr=False, compare=False)
    named: dict[tuple[str, bool], list[int]] = field(default_factory=dict, repr=False, compare=False)
    silent: dict[tuple[str, int, bool, bool], bool] = field(default_factory=dict, repr=False, compare=False)


def merge_claims(claims: Iterable[Claims], kinds: WordRelations) -> MergedClaims:
    """Put the claims of several texts together: things that may be one are taken for one.

    Which things are one is not known. Each is taken for the entity that shares most with it among those whose name
    fits and that nothing said contradicts, but two things of one text never for the same.
    """
    world = MergedClaims()
    for told in claims:
        places, taken = {SCENE: SCENE}, set[int]()
        for number in sorted(range(len(told.things)), key=lambda at: (-len(told.things[at].properties), at)):
            thing = told.things[number]
            if thing.denied:
                world.denied.add(thing.noun)
                continue
            place = _same_entity(thing, world, taken, kinds)
            if place < 0:
                world.entities.append(Entity(set(), set()))
                place = len(world.entities) - 1
            entity = world.entities[place]
            entity.names.add(thing.noun)
            entity.properties |= thing.properties
            entity.plural |= thing.plural
            places[number] = place
            taken.add(place)
        world.links |= {
            canonical_link(places[one], name, places[other])
            for one, name, other in told.links
            if one in places and other in places
        }
        world.unattached |= told.unattached
    world.links = _with_transitive_links(world.links)
    return world


def _same_entity(thing: Thing, world: MergedClaims, taken: set[int], kinds: WordRelations) -> int:
    best, most = -1, -1
    if len(taken) == len(world.entities):
        return best
    for place, entity in enumerate(world.entities):
        if place in taken:
            continue
        shared = 2 * len(thing.properties & entity.properties) + (thing.noun in entity.names)
        if shared <= most or not kinds.may_be(thing.noun, entity.names):
            continue
        if not any(_against(word, entity, kinds) for word in thing.properties):
            best, most = place, shared
    return best


def _only_is(word: str, entity: Entity, kinds: WordRelations) -> bool:
    """Say whether a verb tells no more than where a thing is: it lies, stands and sits there all alike."""
    return word[:3] == "do:" and word[3:] in POSITION_VERBS and not kinds.is_living(entity.names)


def _against(word: str, entity: Entity, kinds: WordRelations) -> bool:
    return contradicts(word, entity.properties) and not _only_is(word, entity, kinds)


def _with_transitive_links(links: set[tuple[int, str, int]]) -> set[tuple[int, str, int]]:
    """Add what follows: left of what is left of a third is left of the third."""
    closed = set(links)
    while True:
        more = {
            (one, name, three)
            for one, name, two in closed
            if name in TRANSITIVE_RELATIONS
            for middle, other, three in closed
            if middle == two and other == name and three != one
        } - closed
        if not more or len(closed) > 2000:
            return closed
        closed |= more


def is_entailed(claims: Claims, world: MergedClaims, kinds: WordRelations) -> bool:
    """Say whether everything that is claimed has been said."""
    if not claims.unattached <= world.unattached:
        return False
    denied = [thing for thing in claims.things if thing.denied]
    if any(not any(kinds.synonymous(thing.noun, noun) for noun in world.denied) for thing in denied):
        return False
    return _EntityMatch(claims, world, kinds, strict=True).found()


def is_compatible(claims: Claims, world: MergedClaims, kinds: WordRelations) -> bool:
    """Say whether nothing that was said speaks against a claim.

    What nobody mentions counts against it where it would have been mentioned: things, deeds, what somebody holds or
    wears. Describing words and directions are left out of captions at will, so there silence says nothing.
    """
    if not claims.unattached <= world.unattached:
        return False
    for thing in claims.things:
        if thing.denied and any(kinds.may_be(thing.noun, entity.names) for entity in world.entities):
            return False
    return _EntityMatch(claims, world, kinds, strict=False).found()


class _EntityMatch:
    """A search for entities that the things of a text may be, all different."""

    def __init__(self, claims: Claims, world: MergedClaims, kinds: WordRelations, *, strict: bool) -> None:
        self.claims, self.world, self.kinds, self.strict = claims, world, kinds, strict
        self.steps = 0

    def found(self) -> bool:
        things = self.claims.things
        self.alive = self.kinds.is_living(thing.noun for thing in things)
        self.fitting = []
        for mark in self.claims.thing_keys():
            key = mark, self.strict, self.alive
            places = self.world.fitting.get(key)
            if places is None:
                places = self.world.fitting[key] = self._places(mark)
            if not places:
                return False
            self.fitting.append(places)
        self.order = [number for number, thing in enumerate(things) if not thing.denied]
        rank = {number: at for at, number in enumerate(self.order)} | {SCENE: -1}
        self.links: list[list[tuple[int, str, int]]] = [[] for _ in self.order]
        for link in sorted(self.claims.links):
            if link[0] in rank and link[2] in rank:
                self.links[max(rank[link[0]], rank[link[2]])].append(link)
        return self._place(0, {SCENE: SCENE})

    def _place(self, at: int, chosen: dict[int, int]) -> bool:
        if at == len(self.order):
            return True
        number = self.order[at]
        for place in self.fitting[at]:
            self.steps += 1
            if self.steps > _MAX_STEPS:
                return False
            if place in chosen.values():
                continue
            chosen[number] = place
            if all(self._holds(*link, chosen) for link in self.links[at]) and self._place(at + 1, chosen):
                return True
            del chosen[number]
        return False

    def _places(self, mark: ThingKey) -> list[int]:
        noun, said, plural = mark
        named = self.world.named.get((noun, self.strict))
        if named is None:
            named = self.world.named[noun, self.strict] = self._named(noun)
        return [place for place in named if self._fits(said, place, plural)]

    def _named(self, noun: str) -> list[int]:
        """Return the entities that may go by a noun."""
        entities, kinds = self.world.entities, self.kinds
        own = [place for place, entity in enumerate(entities) if noun in entity.names]
        if self.strict:
            return [
                place
                for place, entity in enumerate(entities)
                if noun in entity.names or any(kinds.covers(noun, name) for name in entity.names)
            ]
        # A name that the captions have for one thing is not another name of a second.
        return own or [place for place, entity in enumerate(entities) if kinds.may_be_called(noun, entity.names)]

    def _fits(self, said: frozenset[str], place: int, plural: bool) -> bool:
        entity, known = self.world.entities[place], self.world.silent
        if plural and not self._several(entity):
            return False
        for word in said - entity.properties:
            key = word, place, self.strict, self.alive
            silent = known.get(key)
            if silent is None:
                silent = known[key] = self._silent(word, entity)
            if not silent:
                return False
        return True

    def _several(self, entity: Entity) -> bool:
        """Say whether there are several things of an entity's name."""
        return entity.plural or sum(not entity.names.isdisjoint(other.names) for other in self.world.entities) > 1

    def _silent(self, word: str, entity: Entity) -> bool:
        """Say whether a word may be true although nobody says it."""
        if word.startswith("not:"):
            return not self.strict and word[4:] not in entity.properties
        if _against(word, entity, self.kinds):
            return False
        if word.startswith("do:"):
            # What people and animals do would have been told.
            return not self.alive and _only_is(word, entity, self.kinds)
        if any(self.kinds.synonymous(word, other) for other in entity.properties):
            return True
        return not self.strict and not word.startswith("#") and self._open(word, entity)

    def _open(self, word: str, entity: Entity) -> bool:
        """Say whether a caption may well have left out a describing word: it fits the thing, and need not be told."""
        feature = feature_value(word)[0]
        living = self.kinds.is_living(entity.names)
        if feature == "colour":
            return not living or word in _COLOURS_OF_THE_LIVING
        if feature == "age":
            return living or word == "old"
        if feature in _OFTEN_UNSTATED:
            return True
        # Any other word: only where something of that sort has it, so that "a barren dog" is wrong and "a bearded boy" open.
        return any(
            word in other.properties and self.kinds.is_living(other.names) == living for other in self.world.entities
        )

    def _holds(self, one: int, name: str, other: int, chosen: dict[int, int]) -> bool:
        here, there = chosen[one], chosen[other]
        links = self.world.links
        if canonical_link(here, name, there) in links:
            return True
        if self.strict or name not in UNSTATED_RELATIONS:
            return False
        # Who is on or in a thing is not beside it, and where all are nobody is behind.
        bound = {(one, held, two) for one, two in ((here, there), (there, here)) for held in _INSIDE_PREPOSITIONS}
        if not bound.isdisjoint(links) or (SCENE, "at", there) in links or (SCENE, "at", here) in links:
            return False
        return is_symmetric(name) or (there, name, here) not in links
