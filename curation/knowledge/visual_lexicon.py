"""Our own lists: what is visible, what is too general to say, and what may be said of people."""

from __future__ import annotations

from curation.text.wordlists import word_map, word_rows, word_sets

_SETS = word_sets("visual_lexicon")


GENERIC = _SETS["generic"]
NOT_FACTS = _SETS["opinions"]
"""Opinions, character and hedges: not visible, and not facts about this image."""
BROKEN = _SETS["truncated_verbs"]
"""Verbs that begin a tail where a source has cut "domesticated animal" or "flying rodent" down to lemmas."""

COLOURS = _SETS["colours"]
MATERIALS = _SETS["materials"]
VISIBLE = _SETS["visible"]
OPPOSITES = tuple(map(frozenset, word_rows("visible_opposites")))
NUMBERS = _SETS["numbers"]


PARTS: dict[str, dict[str, bool]] = {}
for _part, _holder, _number in word_rows("visible_parts"):
    PARTS.setdefault(_part, {})[_holder] = _number == "many"
"""Visible part that every member of a class has: class -> whether it has many of them.

No shirt must have buttons and no tree shows its roots, so buttons and roots are not in it."""

GENERAL = _SETS["general_categories"]
"""Categories that one assertion may name. Others need many members, or the weight of two assertions."""
MEMBERS = 8

KINDS = word_map("exclusive_kinds")
"""Kinds of animals and objects that exclude each other, even if a single edge says otherwise."""
MASS_EVENTS = _SETS["mass_events"]
"""What nobody can hold: "a snowboard" is none of them."""
TOP = _SETS["top_categories"]
"""What is not explained further: what a graph says they are is narrower than they are, or a joke."""
ROLES = word_sets("visual_lexicon", "role")
"""The only facts about people: neutral roles, and for whom. That a man is a person is too obvious to add."""

WHO_CAN = {
    "UsedFor": ("thing", "place", "substance"),
    "CapableOf": ("animal",),
    "ReceivesAction": ("thing", "food"),
}
"""Relation -> classes it is used for: neither does a baseball bat fly nor is a dog a tool."""

EMPTY_VERBS = _SETS["empty_verbs"]
"""Purposes that say nothing: a shirt is for wearing."""

LIGHT = _SETS["light_words"]

WITHOUT_SUPPORT = ("IsA", "InstanceOf", "HasA")
"""Relations that hold of every instance and can be seen; the others need another caption to say so. MadeOf is one of
them only where a source gives it the weight of two assertions: gloves need not be of leather."""
