"""A small English about scenes, and the oracle that says whether a sentence of it is true.

The grammar, from the top (`?` optional, `*` repeated)::

    sentence   = place? opener? phrase more*  |  place? relation phrase ("is" | "there is") phrase more*
    more       = verb? relation phrase  |  "is" adjectives  |  ("," | "and") phrase
               | "and" verb? relation phrase  |  "is"? place
    phrase     = ("a" | "the" | "two" ...) adjective* shape ("with" pattern)?
    place      = "on a grey background" | "in front of a green meadow" ...

It is wider than what `scene_captions` writes: a caption in which two words or phrases of one kind have been exchanged
is still a sentence, so that the oracle can tell a false negative caption from one that happens to be true.

What a sentence means (`truth`):

* Existential, articles included: "the star is red" is true when some star is red.
* Different phrases speak of different objects: "a star and a red star" needs two stars, one of them red.
  A number counts at least so many: "two red circles" is true of three.
* An object has one colour, one size and one texture: "a red blue star" is a sentence, true of nothing.
* A relation holds when the scene lists it, or its converse, for the pair; with numbers, for every pair.
* A sentence is true when one choice of objects makes all its parts true and what it says of the background is true.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from curation.sources.synthetic.world import COLOURS, CONVERSE, SCENERY, SHAPES

T = TypeVar("T")
Words = tuple[str, ...]

ADJECTIVES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "size": {"large": ("large", "big"), "small": ("small", "little")},
    "colour": {name: ("grey", "gray") if name == "grey" else (name,) for name in COLOURS},
    "texture": {
        "plain": ("plain", "solid"), "striped": ("striped", "stripy"), "dotted": ("dotted", "spotted"),
        "checked": ("checked", "checkered"), "shaded": ("shaded",), "grainy": ("grainy", "noisy"),
    },
}  # fmt: skip
"""Feature -> value -> its words. None begins with a vowel, so an exchange of words never spoils an article."""
PATTERNS: Mapping[str, tuple[str, ...]] = {
    "striped": ("stripes",), "dotted": ("dots", "spots"), "checked": ("checks",),
}  # fmt: skip
"""Texture -> nouns that may follow "with"."""
NOUNS: Mapping[str, tuple[str, ...]] = {name: (name,) for name in SHAPES} | {
    "circle": ("circle", "disc"), "ring": ("ring", "hoop"),
}  # fmt: skip
GROUND_NOUNS: Mapping[str, tuple[str, ...]] = {name: (name,) for name in SCENERY} | {
    "background": ("background", "backdrop"), "meadow": ("meadow", "field"),
}  # fmt: skip
PREPOSITIONS: Mapping[str, tuple[str, ...]] = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "inside": ("inside", "within"),
    "around": ("around",),
}
VERB_FORMS: Mapping[str, tuple[str, ...]] = {
    "inside": ("is surrounded by", "is encircled by"), "around": ("surrounds", "encircles"),
}  # fmt: skip
"""Relation -> phrases that hold their own verb: active for "around", passive for "inside"."""
OPENERS = ("there is", "there are", "we see", "a picture of", "a drawing of", "the picture shows")
NUMBERS: Mapping[str, int] = {"a": 1, "an": 1, "the": 1, "one": 1, "two": 2, "three": 3, "four": 4}


def _lookup(table: Mapping[str, Sequence[str]]) -> dict[Words, str]:
    return {tuple(phrase.split()): meaning for meaning, phrases in table.items() for phrase in phrases}


_ADJECTIVE = {
    words: (feature, value) for feature, table in ADJECTIVES.items() for words, value in _lookup(table).items()
}
_PATTERN, _GROUND, _NOUN = _lookup(PATTERNS), _lookup(GROUND_NOUNS), _lookup(NOUNS)
_PLURAL: dict[Words, str] = {(noun + ("es" if noun.endswith("s") else "s"),): shape for (noun,), shape in _NOUN.items()}
_RELATION = _lookup(PREPOSITIONS)
_VERB_FORM = _lookup(VERB_FORMS)
_OPENER: dict[Words, str] = {tuple(phrase.split()): phrase for phrase in OPENERS}
_NUMBER: dict[Words, int] = {(word,): count for word, count in NUMBERS.items()}
_VERB: dict[Words, str] = {(word,): word for word in ("is", "are", "sits", "lies")}
_JOINT: dict[Words, str] = {tuple(phrase.split()): phrase for phrase in ("and", ",", ", and")}
_PLACE: dict[Words, str] = {tuple(phrase.split()): phrase for phrase in ("on", "against", "in front of")}
_COMMA: dict[Words, str] = {(",",): ","}


@dataclass(slots=True)
class Phrase:
    """A noun phrase: words[start:end], how many things it names, and (feature, value, position) of each word in it."""

    start: int
    end: int
    count: int
    features: list[tuple[str, str, int]]


@dataclass(slots=True)
class ParsedSentence:
    """What a sentence claims.

    Attributes:
        phrases: The things it names, in order.
        claims: (subject, relation, object, start, end): numbers of phrases, and the relation's words.
        places: What it says of the background.
    """

    phrases: list[Phrase] = field(default_factory=list)
    claims: list[tuple[int, str, int, int, int]] = field(default_factory=list)
    places: list[Phrase] = field(default_factory=list)


class _NotASentenceError(Exception):
    """The words leave the grammar."""


class _SentenceParser:
    """Recursive descent over the words of one sentence; every table takes its longest match."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words, self.at, self.reading = tuple(words), 0, ParsedSentence()

    def take(self, table: Mapping[Words, T]) -> T | None:
        for length in (4, 3, 2, 1):
            meaning = table.get(self.words[self.at : self.at + length])
            if meaning is not None:
                self.at += min(length, len(self.words) - self.at)
                return meaning
        return None

    def adjectives(self) -> list[tuple[str, str, int]]:
        found = []
        while (adjective := self.take(_ADJECTIVE)) is not None:
            found.append((*adjective, self.at - 1))
        return found

    def phrase(self) -> int:
        """Read a noun phrase and return its number."""
        start = self.at
        count = self.take(_NUMBER)
        features = self.adjectives()
        shape = self.take(_NOUN if count == 1 else _PLURAL)
        if count is None or shape is None:
            raise _NotASentenceError
        features.append(("shape", shape, self.at - 1))
        if self.words[self.at : self.at + 1] == ("with",):
            self.at += 1
            texture = self.take(_PATTERN)
            if texture is None:
                raise _NotASentenceError
            features.append(("texture", texture, self.at - 1))
        self.reading.phrases.append(Phrase(start, self.at, count, features))
        return len(self.reading.phrases) - 1

    def place(self) -> bool:
        """Read a phrase about the background, if there is one."""
        before = self.at
        if self.take(_PLACE) is not None:
            start = self.at
            if self.take(_NUMBER) == 1:
                features = self.adjectives()
                scenery = self.take(_GROUND)
                if scenery is not None:
                    features.append(("scenery", scenery, self.at - 1))
                    self.reading.places.append(Phrase(start, self.at, 1, features))
                    return True
        self.at = before
        return False

    def relation(self, verb: str | None) -> tuple[str, int, int] | None:
        start = self.at
        meaning = self.take(_RELATION) or (self.take(_VERB_FORM) if verb is None else None)
        return None if meaning is None else (meaning, start, self.at)

    def sentence(self) -> ParsedSentence:
        if self.place():
            self.take(_COMMA)
        subject = self.front() if self.take(_OPENER) is None else self.phrase()
        while self.at < len(self.words):
            subject = self.more(subject)
        return self.reading

    def front(self) -> int:
        """Read a subject, or an inverted clause ("above a star is a circle"); return the subject's number."""
        start = self.at
        relation = self.take(_RELATION)
        if relation is None:
            return self.phrase()
        end, landmark = self.at, self.phrase()
        self.take(_COMMA)
        if self.take(_VERB) is None and self.take(_OPENER) not in ("there is", "we see"):
            raise _NotASentenceError
        subject = self.phrase()
        self.reading.claims.append((subject, relation, landmark, start, end))
        return subject

    def more(self, subject: int) -> int:
        """Read what follows a subject; return the subject of whatever follows that."""
        joined = self.take(_JOINT)
        # "is surrounded by" holds its own verb, so it is tried before "is" is taken for itself.
        verb = self.take(_VERB) if self.words[self.at : self.at + 3] not in _VERB_FORM else None
        relation = self.relation(verb)
        if relation is not None:
            meaning, start, end = relation
            self.reading.claims.append((subject, meaning, self.phrase(), start, end))
            return subject
        if joined is None and self.place():
            return subject
        if verb in ("is", "are") and joined is None and (said := self.adjectives()):
            while self.words[self.at : self.at + 1] == ("and",) and self.words[self.at + 1 : self.at + 2] in _ADJECTIVE:
                self.at += 1
                said += self.adjectives()
            self.reading.phrases[subject].features.extend(said)
            return subject
        if joined is None or verb is not None:
            raise _NotASentenceError
        return self.phrase()


