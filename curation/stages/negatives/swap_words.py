"""Swap two phrases of the same kind inside a caption: the hard negatives of NegCLIP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.models.parser import CaptionParse
from curation.text.edits import Span, apply_edits, is_whole_words, normalise, span_of, swap_spans
from data_manifests.sample import Sample
from data_manifests.seeds import generator

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
_SINGLE_WORDS = ("noun", "adjective")
_DESCRIBING = ("amod", "compound", "nmod")


@dataclass(frozen=True)
class SwapWords(MapStage):
    """Make up to one negative per caption and span class by exchanging two spans of that class.

    Provides ``swap_negatives``, a list of negative records of all captions and classes (the trainer draws from it; empty
    when nothing can be swapped), and ``swap_valid``, for each caption a mapping span class -> whether
    it has a negative of that class.

    A negative differs from its caption in its ``edits`` only, each [start, end, new_start, new_end] in characters
    of caption and negative, in reading order: one per swapped span, and one per repaired article.

    Known weakness: a swap may not change the meaning. "A man and a woman" means the same when swapped, and so does "big
    red" for "red big"; some swaps read oddly ("a grass on the dog"). Later stages judge negatives, so all are kept here.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid, caption and span class, on nothing else.

    Source: Yuksekgonul et al. 2023 (NegCLIP), section 4, arXiv 2210.01936; span classes as in the open
        implementation of FSC-CLIP (Oh et al. 2024, arXiv 2410.05210): noun chunks of more than two tokens, verb
        phrases VERB? ADV* AUX* VERB+, tags NN and NNS, parts of speech ADV and ADJ.
    Differs:
        - draws a pair among those whose words differ, where the original draws two spans and gives up if they are
          equal: the same distribution given that there is a swap, and fewer captions without one;
        - keeps one negative of every class, where the original keeps one of all at random;
        - keeps case in place: a word leaving the beginning of a sentence loses its capital (names and words
          with inner capitals keep theirs), and the word that takes its place gets one;
        - corrects "a" and "an" right before a swapped span; number and verb agreement are left as they fall;
        - leaves out pairs that say the same in another order: a noun and a noun that describes it ("chest radiograph"),
          two adjectives of one noun;
        - leaves out spans joined to letters or a hyphen ("shirt" in "T-shirt");
        - rejects a text that is, except for case and spaces, one of the image's captions or an earlier negative of the
          caption, and tries the next pair.
    """

    name: ClassVar[str] = "swap_words"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("swap_negatives", publish="sample", role="negatives"),
        Field("swap_valid"),
    )
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 4, arXiv 2210.01936"
    knows_only_english: ClassVar[bool] = True

    seed: int = 0

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Swap words in every caption of every sample."""
        return [self._swap_sample(sample) for sample in samples]

    def _swap_sample(self, sample: Sample) -> dict[str, Any]:
        negatives: list[dict[str, Any]] = []
        valid: list[dict[str, bool]] = []
        captions = {normalise(caption) for caption in sample.captions}
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
                text, edits = apply_edits(caption, swap_spans(caption, parse, one, other))
                key = normalise(text)
                if key in taken:
                    continue
                taken.add(key)
                words = [caption[span.start : span.end] for span in (one, other)]
                yield {
                    "text": text, "caption": index, "operation": "swap", "span_class": span_class,
                    "type": negative_type, "edits": edits,
                    "rule": f"swap {span_class.replace('_', ' ')} '{words[0]}' <-> '{words[1]}'",
                }  # fmt: skip
                break

    def _drawn_pairs(
        self, uid: str, index: int, caption: str, parse: CaptionParse, span_class: str
    ) -> list[tuple[Span, Span]]:
        """Return all pairs of spans whose words differ, in an order drawn for this caption and class."""
        spans = _spans(caption, parse, span_class)
        plain_texts = [normalise(caption[span.start : span.end]) for span in spans]
        pairs = [
            (spans[i], spans[j]) for i, j in combinations(range(len(spans)), 2) if plain_texts[i] != plain_texts[j]
        ]
        if span_class in _SINGLE_WORDS:
            pairs = [(one, other) for one, other in pairs if not _name_one_thing(parse, one, other)]
        if len(pairs) < 2:
            return pairs
        order = generator(self.seed, self.name, uid, index, span_class).permutation(len(pairs))
        return [pairs[k] for k in order]


def _name_one_thing(parse: CaptionParse, one: Span, other: Span) -> bool:
    """Return whether two words name or describe one thing, so that they say the same in another order."""
    tokens = [parse["starts"].index(span.start) for span in (one, other)]
    heads = [_described(parse, token) for token in tokens]
    return heads[0] == heads[1]


def _described(parse: CaptionParse, token: int) -> int:
    """Return the noun that a word describes from before, in the end; itself if it describes none."""
    heads, deps = parse["heads"], parse["deps"]
    for _ in heads:
        if deps[token] not in _DESCRIBING or heads[token] <= token:
            break
        token = heads[token]
    return token


def _spans(caption: str, parse: CaptionParse, span_class: str) -> list[Span]:
    """Return the spans of a class in reading order; they do not overlap. None when there are not two."""
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
    if len(found) < 2:  # nothing to swap with: of most classes, in most captions
        return []
    spans = [span_of(parse, first, stop) for first, stop in found]
    return [span for span in spans if is_whole_words(caption, span)]
