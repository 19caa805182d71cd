"""Opposite directions and sides, and the nouns and verbs each is used with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from curation.text.wordlists import word_map, word_rows, word_sets

_SETS = word_sets("spatial_opposites")


OPPOSITE_PLACES = {place: opposites for place, *opposites in word_rows("opposite_places")}
"""Spatial relation -> its opposites."""

OPPOSITE_WORDS = word_map("opposite_directions")
"""Word for a side or direction -> its opposite."""

_SHAPES = _SETS["shapes"]
_MOVING = _SETS["moving_verbs"]
_PASSED = _SHAPES | _SETS["obstacles"]
_ROOFS = _SHAPES | _SETS["roofs"]
_ROOMS = _SHAPES | _SETS["rooms"]
_ENTERED = _ROOMS | _SETS["enterable"]


def fits_place(words: str, noun: str, verb: str, determined: bool) -> bool:
    """Return whether the opposite of a spatial relation makes sense.

    Args:
        words: The relation.
        noun: Its landmark.
        verb: The verb it depends on, or an empty string.
        determined: Whether the noun has an article, number or possessive.
    """
    test = _TESTS.get(words)
    return determined if test is None else test(noun, verb) and (determined or words not in _DETERMINED)


_DETERMINED = frozenset(
    {"above", "below", "inside", "outside", "within", "into", "out of", "onto", "off", "towards", "toward", "away from"}
)
_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    **dict.fromkeys(("up", "down"), lambda noun, _: noun in _SETS["slopes"]),
    **dict.fromkeys(("under", "beneath", "underneath", "on top of", "atop"), lambda noun, _: noun in _ROOFS),
    **dict.fromkeys(("inside", "outside", "within"), lambda noun, _: noun in _ROOMS),
    **dict.fromkeys(("into", "out of"), lambda noun, verb: noun in _ENTERED and verb in _MOVING),
    **dict.fromkeys(("onto", "off"), lambda noun, verb: noun in _SETS["steppable"] and verb in _MOVING),
    **dict.fromkeys(("towards", "toward", "away from"), lambda _, verb: verb in _MOVING),
    **dict.fromkeys(("in front of", "behind"), lambda noun, _: noun not in _SETS["facing"]),
    **dict.fromkeys(("above", "below"), lambda noun, _: noun not in _SETS["grounds"]),
    "over": lambda noun, _: noun in _PASSED,
}
"""Relation -> whether its opposite makes sense before a noun, after a verb."""
