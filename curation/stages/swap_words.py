"""Swap two phrases of the same kind inside a caption: the hard negatives of NegCLIP."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, NamedTuple

import numpy as np

from curation.models.parser import CaptionParse
from curation.stage import Drop, Field, MapStage, draw_seed
from data_manifests.sample import Sample

TYPE_OF_CLASS: Mapping[str, str] = {
    "noun_chunk": "object",
    "verb_phrase": "action",
    "noun": "object",
    "plural_noun": "object",
    "adverb": "attribute",
    "adjective": "attribute",
}
"""Span class -> type of the negative, in the order in which the classes are tried."""

_MIN_CHUNK_TOKENS = 3
_SENTENCE_ENDS = (".", "!", "?")

_AN_BEFORE = ("hour", "honest", "honor", "honour", "heir", "x-ray")
_A_BEFORE = ("uni", "use", "usu", "util", "uk", "eu", "ewe", "one", "once", "ufo")
_AN_AFTER_ALL = ("unin", "unim", "unid")
_SPELLED_WITH_AN = ("suv", "rv", "mp3", "nba", "nfl", "lcd", "mri")


class _Span(NamedTuple):
    """Tokens [first, last] and their characters [start, end)."""

    first: int
    last: int
    start: int
    end: int


class _Piece(NamedTuple):
    """Characters [start, end) of the caption and what stands there in the negative."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class SwapWords(MapStage):
    """Make up to one negative per caption and span class by exchanging two spans of that class.

    Provides ``swap_negatives``, a list of negative records of all captions and classes (the trainer draws from
    it; empty when nothing can be swapped), and ``swap_valid``, for each caption a mapping span class -> whether
    it has a negative of that class.

    A negative differs from its caption in its ``edits`` only, each [start, end, new_start, new_end] in characters
    of caption and negative, in reading order: one per swapped span, and one per repaired article.

    Known weakness: a swap need not change the truth. "A man and a woman" says the same the other way round, and so
    does "big red" for "red big"; some swaps read oddly ("a grass on the dog"). Judging negatives is the work of
    later stages, which is why all of them are kept here.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid, caption and span class, on nothing else.

    Source: Yuksekgonul et al. 2023 (NegCLIP), section 4, arXiv 2210.01936; span classes as in the open
        implementation of FSC-CLIP (Oh et al. 2024, arXiv 2410.05210): noun chunks of more than two tokens, verb
        phrases VERB? ADV* AUX* VERB+, tags NN and NNS, parts of speech ADV and ADJ.
    Differs:
        - draws a pair among those whose words differ, where the original draws two spans and gives up if they are
          equal: the same law given that there is a swap, and fewer captions without one;
        - keeps one negative of every class, where the original keeps one of all at random;
        - keeps case in place: a word leaving the beginning of a sentence loses its capital (names and words
          with inner capitals keep theirs), and the word that takes its place gets one;
        - corrects "a" and "an" right before a swapped span; number and verb agreement are left as they fall;
        - leaves out spans glued to letters or a hyphen ("shirt" in "T-shirt");
        - refuses a text that is, but for case and spaces, one of the image's captions or a negative that the caption
          has already, and tries the next pair.
    """

    name: ClassVar[str] = "swap_words"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("swap_negatives", kind="json", publish="sample", role="negatives"),
        Field("swap_valid", kind="json", publish="store"),
    )
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 4, arXiv 2210.01936"

    seed: int = 0

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Swap words in every caption of every sample."""
        return [self._one(sample) for sample in samples]

    def _one(self, sample: Sample) -> dict[str, Any]:
        negatives: list[dict[str, Any]] = []
        valid: list[dict[str, bool]] = []
        captions = {_plain(caption) for caption in sample.captions}
        for index, (caption, parse) in enumerate(zip(sample.captions, sample["parses"], strict=True)):
            of_caption = {
                record["span_class"]: record for record in self._swap_all(sample.uid, index, caption, parse, captions)
            }
            negatives += of_caption.values()
            valid.append({span_class: span_class in of_caption for span_class in TYPE_OF_CLASS})
        return {"swap_negatives": negatives, "swap_valid": valid}

    def _swap_all(
        self, uid: str, index: int, caption: str, parse: CaptionParse, captions: set[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield at most one negative record per span class."""
        taken = set(captions)
        for span_class, negative_type in TYPE_OF_CLASS.items():
            for one, other in self._drawn_pairs(uid, index, caption, parse, span_class):
                text, edits = swap(caption, parse, one, other)
                if _plain(text) in taken:
                    continue
                taken.add(_plain(text))
                words = [caption[span.start : span.end] for span in (one, other)]
                yield {
                    "text": text,
                    "caption": index,
                    "operation": "swap",
                    "span_class": span_class,
                    "type": negative_type,
                    "edits": edits,
                    "rule": f"swap {span_class.replace('_', ' ')} '{words[0]}' <-> '{words[1]}'",
                }
                break

    def _drawn_pairs(
        self, uid: str, index: int, caption: str, parse: CaptionParse, span_class: str
    ) -> list[tuple[_Span, _Span]]:
        """Return all pairs of spans whose words differ, in an order drawn for this caption and class."""
        spans = _spans(caption, parse, span_class)
        plain = [_plain(caption[span.start : span.end]) for span in spans]
        pairs = [(spans[i], spans[j]) for i, j in combinations(range(len(spans)), 2) if plain[i] != plain[j]]
        if len(pairs) < 2:
            return pairs
        generator = np.random.Generator(np.random.PCG64(draw_seed(self.seed, self.name, uid, index, span_class)))
        return [pairs[k] for k in generator.permutation(len(pairs))]


