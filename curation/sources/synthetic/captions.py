"""Captions of a scene, and foils: texts one exchange away from a caption that the oracle finds false."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from curation.sources.synthetic.grammar import (
    ADJECTIVES,
    GROUND_NOUNS,
    NOUNS,
    NUMBERS,
    PATTERNS,
    PREPOSITIONS,
    VERB_FORMS,
    ParsedSentence,
    parse_sentence,
    plural,
    split_words,
    truth,
)
from curation.sources.synthetic.world import CONVERSE, pick

NUM_CAPTIONS = 5

_ONE = ("{a}", "there is {a}", "a picture of {a}", "a drawing of {a}", "we see {a}", "the picture shows {a}")
_ONE_PLACED = (
    "{a} {place}", "{a} is {place}", "there is {a} {place}", "{place}, there is {a}", "a picture of {a} {place}",
)  # fmt: skip
_PAIR = (
    "{a} is {r} {b}", "{a} is {r} {b}", "{a} sits {r} {b}", "{a} lies {r} {b}", "{a} {r} {b}", "there is {a} {r} {b}",
    "a picture of {a} {r} {b}", "the picture shows {a} {r} {b}", "{r} {b} is {a}", "{r} {b} there is {a}",
    "{r} {b}, we see {a}", "{place}, {a} is {r} {b}", "{a} is {r} {b} {place}",
)  # fmt: skip
_PAIR_VERB = ("{a} {r} {b}", "{a} {r} {b}", "{place}, {a} {r} {b}")
_CHAIN = ("{a} is {r} {b} and {s} {c}", "there is {a} {r} {b} and {s} {c}", "{a} sits {r} {b} and {s} {c}")
_TWO_PAIRS = ("{a} is {r} {b} and {c} is {s} {d}", "{a} is {r} {b}, and {c} sits {s} {d}")
_PREDICATES = ("the {shape} is {adjectives}", "one {shape} is {adjectives}")
_LIST_FRAMES = ("{all}", "a picture of {all}", "a drawing of {all}", "{there} {all}", "we see {all}", "{all} {place}")


def captions_of(scene: Mapping[str, Any], rng: np.random.Generator) -> tuple[str, ...]:
    """Return five different captions, all true of the scene.

    With several objects, at least two name a relation and at least three name two objects.
    """
    many = len(scene["objects"]) > 1
    writers = (
        [_pair, _pair, _several, _single, pick(rng, (_pair, _several, _single))] if many else [_single] * NUM_CAPTIONS
    )
    bodies: list[str] = []
    for write in writers:
        body = write(scene, rng)
        while body in bodies:
            body = write(scene, rng)
        bodies.append(body)
    return tuple(_finish(bodies[int(i)], cased=rng.random() < 0.5) for i in rng.permutation(NUM_CAPTIONS))


def foils_of(scene: Mapping[str, Any], captions: Sequence[str], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return, for each caption, at most one foil of each kind.

    * ``attribute``: two words of one feature (colour, size, texture) are exchanged; false according to the oracle.
    * ``relation``: a direction is reversed, or its two sides are exchanged; false according to the oracle.
    * ``order``: the words are shuffled; not true according to the oracle, and nearly always not a sentence.

    A kind is missing where the caption and the scene allow none. Foils that a reader could recognise without the image
    are left out: a purple meadow, or a large star around a small ring (in scenes, large rings surround small objects).
    """
    foils: list[dict[str, Any]] = []
    for number, caption in enumerate(captions):
        words = split_words(caption)
        sentence = parse_sentence(words)
        if sentence is None:
            raise ValueError(f"caption {number} is not in the grammar: {caption!r}")
        options = {"attribute": _exchanged_attributes(words, sentence), "relation": _changed_relations(words, sentence)}
        for kind, changed in options.items():
            texts = [_finish(_join(other), cased=caption[0].isupper()) for other in changed]
            if false := [text for text in texts if truth(scene, text) is False]:
                foils.append({"kind": kind, "caption": number, "text": pick(rng, false)})
        for _ in range(8):
            shuffled = [words[int(i)] for i in rng.permutation(len(words)) if words[int(i)] != ","]
            text = _finish(_join(shuffled), cased=caption[0].isupper())
            if truth(scene, text) is not True:
                foils.append({"kind": "order", "caption": number, "text": text})
                break
    return foils


