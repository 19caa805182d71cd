"""Opposite directions and sides, and beside which nouns and verbs each is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from curation.knowledge.homonyms import word_set

_SIDES = ("to the {} of", "on the {} of", "on the {} side of", "{} of")
OPPOSITE_PLACES: dict[str, tuple[str, ...]] = {
    "above": ("below",), "below": ("above",), "beneath": ("above", "on top of"), "underneath": ("on top of", "above"),
    "under": ("on top of", "above"), "over": ("under",), "on top of": ("under", "underneath"), "atop": ("under",),
    "in front of": ("behind",), "behind": ("in front of",), "inside": ("outside",), "outside": ("inside",),
    "within": ("outside",), "into": ("out of",), "out of": ("into",), "onto": ("off",), "off": ("onto",), "up": ("down",),
    "down": ("up",), "towards": ("away from",), "toward": ("away from",), "away from": ("towards",),
    "at the top of": ("at the bottom of",), "at the bottom of": ("at the top of",),
} | {frame.format(one): (frame.format(two),) for frame in _SIDES for one, two in (("left", "right"), ("right", "left"))}  # fmt: skip
"""A relation of place -> what says the opposite in the same place of a sentence."""

OPPOSITE_WORDS = {
    "left": "right", "right": "left", "foreground": "background", "background": "foreground", "indoors": "outdoors",
    "outdoors": "indoors", "uphill": "downhill", "downhill": "uphill", "upstairs": "downstairs", "downstairs": "upstairs",
    "forward": "backward", "forwards": "backwards", "backward": "forward", "backwards": "forwards", "inside": "outside",
    "outside": "inside",
}  # fmt: skip
"""A word that tells a side or direction by itself -> its opposite."""

_SHAPES = word_set("circle disc square triangle star cross heart diamond ring hoop")
_MOVING = word_set(
    "jump leap climb walk run ride throw pour crawl step go come move drive swim ski fall push pull march hop stroll sprint "
    "sled race jog pass get put carry"
)
_SLOPES = word_set(
    "hill stair stairs slope ramp mountain ladder step staircase cliff hillside dune mountainside escalator tree rope pole bank stairway incline"
)
_PASSED = _SHAPES | word_set(
    "hurdle bar fence log bridge pole bench table obstacle rope net bed branch gate barrier beam wire car rail railing stick bike arch"
)
_ROOFS = _SHAPES | word_set(
    "bench table bridge bed car truck desk chair rope bar fence net log couch stage branch hurdle"
)
_ROOMS = _SHAPES | word_set(
    "building house store restaurant church tent car bus barn shop truck train room cage box garage kitchen office museum school gym stadium "
    "tunnel bar cafe hut cave pool circle fence bathtub tub bag bucket basket ring"
)
_ENTERED = _ROOMS | word_set(
    "water lake ocean sea river pond pool hole snow forest wood field bush sand mud crowd street road bed wave"
)
_STEPPED = word_set(
    "bench chair couch bed table rock log platform ramp dock bus train truck boat horse stage bike motorcycle wall stool box ledge "
    "trampoline roof pier block field stump skateboard"
)
_GROUNDS = word_set("water ground crowd ocean sea snow city head")
_FACING = word_set("photographer viewer camera picture photo mirror")


def fits_place(words: str, noun: str, verb: str, determined: bool) -> bool:
    """Say whether the opposite of a relation of place makes sense.

    Args:
        words: The relation.
        noun: Where it leads to.
        verb: The verb it hangs on, or an empty string.
        determined: Whether the noun has an article, number or owner.
    """
    test = _TESTS.get(words)
    return determined if test is None else test(noun, verb) and (determined or words not in _DETERMINED)


_DETERMINED = frozenset(
    {"above", "below", "inside", "outside", "within", "into", "out of", "onto", "off", "towards", "toward", "away from"}
)
_TESTS: Mapping[str, Callable[[str, str], bool]] = {
    **dict.fromkeys(("up", "down"), lambda noun, _: noun in _SLOPES),
    **dict.fromkeys(("under", "beneath", "underneath", "on top of", "atop"), lambda noun, _: noun in _ROOFS),
    **dict.fromkeys(("inside", "outside", "within"), lambda noun, _: noun in _ROOMS),
    **dict.fromkeys(("into", "out of"), lambda noun, verb: noun in _ENTERED and verb in _MOVING),
    **dict.fromkeys(("onto", "off"), lambda noun, verb: noun in _STEPPED and verb in _MOVING),
    **dict.fromkeys(("towards", "toward", "away from"), lambda _, verb: verb in _MOVING),
    **dict.fromkeys(("in front of", "behind"), lambda noun, _: noun not in _FACING),
    **dict.fromkeys(("above", "below"), lambda noun, _: noun not in _GROUNDS),
    "over": lambda noun, _: noun in _PASSED,
}
"""Relation -> whether its opposite makes sense before a noun, after a verb."""
