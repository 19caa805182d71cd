"""Captions of scenes in other languages than English, and the oracle that decides whether such a sentence is true.

A language is a book of frames with slots: by the same frames captions are written and sentences are read, so that a
caption in which one word was exchanged is still a sentence if, and only if, it is one that the language allows: an ending
that does not agree makes it none.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from curation.sources.synthetic.grammar import ParsedSentence, Phrase, holds_in_scene
from curation.sources.synthetic.world import (
    COLOURS,
    CONVERSE,
    GROUND_TEXTURES,
    SCENERY,
    SHAPES,
    SIZES,
    TEXTURES,
    Level,
    pick,
)

NUM_CAPTIONS = 5
_SLOT = re.compile(r"\{(\w):(\w+)\}")
_FULL_STOPS = ".\u3002"


class Looks(NamedTuple):
    """What is said of an object, or of the background (its shape is then the scenery); empty where nothing is said."""

    shape: str
    colour: str = ""
    size: str = ""
    texture: str = ""

    def features(self, noun: str) -> list[tuple[str, str, int]]:
        """Return what is claimed, as in `grammar.Phrase`; `noun` is the feature that the shape is."""
        said = ((noun, self.shape), ("colour", self.colour), ("size", self.size), ("texture", self.texture))
        return [(name, value, -1) for name, value in said if value]


_OBJECTS = tuple(Looks(*said) for said in itertools.product(SHAPES, ("", *COLOURS), ("", *SIZES), ("", *TEXTURES)))
_BACKGROUNDS = (
    *(Looks(scenery, colour) for scenery in SCENERY for colour in ("", *COLOURS)),
    *(Looks("background", colour, "", texture) for colour in COLOURS for texture in ("", *GROUND_TEXTURES)),
)


class Frame(NamedTuple):
    """A sentence with slots ``{x:kind}``, x one of a to d (objects), n (several of a shape), x (what is not there), p (place).

    Attributes:
        text: The sentence.
        relation: What holds between the objects of the slots a and b; empty for none.
    """

    text: str
    relation: str = ""


@dataclass(frozen=True)
class PhraseBook:
    """A language.

    Attributes:
        code: Its code.
        spell: Returns the words for some looks in a slot of a kind; an empty text where the kind cannot say them.
        kinds: Kinds of slots for objects, numbers, what is not there, and places.
        pairs: Relation -> frames with the slots a and b.
        lists: Number of objects -> frames with the slots a to d.
        counts: Frames with a number of objects of one shape and one object.
        denials: Frames that say what is not there.
        placed: Frames with one object and the background.
        full_stop: What ends a sentence.
    """

    code: str
    spell: Callable[[str, Looks], str]
    kinds: Mapping[str, tuple[str, ...]]
    pairs: Mapping[str, tuple[str, ...]]
    lists: Mapping[int, tuple[str, ...]]
    counts: tuple[str, ...]
    denials: tuple[str, ...]
    placed: tuple[str, ...]
    full_stop: str = "."

    @cached_property
    def frames(self) -> tuple[tuple[Frame, tuple[str, ...]], ...]:
        """All frames, each with its text cut at the slots: literal, slot, kind, literal ..."""
        found = [Frame(text, relation) for relation, texts in self.pairs.items() for text in texts]
        others = (*itertools.chain.from_iterable(self.lists.values()), *self.counts, *self.denials, *self.placed)
        return tuple((frame, tuple(_SLOT.split(frame.text))) for frame in (*found, *map(Frame, others)))

    @cached_property
    def tables(self) -> Mapping[str, Mapping[str, Looks]]:
        """Kind -> words -> what they say."""
        return {
            kind: {words: looks for looks in self._all_looks(kind) if (words := self.spell(kind, looks))}
            for kinds in self.kinds.values()
            for kind in kinds
        }

    def _all_looks(self, kind: str) -> Sequence[Looks]:
        if kind in self.kinds["p"]:
            return _BACKGROUNDS
        return _OBJECTS if kind in self.kinds["a"] else [Looks(shape) for shape in SHAPES]

    def read(self, text: str) -> ParsedSentence | None:
        """Return the claims of a sentence; None if it is none of the language, or can be read in no way."""
        plain = text.strip().rstrip(_FULL_STOPS)
        for said in dict.fromkeys((plain, plain[:1].lower() + plain[1:])):
            for frame, parts in self.frames:
                if (filled := next(self._fill(said, parts), None)) is not None:
                    return self._claims(frame, filled)
        return None

    def _fill(self, text: str, parts: tuple[str, ...]) -> Iterator[list[tuple[str, str, Looks]]]:
        """Yield the ways to fill the slots of a frame, each a list of slot, kind and looks."""
        if not text.startswith(parts[0]):
            return
        text = text[len(parts[0]) :]
        if len(parts) == 1:
            if not text:
                yield []
            return
        slot, kind, table = parts[1], parts[2], self.tables[parts[2]]
        for stop in range(len(text), 0, -1):
            if (looks := table.get(text[:stop])) is not None:
                yield from ([(slot, kind, looks), *rest] for rest in self._fill(text[stop:], parts[3:]))

    def _claims(self, frame: Frame, filled: Sequence[tuple[str, str, Looks]]) -> ParsedSentence:
        found, number = ParsedSentence(), dict[str, int]()
        for slot, _, looks in filled:
            features = looks.features("scenery" if slot == "p" else "shape")
            phrase = Phrase(0, 0, 2 if slot == "n" else 1, features)
            if slot in "px":
                (found.places if slot == "p" else found.absent).append(phrase)
            else:
                number[slot] = len(found.phrases)
                found.phrases.append(phrase)
        if frame.relation:
            found.claims.append((number["a"], frame.relation, number["b"], 0, 0))
        return found

    def truth(self, scene: Mapping[str, Any], text: str) -> bool | None:
        """Return whether a sentence is true of a scene, as `grammar.truth` does; None if it is no sentence."""
        sentence = self.read(text)
        return None if sentence is None else holds_in_scene(scene, sentence)

    def captions(self, scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> tuple[str, ...]:
        """Return five different captions, all true of the scene: mostly of relations, else lists, counts, denials, places."""
        writers: list[Callable[..., str]] = [self._placed] * NUM_CAPTIONS
        if len(scene["objects"]) > 1:
            last = [self._pair] + ([self._counted, self._denied] if "negation" in level.kinds else [])
            placed = [self._placed] if level.number > 2 else [self._pair]
            writers = [self._pair, self._pair, *placed, self._listed, pick(rng, last)]
        texts: list[str] = []
        for write in writers:
            text = write(scene, level, rng)
            while text in texts:
                text = write(scene, level, rng)
            texts.append(text)
        return tuple(self._finish(texts[int(i)], cased=rng.random() < 0.5) for i in rng.permutation(NUM_CAPTIONS))

    def _finish(self, text: str, *, cased: bool) -> str:
        return text[0].upper() + text[1:] + self.full_stop if cased else text

    def _write(self, frame: str, said: Mapping[str, Looks]) -> str:
        return _SLOT.sub(lambda match: self.spell(match[2], said[match[1]]), frame)

    def _pair(self, scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
        i, relation, j = pick(rng, scene["relations"])
        if rng.random() < 0.5:
            i, relation, j = j, CONVERSE[relation], i
        a, b = (_mention(scene["objects"][number], level, rng) for number in (i, j))
        return self._write(pick(rng, self.pairs[relation]), {"a": a, "b": b})

    def _listed(self, scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
        order = [scene["objects"][int(i)] for i in rng.permutation(len(scene["objects"]))]
        said = {slot: _mention(item, level, rng) for slot, item in zip("abcd", order, strict=False)}
        return self._write(pick(rng, self.lists[len(order)]), said)

    def _counted(self, scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
        """Return a caption with the number of the objects of one shape, or a list where no two have one shape."""
        shapes = [item["shape"] for item in scene["objects"]]
        repeated = next((shape for shape in shapes if shapes.count(shape) == 2), None)
        others = [item for item in scene["objects"] if item["shape"] != repeated]
        if repeated is None or not others:
            return self._listed(scene, level, rng)
        return self._write(pick(rng, self.counts), {"n": Looks(repeated), "b": _mention(pick(rng, others), level, rng)})

    def _denied(self, scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
        shapes = {item["shape"] for item in scene["objects"]}
        absent = pick(rng, [shape for shape in level.shapes if shape not in shapes])
        said = {"a": _mention(pick(rng, scene["objects"]), level, rng), "x": Looks(absent)}
        return self._write(pick(rng, self.denials), said)

    def _placed(self, scene: Mapping[str, Any], level: Level, rng: np.random.Generator) -> str:
        ground = scene["background"]
        texture = ground.get("texture", "") if ground["scenery"] == "background" and rng.random() < 0.4 else ""
        colour = ground["colour"] if ground["scenery"] == "background" or rng.random() < 0.6 else ""
        said = {
            "a": _mention(pick(rng, scene["objects"]), level, rng),
            "p": Looks(ground["scenery"], colour, "", texture),
        }
        return self._write(pick(rng, self.placed), said)


def _mention(item: Mapping[str, Any], level: Level, rng: np.random.Generator) -> Looks:
    """Return what is said of an object: nearly always its colour, sometimes its size and texture."""
    size = item["size"] if len(level.sizes) > 1 and rng.random() < 0.4 else ""
    colour = item["colour"] if rng.random() < 0.9 else ""
    often = 0.1 if item["texture"] == "plain" else 0.6
    texture = item["texture"] if level.number > 2 and rng.random() < often else ""
    return Looks(item["shape"], colour, size, texture)
