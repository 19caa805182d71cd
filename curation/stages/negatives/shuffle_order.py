"""Shuffle the words of a caption, for evaluation: a bag-of-words model cannot notice it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.models.parser import CaptionParse
from curation.negatives.slots import Draw
from curation.text.edits import normalise
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed

_NAMING = ("NN", "NNS", "NNP", "NNPS", "JJ", "JJR", "JJS")
_TRIES = 8


@dataclass(frozen=True)
class ShuffleOrder(MapStage):
    """Make up to one negative per caption and kind of shuffle. For evaluation: no recipe trains on it.

    Provides ``shuffle_negatives``, a list of negative records whose ``span_class`` is the kind: ``naming`` (nouns among
    themselves and adjectives among themselves), ``rest`` (all other words), ``within_trigrams`` and ``trigrams`` (their
    order). Spaces and marks stay where they are and words keep their case; each edit is one token in another's place.

    A text is never one of the image's captions, nor the same twice: if eight draws give no other text, there is none.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid, caption and kind, on nothing else.
        kinds: Which shuffles, of the four.

    Raises:
        InputError: an unknown kind.

    Source: Yuksekgonul et al. 2023 (ARO's order task), section 3, arXiv 2210.01936.
    Differs: seeded and stored, where the original shuffles in every run and may return the caption itself;
        the parse's tokens, uncut, where the original takes the first 30 words without marks.
    """

    name: ClassVar[str] = "shuffle_order"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (Field("shuffle_negatives", publish="sample", role="negatives"),)
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 3, arXiv 2210.01936"
    knows_only_english: ClassVar[bool] = True

    seed: int = 0
    kinds: tuple[str, ...] = ("naming", "rest", "within_trigrams", "trigrams")

    def __post_init__(self) -> None:
        self.check_names("kinds", _ORDERS)

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Shuffle every caption of every sample."""
        return [{"shuffle_negatives": self._shuffle(sample)} for sample in samples]

    def _shuffle(self, sample: Sample) -> list[dict[str, Any]]:
        captions = {normalise(caption) for caption in sample.captions}
        records = []
        for index, (caption, parse) in enumerate(zip(sample.captions, sample["parses"], strict=True)):
            taken, tags, words = set(captions), parse["tags"], _word_tokens(parse["words"])
            for kind in self.kinds:
                draw = Draw(draw_seed(self.seed, self.name, sample.uid, index, kind))
                for _ in range(_TRIES):
                    text, edits, tokens = _apply_order(caption, parse, _ORDERS[kind](tags, words, draw))
                    key = normalise(text)
                    if edits and key not in taken:
                        taken.add(key)
                        record = {
                            "text": text, "caption": index, "operation": "shuffle", "span_class": kind, "type": "order",
                            "edits": edits, "tokens": tokens, "rule": f"shuffle {kind.replace('_', ' ')}",
                            "source": self.name,
                        }  # fmt: skip
                        records.append(record)
                        break
        return records


def _apply_order(
    caption: str, parse: CaptionParse, order: Sequence[int]
) -> tuple[str, list[list[int]], list[list[int]]]:
    """Return the text in another order, and its edits in characters and in tokens: one for each place that changes."""
    words, starts = parse["words"], parse["starts"]
    text, done = "", 0
    edits: list[list[int]] = []
    tokens: list[list[int]] = []
    for token, source in enumerate(order):
        old, new = words[token], words[source]
        if old != new:
            start, end = starts[token], starts[token] + len(old)
            text += caption[done:start]
            edits.append([start, end, len(text), len(text) + len(new)])
            tokens.append([token, token + 1, token, token + 1])
            text += new
            done = end
    return text + caption[done:], edits, tokens


def _shuffled_within(num_tokens: int, groups: Iterable[Sequence[int]], draw: Draw) -> list[int]:
    """Return an order that shuffles each group of tokens and leaves all others in place."""
    order = list(range(num_tokens))
    for group in groups:
        for token, source in zip(group, draw.shuffled(group), strict=True):
            order[token] = source
    return order


def _word_tokens(words: Sequence[str]) -> list[int]:
    """Return the tokens that are words, not marks or spaces."""
    return [token for token, word in enumerate(words) if word.isalnum() or any(map(str.isalnum, word))]


def _naming(tags: Sequence[str], words: Sequence[int], draw: Draw) -> list[int]:
    groups = ([token for token in words if tags[token][:2] == first] for first in ("NN", "JJ"))
    return _shuffled_within(len(tags), groups, draw)


def _rest(tags: Sequence[str], words: Sequence[int], draw: Draw) -> list[int]:
    return _shuffled_within(len(tags), [[token for token in words if tags[token] not in _NAMING]], draw)


def _within_trigrams(tags: Sequence[str], words: Sequence[int], draw: Draw) -> list[int]:
    return _shuffled_within(len(tags), (words[first : first + 3] for first in range(0, len(words), 3)), draw)


def _trigrams(tags: Sequence[str], words: Sequence[int], draw: Draw) -> list[int]:
    order = list(range(len(tags)))
    groups = draw.shuffled([words[first : first + 3] for first in range(0, len(words), 3)])
    for token, source in zip(words, [token for group in groups for token in group], strict=True):
        order[token] = source
    return order


_ORDERS: Mapping[str, Callable[[Sequence[str], Sequence[int], Draw], list[int]]] = {
    "naming": _naming,
    "rest": _rest,
    "within_trigrams": _within_trigrams,
    "trigrams": _trigrams,
}
