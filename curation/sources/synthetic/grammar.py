"""A small grammar of English sentences about scenes, and the oracle that decides whether a sentence is true.

The grammar, from the top (`?` optional, `*` repeated)::

    sentence   = place? opener? phrase more*  |  place? relation phrase ("is" | "there is") phrase more*
               | "there is no" thing
    more       = verb? relation phrase  |  "is" adjectives  |  ("," | "and") phrase
               | "and" verb? relation phrase  |  "is"? place  |  ("but no" | "without a") thing
    phrase     = ("a" | "the" | "two" ...) thing
    thing      = adjective* shape ("with" pattern)?
    place      = "on a grey background" | "in front of a green meadow" ...

It is wider than the captions of `captions.py`: a caption in which two words or phrases of one kind were exchanged is
still a sentence, so that the oracle can distinguish a false negative caption from one that happens to be true.

The meaning of a sentence (`truth`):

* Sentences are existential, whatever the article: "the star is red" is true when some star is red.
* Different phrases mean different objects: "a star and a red star" requires two stars, one of them red.
  A number means at least that many: "two red circles" is true of three.
* An object has one colour, one size and one texture: "a red blue star" is a sentence that is never true.
* A relation holds when the scene lists it, or its converse, for the pair; with numbers, for every pair.
* "no", "without": the scene has no such object at all.
* A sentence is true when one assignment of objects makes all its parts true, and its claims about the background are.
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
"""Feature -> value -> its words. None begins with a vowel, so exchanging words never makes an article wrong."""
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
"""Relation -> phrases with their own verb: active for "around", passive for "inside"."""
OPENERS = ("there is", "there are", "we see", "a picture of", "a drawing of", "the picture shows")
NUMBERS: Mapping[str, int] = {"a": 1, "an": 1, "the": 1, "one": 1, "two": 2, "three": 3, "four": 4}


def plural(noun: str) -> str:
    """Return the plural of a shape's noun."""
    return noun + ("es" if noun.endswith("s") else "s")


def _lookup(table: Mapping[str, Sequence[str]]) -> dict[Words, str]:
    return {tuple(phrase.split()): meaning for meaning, phrases in table.items() for phrase in phrases}


_ADJECTIVE = {
    words: (feature, value) for feature, table in ADJECTIVES.items() for words, value in _lookup(table).items()
}
_PATTERN, _GROUND, _NOUN = _lookup(PATTERNS), _lookup(GROUND_NOUNS), _lookup(NOUNS)
_PLURAL: dict[Words, str] = {(plural(noun),): shape for (noun,), shape in _NOUN.items()}
_RELATION = _lookup(PREPOSITIONS)
_VERB_FORM = _lookup(VERB_FORMS)
_OPENER: dict[Words, str] = {tuple(phrase.split()): phrase for phrase in OPENERS}
_NUMBER: dict[Words, int] = {(word,): count for word, count in NUMBERS.items()}
_VERB: dict[Words, str] = {(word,): word for word in ("is", "are", "sits", "lies")}
_JOINT: dict[Words, str] = {tuple(phrase.split()): phrase for phrase in ("and", ",", ", and")}
_PLACE: dict[Words, str] = {tuple(phrase.split()): phrase for phrase in ("on", "against", "in front of")}
_COMMA: dict[Words, str] = {(",",): ","}
_NO: dict[Words, str] = {tuple(phrase.split()): phrase for phrase in ("but no", "without a")}
_THERE_IS_NO: dict[Words, str] = {("there", "is", "no"): "there is no"}


@dataclass(slots=True)
class Phrase:
    """A noun phrase: words[start:end], the number of objects, and (feature, value, position) of each of its words."""

    start: int
    end: int
    count: int
    features: list[tuple[str, str, int]]


@dataclass(slots=True)
class ParsedSentence:
    """The claims of a sentence.

    Attributes:
        phrases: Noun phrases of objects, in order.
        claims: (subject, relation, object, start, end): indices of phrases, and the span of the relation's words.
        places: Phrases about the background.
        absent: What the scene must not have.
    """

    phrases: list[Phrase] = field(default_factory=list)
    claims: list[tuple[int, str, int, int, int]] = field(default_factory=list)
    places: list[Phrase] = field(default_factory=list)
    absent: list[Phrase] = field(default_factory=list)


class _NotASentenceError(Exception):
    """The words are not a sentence of the grammar."""