def split_words(text: str) -> list[str]:
    """Return the lower-cased words and commas of a text, without its full stop; empty when it holds anything else."""
    plain = text.strip().lower().removesuffix(".")
    return re.findall(r"[a-z]+|,", plain) if re.fullmatch(r"[a-z, ]+", plain) else []


def parse_sentence(words: Sequence[str]) -> ParsedSentence | None:
    """Return what a sentence claims, or None when the words are no sentence of the grammar."""
    try:
        return _SentenceParser(words).sentence()
    except _NotASentenceError:
        return None


def truth(scene: Mapping[str, Any], text: str) -> bool | None:
    """Return whether a sentence is true of a scene; None when it is not a sentence of the grammar.

    Args:
        scene: A scene graph as `scene_world` describes it (a record's ``attributes["scene"]``).
        text: Any text; case and a final full stop do not matter. See the module's docstring for the meaning.
    """
    reading = parse_sentence(split_words(text))
    if reading is None:
        return None
    return holds_in_scene(scene, reading)


def holds_in_scene(scene: Mapping[str, Any], reading: ParsedSentence) -> bool:
    """Return whether what was read is true of a scene (see `truth`)."""
    # Counted first: a text of a thousand phrases is answered without trying to place them.
    enough = sum(phrase.count for phrase in reading.phrases) <= len(scene["objects"])
    if not enough or not all(_fits(scene["background"], place) for place in reading.places):
        return False
    held = {(i, relation, j) for i, relation, j in scene["relations"]}
    held |= {(j, CONVERSE[relation], i) for i, relation, j in held}
    return any(
        all((i, relation, j) in held for a, relation, b, _, _ in reading.claims for i in chosen[a] for j in chosen[b])
        for chosen in _choices(scene["objects"], reading.phrases)
    )


def _choices(objects: Sequence[Mapping[str, Any]], phrases: Sequence[Phrase]) -> Iterator[list[tuple[int, ...]]]:
    """Yield every way to give each phrase its objects, all different."""
    if not phrases:
        yield []
        return
    for rest in _choices(objects, phrases[:-1]):
        taken = set(itertools.chain.from_iterable(rest))
        fitting = [i for i, item in enumerate(objects) if i not in taken and _fits(item, phrases[-1])]
        yield from ([*rest, group] for group in itertools.combinations(fitting, phrases[-1].count))


def _fits(thing: Mapping[str, Any], phrase: Phrase) -> bool:
    return all(thing.get(feature) == value for feature, value, _ in phrase.features)