def _spans(caption: str, parse: CaptionParse, span_class: str) -> list[_Span]:
    """Return the spans of a class in reading order; they do not overlap."""
    match span_class:
        case "noun_chunk":
            found = [(first, stop) for first, stop in parse["noun_phrases"] if stop - first >= _MIN_CHUNK_TOKENS]
        case "verb_phrase":
            found = [(first, stop) for first, stop in parse["verb_phrases"]]
        case "noun" | "plural_noun":
            tag = "NN" if span_class == "noun" else "NNS"
            found = [(token, token + 1) for token, have in enumerate(parse["tags"]) if have == tag]
        case _:
            pos = "ADV" if span_class == "adverb" else "ADJ"
            found = [(token, token + 1) for token, have in enumerate(parse["pos"]) if have == pos]
    spans = [
        _Span(first, stop - 1, parse["starts"][first], parse["starts"][stop - 1] + len(parse["words"][stop - 1]))
        for first, stop in found
    ]
    return [span for span in spans if _stands_alone(caption, span)]


def _stands_alone(caption: str, span: _Span) -> bool:
    """Say whether a span is made of whole words: letters in it, and none, nor a hyphen, touching it."""
    before, after = caption[: span.start][-1:], caption[span.end : span.end + 1]
    touching = any(char.isalnum() or char in "-_" for char in before + after)
    return not touching and any(char.isalnum() for char in caption[span.start : span.end])


def swap(caption: str, parse: CaptionParse, one: _Span, other: _Span) -> tuple[str, list[list[int]]]:
    """Exchange two spans that do not overlap, `one` first; repair case and articles.

    Returns:
        The negative, and its edits [start, end, new_start, new_end] in reading order.
    """
    initial = _sentence_starts(parse["words"])
    capital = [span.first in initial and caption[span.start].isupper() for span in (one, other)]
    pieces: list[_Piece] = []
    for place, leaves, joins in ((one, capital[1], capital[0]), (other, capital[0], capital[1])):
        source = other if place is one else one
        text = _in_case(caption[source.start : source.end], parse, source.first, leaves, joins)
        pieces += _article(caption, parse, place, text, outside=(one, other))
        pieces.append(_Piece(place.start, place.end, text))
    return _apply(caption, pieces)


def _in_case(text: str, parse: CaptionParse, first: int, leaves: bool, joins: bool) -> str:
    """Return a span's text with the case of its new place.

    Args:
        text: The span as written.
        parse: Its caption's parse.
        first: The span's first token.
        leaves: It leaves a capitalised beginning of a sentence.
        joins: It comes to one.
    """
    word = parse["words"][first]
    if leaves == joins or any(char.isupper() for char in word[1:]):
        return text
    if joins:
        return text[0].upper() + text[1:]
    return text if parse["tags"][first] in ("NNP", "NNPS") else text[0].lower() + text[1:]


def _sentence_starts(words: Sequence[str]) -> set[int]:
    """Return the first real word of the caption and of each sentence in it."""
    starts, waiting = set(), True
    for token, word in enumerate(words):
        if waiting and any(char.isalnum() for char in word):
            starts.add(token)
            waiting = False
        waiting = waiting or word in _SENTENCE_ENDS
    return starts


def _article(caption: str, parse: CaptionParse, place: _Span, text: str, outside: tuple[_Span, _Span]) -> list[_Piece]:
    """Return the corrected article before a place that `text` now fills, or nothing when it is right already."""
    token = place.first - 1
    if token < 0 or parse["tags"][token] != "DT" or any(span.first <= token <= span.last for span in outside):
        return []
    word, start = parse["words"][token], parse["starts"][token]
    needed = article_for(text)
    if (
        word.lower() not in ("a", "an")
        or word.lower() == needed
        or not caption[start + len(word) : place.start].isspace()
    ):
        return []
    needed = needed.upper() if len(word) > 1 and word.isupper() else needed
    return [_Piece(start, start + len(word), needed[0].upper() + needed[1:] if word[0].isupper() else needed)]


def article_for(text: str) -> str:
    """Return ``a`` or ``an`` for what follows, by its first letter and a short list of exceptions."""
    word = text.split(maxsplit=1)[0].lower()
    digits = re.match(r"\d+", word)
    if digits:
        return "an" if digits[0][0] == "8" or digits[0] in ("11", "18") else "a"
    if word.startswith((*_AN_BEFORE, *_AN_AFTER_ALL)) or word in _SPELLED_WITH_AN:
        return "an"
    return "an" if word[0] in "aeiou" and not word.startswith(_A_BEFORE) else "a"


def _apply(caption: str, pieces: Sequence[_Piece]) -> tuple[str, list[list[int]]]:
    """Put the pieces into the caption; return the text and the edits that made it."""
    text, done, edits = "", 0, []
    for start, end, new in sorted(pieces):
        text += caption[done:start]
        edits.append([start, end, len(text), len(text) + len(new)])
        text, done = text + new, end
    return text + caption[done:], edits


def _plain(text: str) -> str:
    """Return a text without the differences that do not count: case and runs of space."""
    return " ".join(text.casefold().split())