class _SentenceParser:
    """A recursive-descent parser of one sentence; tables are matched by their longest phrase."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words, self.position, self.parsed = tuple(words), 0, ParsedSentence()

    def take(self, table: Mapping[Words, T]) -> T | None:
        for length in (4, 3, 2, 1):
            meaning = table.get(self.words[self.position : self.position + length])
            if meaning is not None:
                self.position += min(length, len(self.words) - self.position)
                return meaning
        return None

    def adjectives(self) -> list[tuple[str, str, int]]:
        found = []
        while (adjective := self.take(_ADJECTIVE)) is not None:
            found.append((*adjective, self.position - 1))
        return found

    def phrase(self) -> int:
        """Parse a noun phrase and return its index."""
        start = self.position
        count = self.take(_NUMBER)
        if count is None:
            raise _NotASentenceError
        self.parsed.phrases.append(self.thing(start, count))
        return len(self.parsed.phrases) - 1

    def thing(self, start: int, count: int) -> Phrase:
        """Parse what follows the number of a noun phrase that begins at `start`."""
        features = self.adjectives()
        shape = self.take(_NOUN if count == 1 else _PLURAL)
        if shape is None:
            raise _NotASentenceError
        features.append(("shape", shape, self.position - 1))
        if self.words[self.position : self.position + 1] == ("with",):
            self.position += 1
            texture = self.take(_PATTERN)
            if texture is None:
                raise _NotASentenceError
            features.append(("texture", texture, self.position - 1))
        return Phrase(start, self.position, count, features)

    def place(self) -> bool:
        """Parse a phrase about the background, if there is one."""
        before = self.position
        if self.take(_PLACE) is not None:
            start = self.position
            if self.take(_NUMBER) == 1:
                features = self.adjectives()
                scenery = self.take(_GROUND)
                if scenery is not None:
                    features.append(("scenery", scenery, self.position - 1))
                    self.parsed.places.append(Phrase(start, self.position, 1, features))
                    return True
        self.position = before
        return False

    def relation(self, verb: str | None) -> tuple[str, int, int] | None:
        start = self.position
        meaning = self.take(_RELATION) or (self.take(_VERB_FORM) if verb is None else None)
        return None if meaning is None else (meaning, start, self.position)

    def without(self, table: Mapping[Words, str]) -> bool:
        """Parse a denial that begins with a phrase of the table, if there is one."""
        if self.take(table) is None:
            return False
        self.parsed.absent.append(self.thing(self.position, 1))
        return True

    def sentence(self) -> ParsedSentence:
        if self.without(_THERE_IS_NO):
            if self.position < len(self.words):
                raise _NotASentenceError
            return self.parsed
        if self.place():
            self.take(_COMMA)
        subject = self.front() if self.take(_OPENER) is None else self.phrase()
        while self.position < len(self.words):
            subject = self.more(subject)
        return self.parsed

    def front(self) -> int:
        """Parse a subject, or an inverted clause ("above a star is a circle"); return the subject's index."""
        start = self.position
        relation = self.take(_RELATION)
        if relation is None:
            return self.phrase()
        end, landmark = self.position, self.phrase()
        self.take(_COMMA)
        if self.take(_VERB) is None and self.take(_OPENER) not in ("there is", "we see"):
            raise _NotASentenceError
        subject = self.phrase()
        self.parsed.claims.append((subject, relation, landmark, start, end))
        return subject

    def more(self, subject: int) -> int:
        """Parse what follows a subject; return the subject of what follows next."""
        if self.without(_NO):
            return subject
        joined = self.take(_JOINT)
        # "is surrounded by" contains its own verb, so it is tried before "is" alone.
        verb = self.take(_VERB) if self.words[self.position : self.position + 3] not in _VERB_FORM else None
        relation = self.relation(verb)
        if relation is not None:
            meaning, start, end = relation
            self.parsed.claims.append((subject, meaning, self.phrase(), start, end))
            return subject
        if joined is None and self.place():
            return subject
        if verb in ("is", "are") and joined is None and (adjectives := self.adjectives()):
            while (
                self.words[self.position : self.position + 1] == ("and",)
                and self.words[self.position + 1 : self.position + 2] in _ADJECTIVE
            ):
                self.position += 1
                adjectives += self.adjectives()
            self.parsed.phrases[subject].features.extend(adjectives)
            return subject
        if joined is None or verb is not None:
            raise _NotASentenceError
        return self.phrase()


def split_words(text: str) -> list[str]:
    """Return the lower-cased words and commas of a text, without its full stop; empty if it contains anything else."""
    plain = text.strip().lower().removesuffix(".")
    return re.findall(r"[a-z]+|,", plain) if re.fullmatch(r"[a-z, ]+", plain) else []


def parse_sentence(words: Sequence[str]) -> ParsedSentence | None:
    """Return the claims of a sentence, or None when the words are not a sentence of the grammar."""
    try:
        return _SentenceParser(words).sentence()
    except _NotASentenceError:
        return None


def truth(scene: Mapping[str, Any], text: str) -> bool | None:
    """Return whether a sentence is true of a scene; None when it is not a sentence of the grammar.

    Args:
        scene: A scene graph as in `world` (a record's ``attributes["scene"]``).
        text: Any text; case and a final full stop do not matter. See the module's docstring for the meaning.
    """
    sentence = parse_sentence(split_words(text))
    return None if sentence is None else holds_in_scene(scene, sentence)


def holds_in_scene(scene: Mapping[str, Any], sentence: ParsedSentence) -> bool:
    """Return whether a parsed sentence is true of a scene (see `truth`)."""
    # Checked first: a text of a thousand phrases needs no search.
    enough = sum(phrase.count for phrase in sentence.phrases) <= len(scene["objects"])
    if not enough or not all(_fits(scene["background"], place) for place in sentence.places):
        return False
    if any(_fits(item, phrase) for phrase in sentence.absent for item in scene["objects"]):
        return False
    facts = {(i, relation, j) for i, relation, j in scene["relations"]}
    facts |= {(j, CONVERSE[relation], i) for i, relation, j in facts}
    return any(
        all((i, relation, j) in facts for a, relation, b, _, _ in sentence.claims for i in chosen[a] for j in chosen[b])
        for chosen in _assignments(scene["objects"], sentence.phrases)
    )


def _assignments(objects: Sequence[Mapping[str, Any]], phrases: Sequence[Phrase]) -> Iterator[list[tuple[int, ...]]]:
    """Yield every assignment of different objects to the phrases."""
    if not phrases:
        yield []
        return
    for rest in _assignments(objects, phrases[:-1]):
        taken = set(itertools.chain.from_iterable(rest))
        fitting = [i for i, item in enumerate(objects) if i not in taken and _fits(item, phrases[-1])]
        yield from ([*rest, group] for group in itertools.combinations(fitting, phrases[-1].count))


def _fits(item: Mapping[str, Any], phrase: Phrase) -> bool:
    return all(item.get(feature) == value for feature, value, _ in phrase.features)
