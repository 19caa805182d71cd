"""Scene graphs: which objects exist, how they are laid out, and which relations hold between them.

A scene is plain JSON, so that a record's attributes can contain it and training can evaluate it::

    {"objects": [{"shape": "star", "colour": "red", "size": "large", "texture": "striped", "box": [x0, y0, x1, y1]}],
     "relations": [[0, "left of", 1]],
     "background": {"scenery": "background", "colour": "grey", "texture": "plain"}}

Boxes are in pixels of a `CANVAS_PX` square; x0 and y0 are inclusive, x1 and y1 exclusive. Relations are listed in one
direction only (`RELATIONS`); `CONVERSE` gives the other. There are no borderline cases: along each axis two objects
are clearly apart or clearly in line, so that every sentence about directions is clearly true or clearly false.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

CANVAS_PX = 96
MARGIN_PX = 2
GAP_PX = 2
"""Two objects at least this far apart along an axis are left and right of each other, or above and below."""
IN_LINE_PX = 6
"""Two objects that are not apart along an axis have centres at most this far apart along it."""

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "diamond", "ring")
COLOURS = ("red", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted", "checked")

GROUND_TEXTURES = ("plain", "shaded", "grainy")
"""Textures of a plain background, which has any of `COLOURS`."""
SCENERY: Mapping[str, tuple[str, ...]] = {
    "meadow": ("green", "blue"),
    "desert": ("yellow", "brown", "blue"),
    "sea": ("blue", "green"),
}
"""Landscapes under a blue sky: the colour of their lower part, then other colours that do not stand out against them."""

RELATIONS = ("left of", "above", "inside")
CONVERSE: Mapping[str, str] = {
    "left of": "right of", "right of": "left of", "above": "below", "below": "above",
    "inside": "around", "around": "inside",
}  # fmt: skip

_NUM_OBJECTS = (1, 2, 2, 2, 3, 3, 3, 4, 4, 4)
_REPEAT_CHANCE = 0.25  # that a shape or colour is drawn regardless of those already used
_INSIDE_CHANCE = 0.15  # of a small object inside a large ring
_SCENERY_CHANCE = 0.25
_SMALL_PX, _LARGE_PX, _CONTAINER_PX, _CONTENT_PX = (
    (20, 24),
    (37, 42),
    (41, 43),
    (17, 18),
)  # minimum and maximum diameter

T = TypeVar("T")
SceneBox = tuple[int, int, int, int]


@dataclass(frozen=True)
class Level:
    """How rich the scenes of a level are.

    Attributes:
        number: 1, 2 or 3.
        kinds: What a twin's texts may differ in, see `twins`.
        num_objects: Numbers of objects, all equally likely.
        shapes: Shapes of objects.
        colours: Colours of objects.
        sizes: Sizes of objects.
        grounds: Colours of the plain background.
        repeat_chance: That two of three objects have one shape.
    """

    number: int
    kinds: tuple[str, ...] = ("attribute", "size", "shape", "relation", "role", "number", "negation")
    num_objects: tuple[int, ...] = _NUM_OBJECTS
    shapes: tuple[str, ...] = SHAPES
    colours: tuple[str, ...] = COLOURS
    sizes: tuple[str, ...] = SIZES
    grounds: tuple[str, ...] = COLOURS
    repeat_chance: float = _REPEAT_CHANCE


LEVELS: Mapping[int, Level] = {
    1: Level(
        number=1,
        kinds=("attribute", "shape", "relation", "role"),
        num_objects=(2,),
        shapes=("circle", "square", "triangle", "star"),
        colours=("red", "yellow", "green", "blue", "purple", "black"),
        sizes=("large",),
        grounds=("white",),
        repeat_chance=0.0,
    ),
    2: Level(
        number=2,
        num_objects=(2, 3, 3),
        shapes=("circle", "square", "triangle", "star", "heart", "cross"),
        colours=("red", "yellow", "green", "blue", "purple", "pink", "brown", "black"),
        grounds=("white", "grey"),
        repeat_chance=0.4,
    ),
    3: Level(number=3),
}
"""Level 3 is `sample_scene`, with textures, landscapes and objects inside rings; `sample_simple_scene` makes the others."""


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Return one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def sample_scene(rng: np.random.Generator) -> dict[str, Any]:
    """Return a random scene (see the module's docstring). No two of its objects share both shape and colour."""
    num_objects = pick(rng, _NUM_OBJECTS)
    nested = num_objects > 1 and rng.random() < _INSIDE_CHANCE
    objects: list[dict[str, Any]] = []
    while len(objects) < num_objects:
        item = _sample_object(rng, objects)
        if nested and len(objects) < 2:
            item |= {"size": "small", "shape": "ring" if not objects else pick(rng, SHAPES[:-1])}
            item |= {"size": "large"} if not objects else {}
        if all((item["shape"], item["colour"]) != (other["shape"], other["colour"]) for other in objects):
            objects.append(item)
    diameters = [_diameter(rng, item["size"], nested and i < 2) for i, item in enumerate(objects)]
    for item, box in zip(objects, _place(rng, diameters, nested), strict=True):
        item["box"] = list(box)
    objects = [objects[int(i)] for i in rng.permutation(num_objects)]
    return {
        "objects": objects,
        "relations": relations_between([tuple(item["box"]) for item in objects]),
        "background": _sample_background(rng, {item["colour"] for item in objects}),
    }


def sample_simple_scene(level: Level, rng: np.random.Generator) -> dict[str, Any]:
    """Return a random scene of level 1 or 2: objects of one shade each on a plain background, none inside another.

    All colours differ, and all shapes but those of at most two objects.
    """
    num_objects = pick(rng, level.num_objects)
    shapes, colours = (
        [values[int(i)] for i in rng.permutation(len(values))[:num_objects]] for values in (level.shapes, level.colours)
    )
    if num_objects > 2 and rng.random() < level.repeat_chance:
        shapes[1] = shapes[0]
    sizes = [pick(rng, level.sizes) for _ in range(num_objects)]
    boxes = _place(rng, [_diameter(rng, size, nested=False) for size in sizes], nested=False)
    objects = [
        {"shape": shape, "colour": colour, "size": size, "texture": "plain", "box": list(box)}
        for shape, colour, size, box in zip(shapes, colours, sizes, boxes, strict=True)
    ]
    return {
        "objects": objects,
        "relations": relations_between(boxes),
        "background": {"scenery": "background", "colour": pick(rng, level.grounds), "texture": "plain"},
    }


def relations_between(boxes: Sequence[SceneBox]) -> list[list[Any]]:
    """Return every ``[i, relation, j]`` that holds between the boxes, in the direction of `RELATIONS`."""
    found: list[list[Any]] = []
    for i, a in enumerate(boxes):
        for j, b in enumerate(boxes):
            if i == j:
                continue
            if a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]:
                found.append([i, "inside", j])
            if a[2] + GAP_PX <= b[0]:
                found.append([i, "left of", j])
            if a[3] + GAP_PX <= b[1]:
                found.append([i, "above", j])
    return found


