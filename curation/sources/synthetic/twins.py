"""Twins: the same scene but for one change, with texts that are true of one of the two and false of the other.

Used both ways, such a pair cannot be told without the pictures: each text is once right and once wrong, so whoever
prefers a text by its wording is right in exactly one half of the cases (as in Winoground; Thrush et al. 2022,
arXiv:2204.03162).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.sources.synthetic.grammar import plural, truth
from curation.sources.synthetic.simple_captions import RELATION_WORDS
from curation.sources.synthetic.world import CONVERSE, Level, pick

SceneGraph = dict[str, Any]

_FRAMES = ("{0}", "there is {0}", "a picture of {0}", "we see {0}")
_DENIED = ("{a} but no {c}", "{a} without a {c}")


@dataclass(frozen=True)
class TwinText:
    """A text that is true of a scene and false of its twin, and one that is the other way round.

    Attributes:
        kind: What they differ in: ``attribute`` (two colours or textures are exchanged, or one is another), ``size`` (which
            of two objects is the large one), ``shape``, ``relation`` (another word), ``role`` (who stands where is
            exchanged), ``number`` or ``negation``.
        own: True of the scene.
        other: True of the twin.
    """

    kind: str
    own: str
    other: str


def make_twin(scene: SceneGraph, level: Level, rng: np.random.Generator) -> tuple[SceneGraph, list[TwinText]] | None:
    """Return a scene's twin and their texts; None if none of the level's changes leads to texts of which the oracle is sure.

    The change is drawn, but one of numbers, which few scenes allow, comes first.
    """
    changes: list[_Change] = [_exchange_feature, _change_shape, _exchange_places]
    if "size" in level.kinds:
        changes.append(_exchange_sizes)
    if "negation" in level.kinds:
        changes.append(_change_absent)
    order = [changes[int(i)] for i in rng.permutation(len(changes))]
    if "number" in level.kinds:
        order.insert(0, _change_number)
    for change in order:
        options = list(change(scene, level, rng))
        for number in rng.permutation(len(options)):
            twin, texts = options[int(number)]
            if sure := [text for text in texts if _is_sure(scene, twin, text)]:
                return twin, sure
    return None


_Change = Callable[[SceneGraph, Level, np.random.Generator], Iterator[tuple[SceneGraph, list[TwinText]]]]
"""Yields the twins that one kind of change leads to, with their texts."""


def _is_sure(scene: SceneGraph, twin: SceneGraph, text: TwinText) -> bool:
    """Return whether each text is true of its own scene and false of the other."""
    verdicts = [truth(graph, said) for graph in (scene, twin) for said in (text.own, text.other)]
    return verdicts == [True, False, False, True]


def _changed(scene: SceneGraph, values: Mapping[int, Mapping[str, str]]) -> SceneGraph | None:
    """Return the scene with other features of some objects (by number); None if two objects would look alike.

    An object inside another, and what is around it, keep their shapes: only a ring can be around something.
    """
    twin = copy.deepcopy(scene)
    nested = {number for i, relation, j in scene["relations"] if relation == "inside" for number in (i, j)}
    for number, features in values.items():
        if (
            number in nested
            and features.get("shape", twin["objects"][number]["shape"]) != twin["objects"][number]["shape"]
        ):
            return None
        twin["objects"][number] |= features
    looks = [(item["shape"], item["colour"]) for item in twin["objects"]]
    return twin if len(set(looks)) == len(looks) else None


def _said(item: Mapping[str, str], *features: str) -> str:
    return " ".join(["a", *(item[feature] for feature in features), item["shape"]])


def _exchange_feature(
    scene: SceneGraph, level: Level, rng: np.random.Generator
) -> Iterator[tuple[SceneGraph, list[TwinText]]]:
    """Exchange the colours, or the textures, of two objects; of a single object, take another colour."""
    objects, frame = scene["objects"], pick(rng, _FRAMES)
    if len(objects) == 1:
        for colour in level.colours:
            if colour not in (objects[0]["colour"], scene["background"]["colour"]):
                twin = _changed(scene, {0: {"colour": colour}})
                assert twin is not None
                own, other = (frame.format(_said(graph["objects"][0], "colour")) for graph in (scene, twin))
                yield twin, [TwinText("attribute", own, other)]
        return
    for (i, j), feature in itertools.product(itertools.combinations(range(len(objects)), 2), ("colour", "texture")):
        twin = _changed(scene, {i: {feature: objects[j][feature]}, j: {feature: objects[i][feature]}})
        if twin is not None and twin["objects"] != objects:
            own, other = (
                frame.format(f"{_said(graph['objects'][i], feature)} and {_said(graph['objects'][j], feature)}")
                for graph in (scene, twin)
            )
            yield twin, [TwinText("attribute", own, other)]


def _exchange_sizes(
    scene: SceneGraph, _level: Level, rng: np.random.Generator
) -> Iterator[tuple[SceneGraph, list[TwinText]]]:
    """Exchange a large object and a small one in all but their sizes, so that the other of the two is the large one."""
    objects, frame = scene["objects"], pick(rng, _FRAMES)
    for i, j in itertools.combinations(range(len(objects)), 2):
        twin = _changed(scene, {i: _looks(objects[j]), j: _looks(objects[i])})
        if objects[i]["size"] == objects[j]["size"] or twin is None:
            continue
        first, second = (_said(objects[k], "colour").removeprefix("a ") for k in (i, j))
        sizes = [objects[k]["size"] for k in (i, j)]
        own, other = (frame.format(f"a {a} {first} and a {b} {second}") for a, b in (sizes, sizes[::-1]))
        yield twin, [TwinText("size", own, other)]


def _looks(item: Mapping[str, str]) -> dict[str, str]:
    """Return all that is said of an object but its size."""
    return {name: item[name] for name in ("shape", "colour", "texture")}


def _change_shape(
    scene: SceneGraph, level: Level, rng: np.random.Generator
) -> Iterator[tuple[SceneGraph, list[TwinText]]]:
    """Give one object a shape that the scene does not have."""
    frame = pick(rng, _FRAMES)
    for number, other_shape in _absent_shapes(scene, level):
        if (twin := _changed(scene, {number: {"shape": other_shape}})) is not None:
            own, other = (frame.format(_said(graph["objects"][number], "colour")) for graph in (scene, twin))
            yield twin, [TwinText("shape", own, other)]


def _absent_shapes(scene: SceneGraph, level: Level) -> list[tuple[int, str]]:
    shapes = {item["shape"] for item in scene["objects"]}
    return [
        (number, shape)
        for number in range(len(scene["objects"]))
        for shape in level.shapes
        if shape not in shapes and shape != "ring"
    ]


def _exchange_places(
    scene: SceneGraph, _level: Level, rng: np.random.Generator
) -> Iterator[tuple[SceneGraph, list[TwinText]]]:
    """Exchange two objects; sizes stay where they are."""
    word, frame = int(rng.integers(2)), pick(rng, ("{a} {r} {b}", "{a} is {r} {b}", "there is {a} {r} {b}"))
    for i, relation, j in scene["relations"]:
        if relation not in RELATION_WORDS:
            continue
        if (twin := _changed(scene, {i: _looks(scene["objects"][j]), j: _looks(scene["objects"][i])})) is None:
            continue
        a, b = (_said(scene["objects"][k], "colour") for k in (i, j))
        r, converse = RELATION_WORDS[relation][word], RELATION_WORDS[CONVERSE[relation]][word]
        if rng.random() < 0.5:
            a, b, r, converse = b, a, converse, r
        own = frame.format(a=a, r=r, b=b)
        yield (
            twin,
            [
                TwinText("relation", own, frame.format(a=a, r=converse, b=b)),
                TwinText("role", own, frame.format(a=b, r=r, b=a)),
            ],
        )


def _change_number(
    scene: SceneGraph, _level: Level, rng: np.random.Generator
) -> Iterator[tuple[SceneGraph, list[TwinText]]]:
    """Give one of two objects of a shape the shape of a third."""
    shapes, frame = [item["shape"] for item in scene["objects"]], pick(rng, _FRAMES).replace("is", "are")
    for number, single in itertools.product(range(len(shapes)), sorted(set(shapes))):
        if shapes.count(shapes[number]) != 2 or shapes.count(single) != 1:
            continue
        if (twin := _changed(scene, {number: {"shape": single}})) is not None:
            ways = ((shapes[number], single), (single, shapes[number]))
            own, other = (frame.format(f"two {plural(pair)} and one {one}") for pair, one in ways)
            yield twin, [TwinText("number", own, other)]


def _change_absent(
    scene: SceneGraph, level: Level, rng: np.random.Generator
) -> Iterator[tuple[SceneGraph, list[TwinText]]]:
    """Give the only object of its shape another shape, so that what is there in one scene is absent in the other."""
    shapes, frame = [item["shape"] for item in scene["objects"]], pick(rng, _DENIED)
    for number, absent in _absent_shapes(scene, level):
        gone = shapes[number]
        twin = _changed(scene, {number: {"shape": absent}}) if shapes.count(gone) == 1 else None
        if twin is None:
            continue
        texts = [TwinText("negation", f"there is no {absent}", f"there is no {gone}")]
        if others := [item for k, item in enumerate(scene["objects"]) if k != number]:
            a = _said(pick(rng, others), "colour")
            texts = [
                TwinText("negation", frame.format(a=a, c=absent), frame.format(a=a, c=gone)),
                TwinText("negation", frame.format(a=a, c=absent), f"{a} and a {absent}"),
            ]
        yield twin, texts