def _exchanged_attributes(words: Sequence[str], sentence: ParsedSentence) -> list[list[str]]:
    """Return the words with two values of one feature exchanged between two phrases, in every possible way."""
    allowed = ADJECTIVES.keys() - ({"size"} if _has_containment(sentence) else set())
    named = [_exchangeable(words, phrase.features, allowed) for phrase in sentence.phrases]
    # Of backgrounds, only the colour of a plain one is exchanged: no object has its textures or a landscape's colours.
    plain = [place for place in sentence.places if ("scenery", "background") in {entry[:2] for entry in place.features}]
    named += [_exchangeable(words, place.features, ("colour",)) for place in plain]
    changed = []
    for first, second in itertools.combinations(named, 2):
        for slot in first.keys() & second.keys():
            (value, here), (other_value, there) = first[slot], second[slot]
            if value != other_value:
                other = list(words)
                other[here], other[there] = words[there], words[here]
                changed.append((slot, other))
    return [other for _, other in sorted(changed)]


def _has_containment(sentence: ParsedSentence) -> bool:
    return any(relation not in _DIRECTIONS for _, relation, *_ in sentence.claims)


def _exchangeable(
    words: Sequence[str], features: Sequence[tuple[str, str, int]], allowed: Collection[str]
) -> dict[tuple[str, bool], tuple[str, int]]:
    """Return value and position by (feature, whether the word is a noun after "with"); exchanges keep to one key."""
    return {(name, words[at] in _PATTERN_WORDS): (value, at) for name, value, at in features if name in allowed}


def _changed_relations(words: Sequence[str], sentence: ParsedSentence) -> list[list[str]]:
    """Return the words with a direction reversed, or with the phrases on its two sides exchanged."""
    changed = []
    for subject, relation, landmark, start, end in sentence.claims:
        if relation not in _DIRECTIONS:
            continue
        opposites = _OPPOSITES[" ".join(words[start:end])]
        changed += [[*words[:start], *opposite.split(), *words[end:]] for opposite in opposites]
        if _has_containment(sentence):
            continue
        one, two = sorted((sentence.phrases[subject], sentence.phrases[landmark]), key=lambda phrase: phrase.start)
        first, second = words[one.start : one.end], words[two.start : two.end]
        changed.append([*words[: one.start], *second, *words[one.end : two.start], *first, *words[two.end :]])
    return changed


def _pair(scene: Mapping[str, Any], rng: np.random.Generator) -> str:
    """Return a caption about a relation between two objects, from either side."""
    i, relation, j = _relation(scene, rng)
    a, b = (_mention(scene["objects"][number], rng) for number in (i, j))
    place = _place(scene["background"], rng)
    if relation in VERB_FORMS and rng.random() < 0.6:
        return pick(rng, _PAIR_VERB).format(a=a, r=pick(rng, VERB_FORMS[relation]), b=b, place=place)
    return pick(rng, _PAIR).format(a=a, r=pick(rng, PREPOSITIONS[relation]), b=b, place=place)


def _several(scene: Mapping[str, Any], rng: np.random.Generator) -> str:
    """Return a caption about as many objects as it can: a list, two relations of one object, or two pairs."""
    objects = scene["objects"]
    if len(objects) == 2 or rng.random() < 0.4:
        return _listed(scene, rng)
    i, relation, j = _relation(scene, rng)
    separate = [claim for claim in _both_directions(scene) if not {claim[0], claim[2]} & {i, j}]
    chained = [claim for claim in _both_directions(scene) if claim[0] == i and claim[2] != j]
    first_pair = {
        "a": _mention(objects[i], rng),
        "r": pick(rng, PREPOSITIONS[relation]),
        "b": _mention(objects[j], rng),
    }
    if separate and (not chained or rng.random() < 0.5):
        k, other, n = pick(rng, separate)
        mentions = {"c": _mention(objects[k], rng), "d": _mention(objects[n], rng)}
        return pick(rng, _TWO_PAIRS).format(**first_pair, **mentions, s=pick(rng, PREPOSITIONS[other]))
    if chained:
        _, other, n = pick(rng, chained)
        return pick(rng, _CHAIN).format(**first_pair, c=_mention(objects[n], rng), s=pick(rng, PREPOSITIONS[other]))
    return _listed(scene, rng)


def _listed(scene: Mapping[str, Any], rng: np.random.Generator) -> str:
    """Return a caption that lists the objects, sometimes with a count of those of one shape."""
    objects = [scene["objects"][int(i)] for i in rng.permutation(len(scene["objects"]))]
    shapes = [item["shape"] for item in objects]
    repeated = sorted({shape for shape in shapes if 1 < shapes.count(shape) < len(shapes)})
    counted = pick(rng, repeated) if repeated and rng.random() < 0.7 else None
    mentions = [_mention(item, rng) for item in objects if item["shape"] != counted]
    if counted is not None:
        noun = pick(rng, NOUNS[counted])
        number = next(word for word, count in NUMBERS.items() if count == shapes.count(counted))
        mentions.insert(0, f"{number} {plural(noun)}")
    listed = " and ".join(part for part in (", ".join(mentions[:-1]), mentions[-1]) if part)
    there = "there is" if listed.startswith("a ") else "there are"
    return pick(rng, _LIST_FRAMES).format(all=listed, there=there, place=_place(scene["background"], rng))


