"""Parse captions: tokens, tags, dependencies, noun and verb phrases, and (subject, relation, object) triplets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.models.parser import CaptionParse, Parse, Parser, SpacyParser, Triplet
from curation.text.dependencies import Dependencies
from data_manifests.sample import Sample

_VERB_PHRASE = re.compile("V?R*A*V+")
_LETTER_OF_POS = {"VERB": "V", "ADV": "R", "AUX": "A"}

_SUBJECTS = ("nsubj", "nsubjpass")
_OBJECTS = ("dobj", "attr", "dative")
_VERB_PARTS = ("aux", "auxpass", "neg", "prt")
_PLACES = ("front", "top", "back", "side", "middle", "center")
"""Nouns that are part of a preposition when ``of`` follows: ``in front of a car``."""


@dataclass(frozen=True)
class ParseCaptions(MapStage):
    """Parse every caption once, for all stages that read words.

    Provides ``parses``: one `CaptionParse` per caption, in the captions' order. A caption longer than
    `max_chars` is parsed up to the last space before that limit: a text tower reads 77 tokens of it anyway.

    Attributes:
        parser: What tags and parses.
        max_chars: Characters of a caption that are parsed, at least 1.

    Raises:
        InputError: `max_chars` is not positive; the parser's model is not installed.

    Source: noun and verb phrases as the swaps of NegCLIP take them: Yuksekgonul et al. 2023, section 4,
        arXiv 2210.01936, in the open implementation of FSC-CLIP (Oh et al. 2024, arXiv 2410.05210).
    Differs: triplets are this project's own rules over the dependency tree; the relation is kept as written,
        because the lemmatiser makes ``rid`` of ``riding``.
    """

    name: ClassVar[str] = "parse_captions"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("captions",)
    provides: ClassVar[tuple[Field, ...]] = (Field("parses"),)
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 4, arXiv 2210.01936"
    starts_slowly: ClassVar[bool] = True

    parser: Parser = field(default_factory=SpacyParser)
    max_chars: int = 2000

    def __post_init__(self) -> None:
        self.check_least(max_chars=1)

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Parse all captions of all samples in one call, equal ones once."""
        texts = [[_cut(caption, self.max_chars) for caption in sample.captions] for sample in samples]
        unique = list(dict.fromkeys(text for of_sample in texts for text in of_sample))
        parsed = {text: _with_phrases(parse) for text, parse in zip(unique, self.parser.parse(unique), strict=True)}
        return [{"parses": [parsed[text] for text in of_sample]} for of_sample in texts]


def _cut(caption: str, max_chars: int) -> str:
    """Return the caption's beginning, so that character offsets stay those of the caption."""
    if len(caption) <= max_chars:
        return caption
    space = caption.rfind(" ", 0, max_chars + 1)
    return caption[: space if space > 0 else max_chars]


def _with_phrases(parse: Parse) -> CaptionParse:
    return {**parse, "verb_phrases": verb_phrases(parse["pos"]), "triplets": triplets(parse)}


def verb_phrases(pos: Sequence[str]) -> list[list[int]]:
    """Return the spans matching VERB? ADV* AUX* VERB+, without overlaps: longest first, then leftmost.

    Args:
        pos: Universal part of speech of each token.
    """
    letters = "".join(_LETTER_OF_POS.get(tag, "_") for tag in pos)
    matches: list[tuple[int, int]] = []
    for start in range(len(letters)):
        # The greedy match is the longest from here; every shorter one competes too, as in spaCy's Matcher.
        longest = _VERB_PHRASE.match(letters, start)
        if longest:
            ends = range(start + 1, longest.end() + 1)
            matches += [(start, end) for end in ends if _VERB_PHRASE.fullmatch(letters, start, end)]
    taken = [False] * len(letters)
    kept = []
    for start, end in sorted(matches, key=lambda span: (span[0] - span[1], span[0])):
        if not any(taken[start:end]):
            taken[start:end] = [True] * (end - start)
            kept.append([start, end])
    return sorted(kept)


def triplets(parse: Parse) -> list[Triplet]:
    """Return the triplets, sorted by object, then subject; both ends are nouns or pronouns.

    A verb gives (subject, verb, object); a preposition gives (its head, preposition, its object), with the verb in front
    when the head is a verb with a subject. A passive with an agent is reversed and keeps its participle only; each of
    several joined subjects, objects and verbs gets its own triplet.
    """
    tree = _Tree(parse)
    found: dict[tuple[int, int, tuple[int, ...]], Triplet] = {}
    for token, dep in enumerate(parse["deps"]):
        if dep in _OBJECTS:
            ends = tree.by_verb(parse["heads"][token], token)
        elif dep == "pobj" and not tree.is_place(token):
            ends = tree.by_preposition(parse["heads"][token], token)
        else:
            continue
        for subject, parts, target in ends:
            tokens = sorted(set(parts))
            if tokens and subject != target and subject not in tokens and target not in tokens:
                relation = " ".join(parse["words"][part].lower() for part in tokens)
                triplet = Triplet(subject=subject, relation=relation, object=target, tokens=tokens)
                found[(target, subject, tuple(tokens))] = triplet
    return [found[key] for key in sorted(found)]


