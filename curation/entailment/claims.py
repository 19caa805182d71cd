"""What a text claims, as data: things, what is said of each, and what links two of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from curation.entailment.word_meanings import canonical_link

SCENE = -1
"""In a claim, the subject that stands for everything in the picture."""


@dataclass(slots=True)
class Thing:
    """Something that a text names.

    Attributes:
        noun: Its noun in dictionary form.
        said: What is said of it, in normal form: values ("large", "red"), other modifiers as written,
            ``do:`` and a verb, ``#`` and a number, ``not:`` and a value.
        count: So many of them, when a number up to four says so.
        plural: One of several, nobody says how many.
        denied: It is said not to be there.
    """

    noun: str
    properties: set[str]
    count: int = 1
    plural: bool = False
    denied: bool = False


ThingKey = tuple[str, frozenset[str], bool]
"""Noun, all that is said, and whether one of several."""


@dataclass(slots=True)
class Claims:
    """What a text claims.

    Attributes:
        things: What it names, in reading order.
        links: (thing, relation, thing) in canonical direction; `SCENE` for a thing that is everywhere.
        rest: Words that found no owner, and those that deny a deed.
        marks: See `thing_keys`.
    """

    things: list[Thing] = field(default_factory=list)
    links: set[tuple[int, str, int]] = field(default_factory=set)
    unattached: set[str] = field(default_factory=set)
    cached_keys: list[ThingKey] | None = field(default=None, repr=False, compare=False)

    def thing_keys(self) -> list[ThingKey]:
        """Return what tells each thing that is there from others, worked out once: call it when nothing changes more."""
        if self.cached_keys is None:
            self.cached_keys = [
                (one.noun, frozenset(one.properties), one.plural) for one in self.things if not one.denied
            ]
        return self.cached_keys


def expand_counts(found: Claims) -> Claims:
    """Return claims in which a thing with a number has become so many things."""
    if all(thing.count == 1 for thing in found.things):
        found.links = {canonical_link(*link) if link[1] in ("near", "with") else link for link in found.links}
        return found
    things: list[Thing] = []
    places: dict[int, list[int]] = {SCENE: [SCENE]}
    for number, thing in enumerate(found.things):
        places[number] = list(range(len(things), len(things) + thing.count))
        things += [Thing(thing.noun, set(thing.properties), 1, thing.plural, thing.denied) for _ in range(thing.count)]
    links = {
        canonical_link(i, name, j) if name in ("near", "with") else (i, name, j)
        for one, name, other in found.links
        for i in places[one]
        for j in places[other]
    }
    return Claims(things, links, found.unattached)