def _sample_object(rng: np.random.Generator, others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return an object without a box, mostly of a shape and colour that the others do not have."""
    chosen: dict[str, Any] = {}
    for feature, values in (("shape", SHAPES), ("colour", COLOURS)):
        taken = {other[feature] for other in others} if rng.random() >= _REPEAT_CHANCE else set()
        chosen[feature] = pick(rng, [value for value in values if value not in taken])
    # Plain objects are nearly as common as all patterns together, as in photographs.
    texture = "plain" if rng.random() < 0.4 else pick(rng, TEXTURES[1:])
    return {**chosen, "size": pick(rng, SIZES), "texture": texture}


def _sample_background(rng: np.random.Generator, colours: set[str]) -> dict[str, str]:
    """Return a background on which all these object colours stand out."""
    landscapes = [name for name, similar in SCENERY.items() if not colours.intersection(similar)]
    if landscapes and rng.random() < _SCENERY_CHANCE:
        name = pick(rng, landscapes)
        return {"scenery": name, "colour": SCENERY[name][0]}
    # Only the object's own colour is excluded, so that "a red star on a blue background" and "a blue star on a red
    # background" are equally likely to be true: a model must look at the image to decide.
    colour = pick(rng, [name for name in COLOURS if name not in colours])
    return {"scenery": "background", "colour": colour, "texture": pick(rng, GROUND_TEXTURES)}


def _diameter(rng: np.random.Generator, size: str, nested: bool) -> int:
    if nested:
        low, high = _CONTAINER_PX if size == "large" else _CONTENT_PX
    else:
        low, high = _LARGE_PX if size == "large" else _SMALL_PX
    return int(rng.integers(low, high + 1))


def _place(rng: np.random.Generator, diameters: Sequence[int], nested: bool) -> list[SceneBox]:
    """Return a box for each diameter, clear of each other; with `nested`, the second concentric with the first."""
    for _ in range(20):
        boxes: list[SceneBox] = []
        for diameter in diameters:
            inside = nested and len(boxes) == 1
            box = _around(*_centre(boxes[0]), diameter) if inside else _free_box(rng, diameter, boxes)
            if box is None:
                break
            boxes.append(box)
        else:
            return boxes
    # One object per quarter always fits: the largest diameter plus the jitter is less than half the canvas.
    quarters = [int(i) for i in rng.permutation(4)]
    boxes = []
    for quarter, diameter in zip(quarters, diameters, strict=False):
        if nested and len(boxes) == 1:
            boxes.append(_around(*_centre(boxes[0]), diameter))
            continue
        down, across = divmod(quarter, 2)
        x, y = (int(24 + 48 * half + rng.integers(-1, 2)) for half in (across, down))
        boxes.append(_around(x, y, diameter))
    return boxes


def _free_box(rng: np.random.Generator, diameter: int, boxes: Sequence[SceneBox]) -> SceneBox | None:
    """Return a random box that is clear of all others, or None after twelve attempts."""
    low = MARGIN_PX + (diameter + 1) // 2
    span = CANVAS_PX - 2 * low + 1
    for _ in range(12):
        centre = [low + offset for offset in divmod(int(rng.integers(span * span)), span)]
        if boxes and rng.random() < 0.5:  # in line with another object more often than by chance
            axis = int(rng.integers(2))
            target = _centre(pick(rng, boxes))[axis] + int(rng.integers(-2, 3))
            centre[axis] = min(max(target, low), CANVAS_PX - low)
        box = _around(centre[0], centre[1], diameter)
        if all(_clear(box, other) for other in boxes):
            return box
    return None


def _clear(a: SceneBox, b: SceneBox) -> bool:
    """Return whether two boxes are apart along one axis, and apart or in line along the other."""
    apart = [max(a[axis], b[axis]) - min(a[axis + 2], b[axis + 2]) >= GAP_PX for axis in (0, 1)]
    offsets = [abs(a[axis] + a[axis + 2] - b[axis] - b[axis + 2]) / 2 for axis in (0, 1)]
    return any(apart) and all(far or offset <= IN_LINE_PX for far, offset in zip(apart, offsets, strict=True))


def _around(x: int, y: int, diameter: int) -> SceneBox:
    left, top = x - diameter // 2, y - diameter // 2
    return (left, top, left + diameter, top + diameter)


def _centre(box: SceneBox) -> tuple[int, int]:
    return (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