class _Tree(Dependencies):
    """Finds triplets in a dependency tree; every walk up is bounded by the number of tokens."""

    def by_verb(self, verb: int, target: int) -> Iterator[tuple[int, list[int], int]]:
        """Yield (subject, relation tokens, object) for an object of a verb."""
        parts = self._verb_parts(verb)
        for subject in self._subjects(verb):
            for one in self._joined(target):
                yield subject, parts, one

    def by_preposition(self, preposition: int, target: int) -> Iterator[tuple[int, list[int], int]]:
        """Yield (subject, relation tokens, object) for an object of a preposition."""
        parts, holder = self._climb(preposition)
        targets = self._joined(target)
        if self.deps[preposition] == "agent":
            # "is thrown" reversed must not give "man is thrown ball": only the participle is kept.
            parts = [
                part for part in self._verb_parts(holder) if self.deps[part] != "auxpass" and self.pos[part] != "AUX"
            ]
            patients = self._subjects(holder)
            yield from ((agent, parts, patient) for agent in targets for patient in patients)
        elif self.pos[holder] in ("VERB", "AUX"):
            parts = self._verb_parts(holder) + parts
            yield from ((subject, parts, one) for subject in self._subjects(holder) for one in targets)
        elif self.pos[holder] in ("NOUN", "PROPN", "PRON"):
            # A noun joined after the preposition is not part of it: "a man in red and a dog".
            subjects = [subject for subject in self._joined(holder) if subject < preposition]
            yield from ((subject, parts, one) for subject in subjects for one in targets)

    def is_place(self, token: int) -> bool:
        """Return whether a noun only names a side of something, as ``front`` in ``in front of a car``."""
        return self.words[token] in _PLACES and any(self.words[child] == "of" for child in self.children[token])

    def _climb(self, preposition: int) -> tuple[list[int], int]:
        """Return the words of a preposition (``out of``, ``next to``, ``in front of``) and its head."""
        parts, top = [preposition], preposition
        for _ in range(len(self.heads)):
            above = self.heads[top]
            if above == top:
                break
            if self.deps[above] in ("prep", "advmod", "amod") and self.pos[above] in ("ADP", "ADV", "ADJ", "SCONJ"):
                parts.append(above)
            elif self.deps[above] == "pobj" and self.is_place(above):
                # "on the left side of" keeps its inner words: the relation is the whole run.
                parts += range(self.heads[above], preposition)
                above = self.heads[above]
            else:
                return parts, above
            top = above
        return parts, self.heads[top]

    def _subjects(self, verb: int) -> list[int]:
        """Return the subjects of a verb: its own, or those of the verb or noun it depends on."""
        for _ in range(len(self.heads)):
            own = self._with_label(verb, _SUBJECTS)
            label, head = self.deps[verb], self.heads[verb]
            if own:
                relative = label == "relcl" and any(self.words[one] in ("who", "that", "which") for one in own)
                return self._joined(head) if relative else own
            if label in ("acl", "relcl"):
                return [head]
            if label not in ("conj", "advcl", "xcomp", "pcomp", "prep", "ccomp") or head == verb:
                return []
            if label == "conj" and self.pos[head] in ("NOUN", "PROPN"):
                return [head]
            verb = head
        return []

    def _with_label(self, verb: int, labels: tuple[str, ...]) -> list[int]:
        """Return a verb's dependents with one of the labels, each with the nouns joined to it."""
        return [one for child in self.children[verb] if self.deps[child] in labels for one in self._joined(child)]

    def _joined(self, token: int) -> list[int]:
        """Return a noun and the nouns joined to it by ``and``."""
        joined, waiting = [], [token]
        while waiting:
            one = waiting.pop(0)
            joined.append(one)
            waiting += [
                child for child in self.children[one] if self.deps[child] == "conj" and self.pos[child] != "VERB"
            ]
        return joined

    def _verb_parts(self, verb: int) -> list[int]:
        """Return a verb with its auxiliaries, negation and particle, without an infinitive's ``to``."""
        parts = (child for child in self.children[verb] if self.deps[child] in _VERB_PARTS)
        return [verb, *(part for part in parts if self.words[part] != "to")]
