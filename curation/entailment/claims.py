"""The claims of a text as data: things, properties of each, and relations between two of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from curation.entailment.word_meanings import canonical_link

SCENE = -1
"""The subject of a claim about the whole picture."""


@dataclass(slots=True)
class Thing:
    """A thing that a text names.

    Attributes:
        noun: Its noun in dictionary form.
        properties: In normal form: values ("large", "red"), other modifiers as written, ``do:`` and a verb, ``#`` and a
            number, ``not:`` and a value.
        count: How many there are, when a number up to four says so.
        plural: Whether it is one of several without a number.
        denied: Whether the text says that it is absent.
    """

    noun: str
    properties: set[str]
    count: int = 1
    plural: bool = False
    denied: bool = False


ThingKey = tuple[str, frozenset[str], bool]
"""(noun, properties, plural) of a thing."""


@dataclass(slots=True)
class Claims:
    """The claims of a text.

    Attributes:
        things: The things that it names, in reading order.
        links: (thing, relation, thing) in canonical direction; `SCENE` in place of a thing for the whole picture.
        unattached: Words that belong to no thing, and those that negate an action.
        cached_keys: See `thing_keys`.
    """

    things: list[Thing] = field(default_factory=list)
    links: set[tuple[int, str, int]] = field(default_factory=set)
    unattached: set[str] = field(default_factory=set)
    cached_keys: list[ThingKey] | None = field(default=None, repr=False, compare=False)

    def thing_keys(self) -> list[ThingKey]:
        """Return the keys of all things that are not denied. They are cached: call this when the claims are complete."""
        if self.cached_keys is None:
            self.cached_keys = [
                (thing.noun, frozenset(thing.properties), thing.plural) for thing in self.things if not thing.denied
            ]
        return self.cached_keys


def expand_counts(claims: Claims) -> Claims:
    """Return claims with a thing of count n replaced by n things."""
    if all(thing.count == 1 for thing in claims.things):
        claims.links = {canonical_link(*link) if link[1] in ("near", "with") else link for link in claims.links}
        return claims
    things: list[Thing] = []
    copies: dict[int, list[int]] = {SCENE: [SCENE]}
    for number, thing in enumerate(claims.things):
        copies[number] = list(range(len(things), len(things) + thing.count))
        things += [Thing(thing.noun, set(thing.properties), 1, thing.plural, thing.denied) for _ in range(thing.count)]
    links = {
        canonical_link(i, name, j) if name in ("near", "with") else (i, name, j)
        for one, name, other in claims.links
        for i in copies[one]
        for j in copies[other]
    }
    return Claims(things, links, claims.unattached)
