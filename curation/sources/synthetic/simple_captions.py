"""Captions of scenes of levels 1 and 2: short sentences as people say them, all true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from curation.sources.synthetic.captions import NUM_CAPTIONS
from curation.sources.synthetic.grammar import plural
from curation.sources.synthetic.world import CONVERSE, Level, pick

RELATION_WORDS: Mapping[str, tuple[str, str]] = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
"""Relation -> phrases; those of a relation and its converse correspond by position."""

_PAIR = (
    "{a} {r} {b}", "{a} {r} {b}", "{a} is {r} {b}", "there is {a} {r} {b}", "a picture of {a} {r} {b}", "we see {a} {r} {b}",
)  # fmt: skip
_LISTED = ("{all}", "{all}", "there is {all}", "a picture of {all}", "we see {all}")
_COUNTED = ("{n} and {b}", "there are {n} and {b}", "a picture of {n} and {b}")
_DENIED = ("{a} but no {c}", "{a} without a {c}", "there is no {c}")

Writer = Callable[[Mapping[str, Any], Level, np.random.Generator], str]


def simple_captions(scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> tuple[str, ...]:
    """Return five different captions: one list, one of any kind that the level has, and the others of a relation."""
    others: tuple[Writer, ...] = (_pair,)
    if "negation" in level.kinds:
        others = (_listed, _counted, _denied)
    texts: list[str] = []
    for write in (_pair, _pair, _pair, _listed, pick(rng, others)):
        text = write(scene, level, rng)
        while text in texts:
            text = write(scene, level, rng)
        texts.append(text)
    return tuple(texts[int(i)] for i in rng.permutation(NUM_CAPTIONS))


def _pair(scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
    i, relation, j = pick(rng, scene["relations"])
    if rng.random() < 0.5:
        i, relation, j = j, CONVERSE[relation], i
    a, b = (_mention(scene["objects"][number], level, rng) for number in (i, j))
    return pick(rng, _PAIR).format(a=a, r=pick(rng, RELATION_WORDS[relation]), b=b)


def _listed(scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
    said = [_mention(scene["objects"][int(i)], level, rng) for i in rng.permutation(len(scene["objects"]))]
    return pick(rng, _LISTED).format(all=f"{', '.join(said[:-1])} and {said[-1]}")


def _counted(scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
    """Return a caption with the number of the objects of one shape, or a list where no shape occurs twice."""
    shapes = [item["shape"] for item in scene["objects"]]
    repeated = next((shape for shape in shapes if shapes.count(shape) == 2), None)
    if repeated is None:
        return _listed(scene, level, rng)
    other = next(item for item in scene["objects"] if item["shape"] != repeated)
    return pick(rng, _COUNTED).format(n=f"two {plural(repeated)}", b=_mention(other, level, rng))


def _denied(scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
    """Return a caption that says what is not there."""
    shapes = {item["shape"] for item in scene["objects"]}
    absent = pick(rng, [shape for shape in level.shapes if shape not in shapes])
    return pick(rng, _DENIED).format(a=_mention(pick(rng, scene["objects"]), level, rng), c=absent)


def _mention(item: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
    """Return a noun phrase for an object: nearly always with its colour; with its size where sizes differ."""
    size = [item["size"]] if len(level.sizes) > 1 and rng.random() < 0.4 else []
    colour = [item["colour"]] if rng.random() < 0.9 else []
    return " ".join(["a", *size, *colour, item["shape"]])
