"""Our own lists of what can be seen, of what goes without saying, and of what is said of people."""

from __future__ import annotations

from collections.abc import Mapping

from curation.knowledge.homonyms import word_set

GENERIC = word_set(
    "thing object one something anything everything someone noun word item entity matter stuff kind type way part "
    "it life fun heavy_metal work organism lifeform being concept name group individual figure shape symbol property creature "
    "place location building structure area room country state city substance material liquid gas solid element "
    "activity event action exercise device machine equipment product container build hobby human male female star "
    "instrument fluid tool big_place landform small_rock soil water pet person people animal_kingdom chemical artifact home company show play space set physical"
)
NOT_FACTS = word_set(
    "good bad great nice best fun funny beautiful pretty ugly cute popular common important useful useless dangerous "
    "expensive cheap favorite favourite boring interesting evil stupid smart lazy loyal faithful friendly mean happy "
    "sad sexy romantic famous rare healthy unhealthy wonderful excellent terrible awful delicious tasty yummy gross "
    "disgusting annoying scary cool awesome perfect fine easy hard difficult very really not often usually sometimes "
    "expensive illegal social curious clever intelligent gentle noble powerful amazing lovely neat classic wild rough tough big expensive"
)
"""Opinions, character and hedges: nobody sees them, and they are not facts of this picture."""
BROKEN = word_set(
    "play hold get wear catch change make have sit stand live write freeze fly run ride eat take domesticate operate "
    "steam cook break warm roll train float be do go unite fight love walk"
)
"""Verbs that begin a tail where a source has cut "domesticated animal" or "flying rodent" down to lemmas."""

COLOURS = word_set("red orange yellow green blue purple pink brown black white gray grey tan golden silver beige")
MATERIALS = word_set(
    "wood metal plastic glass steel paper leather clay iron rubber stone gold brick ceramic concrete aluminum "
    "aluminium copper bamboo silver bronze fabric denim silk straw wool cotton cardboard marble rope sand ice snow "
    "wooden cloth"
)
VISIBLE = word_set(
    "round flat tall short long thin thick wide narrow large small big huge tiny wet dry dirty clean muddy snowy icy "
    "sandy rocky grassy furry hairy fluffy curly shiny bright dark open closed empty full striped spotted square "
    "circular spherical steep deep shallow calm wavy bare leafy cloudy sunny colorful transparent old young broken"
)
OPPOSITES = tuple(
    word_set(pair)
    for pair in (
        "tall short", "long short", "thin thick", "wide narrow", "large small", "big small", "big tiny", "huge tiny",
        "huge small", "big little", "large little", "wet dry", "dirty clean", "open closed", "empty full",
        "deep shallow", "calm wavy", "bright dark", "old young", "square round", "cloudy sunny", "large tiny",
    )
)  # fmt: skip
NUMBERS = word_set("one two three four five six eight ten")


def _parts() -> dict[str, dict[str, bool]]:
    found: dict[str, dict[str, bool]] = {}
    for many, holder, parts in (
        (True, "animal", "leg ear eye paw wing feather hoof claw whisker stripe fin scale"),
        (False, "animal", "tail beak mane trunk nose snout shell"),
        (True, "thing", "wheel tire pedal string key spoke blade oar"),
        (False, "thing", "handle screen keyboard brim cockpit"),
        (True, "plant", "leaf branch petal"),
        (False, "plant", "trunk stem"),
        (True, "place", "window door"),
        (False, "place", "roof"),
    ):
        for part in parts.split():
            found.setdefault(part, {})[holder] = many
    return found


PARTS: Mapping[str, Mapping[str, bool]] = _parts()
"""Parts that every one of a class has and that can be seen: what has them -> whether it has many of them.

No shirt must have buttons and no tree shows its roots, so buttons and roots are not in it."""

GENERAL = word_set(
    "animal plant fruit vegetable flower tree bird mammal fish insect reptile vehicle toy weapon furniture clothing "
    "clothe sport game dog cat boat garment"
)
"""Categories that one assertion may name. Others need many members, or the weight of two assertions."""
MEMBERS = 8

KINDS = {
    word: group
    for group, members in (
        *((kind, kind) for kind in ("mammal", "bird", "fish", "insect", "reptile", "amphibian", "crustacean")),
        ("vehicle", "vehicle transportation transport car truck bike bicycle motorcycle"),
        ("toy", "toy doll"),
        ("weapon", "weapon gun sword firearm"),
        ("clothing", "clothe clothing garment"),
        ("furniture", "furniture"),
        ("container", "container box bag"),
        ("computer", "computer"),
    )
    for word in members.split()
}
"""Kinds of animals and of things: what is of one is not of another, whatever a single edge says."""
MASS_EVENTS = word_set("sport hobby exercise activity pastime recreation game")
"""What nobody can hold: "a snowboard" is none of them."""
TOP = word_set("animal person plant food place vehicle sport game thing water people man woman boy girl child baby")
"""What is not explained further: what a graph says they are is narrower than they are, or a joke."""
ROLES = {
    "adult": word_set("man woman"),
    "child": word_set("boy girl kid toddler"),
    "person": word_set(
        "runner rider skier climber hiker surfer biker cyclist worker guide spectator passenger tourist"
    ),
    "athlete": word_set("player runner skier surfer cyclist pitcher boxer swimmer jockey gymnast snowboarder"),
    "musician": word_set("guitarist drummer violinist pianist saxophonist"),
    "performer": word_set("dancer singer actor juggler acrobat clown"),
}
"""All that is said of people: neutral roles, and for whom. That a man is a person goes without saying."""

WHO_CAN = {
    "UsedFor": ("thing", "place", "substance"),
    "CapableOf": ("animal",),
    "ReceivesAction": ("thing", "food"),
}
"""Which classes a relation may be said of: a baseball bat flies as little as a dog is a tool."""

EMPTY_VERBS = word_set("get be have do make keep wear dress own use")
"""Purposes that say nothing: a shirt is for wearing."""

LIGHT = word_set("have go get make do use be take in on at of to for with a an the your you it and or up down out")

WITHOUT_SUPPORT = ("IsA", "InstanceOf", "HasA")
"""Relations that hold of every instance and can be seen; the others need another caption to say so. MadeOf is one of
them only where a source gives it the weight of two assertions: gloves need not be of leather."""