def _single(scene: Mapping[str, Any], rng: np.random.Generator) -> str:
    """Return a caption about one object and possibly the background."""
    item = pick(rng, scene["objects"])
    unique = sum(other["shape"] == item["shape"] for other in scene["objects"]) == 1
    if rng.random() < 0.2:
        shape = pick(rng, NOUNS[item["shape"]])
        adjectives = [pick(rng, ADJECTIVES["colour"][item["colour"]]), pick(rng, ADJECTIVES["size"][item["size"]])]
        if item["texture"] != "plain" and rng.random() < 0.5:
            adjectives[1] = pick(rng, ADJECTIVES["texture"][item["texture"]])
        return _PREDICATES[0 if unique else 1].format(shape=shape, adjectives=" and ".join(adjectives))
    frames = _ONE_PLACED if rng.random() < 0.65 else _ONE
    return pick(rng, frames).format(a=_mention(item, rng), place=_place(scene["background"], rng))


def _mention(item: Mapping[str, Any], rng: np.random.Generator) -> str:
    """Return a noun phrase for an object: nearly always with its colour, sometimes with its size and texture."""
    size = [pick(rng, ADJECTIVES["size"][item["size"]])] if rng.random() < 0.4 else []
    inner = [pick(rng, ADJECTIVES["colour"][item["colour"]])] if rng.random() < 0.92 or not size else []
    tail = ""
    if rng.random() < (0.1 if item["texture"] == "plain" else 0.65):
        if item["texture"] in PATTERNS and rng.random() < 0.3:
            tail = " with " + pick(rng, PATTERNS[item["texture"]])
        else:
            # "a red striped star", but not "a red plain star"
            last = item["texture"] in PATTERNS and rng.random() < 0.3
            inner.insert(len(inner) if last else 0, pick(rng, ADJECTIVES["texture"][item["texture"]]))
    return " ".join(["a", *size, *inner, pick(rng, NOUNS[item["shape"]])]) + tail


def _place(background: Mapping[str, str], rng: np.random.Generator) -> str:
    """Return a phrase about the background."""
    noun = pick(rng, GROUND_NOUNS[background["scenery"]])
    colour = pick(rng, ADJECTIVES["colour"][background["colour"]])
    if background["scenery"] != "background":
        return f"in front of a {colour} {noun}" if rng.random() < 0.6 else f"in front of a {noun}"
    texture = [pick(rng, ADJECTIVES["texture"][background["texture"]])] if rng.random() < 0.4 else []
    return " ".join([pick(rng, ("on", "on", "against")), "a", *texture, colour, noun])


def _relation(scene: Mapping[str, Any], rng: np.random.Generator) -> tuple[int, str, int]:
    """Return a relation of the scene in either direction; where objects are nested, every other time their relation."""
    claims = _both_directions(scene)
    inside = [claim for claim in claims if claim[1] in ("inside", "around")]
    return pick(rng, inside if inside and rng.random() < 0.5 else claims)


def _both_directions(scene: Mapping[str, Any]) -> list[tuple[int, str, int]]:
    return [claim for i, relation, j in scene["relations"] for claim in ((i, relation, j), (j, CONVERSE[relation], i))]


def _join(words: Sequence[str]) -> str:
    return " ".join(words).replace(" ,", ",")


def _finish(body: str, *, cased: bool) -> str:
    """Return the text unchanged, or with a capital letter and a full stop."""
    return body[0].upper() + body[1:] + "." if cased else body


_PATTERN_WORDS = frozenset(noun for nouns in PATTERNS.values() for noun in nouns)


_DIRECTIONS = ("left of", "right of", "above", "below")
_OPPOSITES: Mapping[str, tuple[str, ...]] = {
    **{phrase: (phrase.replace("left", "right"),) for phrase in PREPOSITIONS["left of"]},
    **{phrase: (phrase.replace("right", "left"),) for phrase in PREPOSITIONS["right of"]},
    **dict.fromkeys(PREPOSITIONS["above"], PREPOSITIONS["below"]),
    **dict.fromkeys(PREPOSITIONS["below"], PREPOSITIONS["above"]),
}
"""Phrase of a direction -> phrases of the opposite direction that can replace it in a sentence."""
