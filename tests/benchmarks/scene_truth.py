"""Truth on scenes of texts that their grammar has no words for: denials, and numbers that are meant exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from curation.sources.synthetic.grammar import (
    PATTERNS,
    ParsedSentence,
    Phrase,
    holds_in_scene,
    parse_sentence,
    split_words,
    truth,
)
from curation.sources.synthetic.world import CONVERSE

_EXACT = ("one", "two", "three", "four")


def denial_holds(scene: Mapping[str, Any], text: str, caption: str) -> bool | None:
    """Return whether a denial is true of a scene; None where this does not know.

    "No star is left of a circle" and "we do not see a star" are true when there is none; "a star is not left of a
    circle" when some star is left of none; "a star without stripes" when there is such a star.

    Args:
        scene: The scene.
        text: The denial.
        caption: What it denies, for "not".
    """
    words = text.lower().removesuffix(".").replace(",", " ,").split()
    if "no" in words:
        told = truth(scene, " ".join("a" if word == "no" else word for word in words))
        return None if told is None else not told
    reading = parse_sentence(split_words(caption if "not" in words else text.lower().replace("without", "with")))
    if reading is None:
        return None
    if "without" in words:
        return _without(scene, reading, words[words.index("without") + 1])
    if {"see", "show"} & set(words):
        return not holds_in_scene(scene, reading)
    return _not_so(scene, reading)


def _without(scene: Mapping[str, Any], reading: ParsedSentence, pattern: str) -> bool | None:
    texture = next((name for name, nouns in PATTERNS.items() if pattern in nouns), None)
    others = {item["texture"] for item in scene["objects"]} - {texture}
    found = [phrase for phrase in reading.phrases if ("texture", texture) in {(a, b) for a, b, _ in phrase.features}]
    if texture is None or len(found) != 1:
        return None
    plain = [item for item in found[0].features if item[0] != "texture"]
    return any(
        holds_in_scene(
            scene, _with(reading, found[0], dataclasses.replace(found[0], features=[*plain, ("texture", other, 0)]))
        )
        for other in sorted(others)
    )


def _not_so(scene: Mapping[str, Any], reading: ParsedSentence) -> bool | None:
    """Say whether something that fits the first phrase stands in the claim to nothing that fits the second."""
    if len(reading.claims) != 1 or any(phrase.count != 1 for phrase in reading.phrases):
        return None
    one, relation, other, _, _ = reading.claims[0]
    held = {(i, name, j) for i, name, j in scene["relations"]}
    held |= {(j, CONVERSE[name], i) for i, name, j in held}
    subjects, landmarks = (_fitting(scene, reading.phrases[number]) for number in (one, other))
    return any(all((i, relation, j) not in held for j in landmarks if j != i) for i in subjects)


def _fitting(scene: Mapping[str, Any], phrase: Phrase) -> list[int]:
    return [
        number
        for number, item in enumerate(scene["objects"])
        if all(item.get(feature) == value for feature, value, _ in phrase.features)
    ]


def exactly_true(scene: Mapping[str, Any], text: str) -> bool | None:
    """Return whether a text is true of a scene when "one", "two" .. "four" mean that many and no more."""
    words = split_words(text)
    reading = parse_sentence(words)
    if reading is None:
        return None
    more = [
        _with(reading, phrase, dataclasses.replace(phrase, count=phrase.count + 1))
        for phrase in reading.phrases
        if words[phrase.start] in _EXACT
    ]
    return holds_in_scene(scene, reading) and not any(holds_in_scene(scene, one) for one in more)


def _with(reading: ParsedSentence, old: Phrase, new: Phrase) -> ParsedSentence:
    return dataclasses.replace(reading, phrases=[new if phrase is old else phrase for phrase in reading.phrases])


def truth_of(scene: Mapping[str, Any], record: Mapping[str, Any], caption: str, *, exactly: bool) -> bool | None:
    """Return whether a negative is true of a scene after all; None where that is not known."""
    if record["type"] == "negation":
        return denial_holds(scene, record["text"], caption)
    return exactly_true(scene, record["text"]) if exactly else truth(scene, record["text"])
