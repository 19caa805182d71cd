"""Shuffle the words of a caption, for evaluation: what a bag of words cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from curation.engine.stage import Drop, Field, MapStage
from curation.models.parser import CaptionParse
from curation.negatives.slots import Draw
from curation.text.edits import normalise
from data_manifests.errors import InputError, nearest
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

    A text is never one of the image's captions, nor the same twice: where eight draws give none, there is none.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid, caption and kind, on nothing else.
        kinds: Which shuffles, of the four.

    Raises:
        InputError: an unknown kind.

    Source: Yuksekgonul et al. 2023 (ARO's order task), section 3, arXiv 2210.01936.
    Differs: seeded and stored, where the original shuffles anew in every run and may return the caption itself;
        the parse's tokens, uncut, where the original takes the first 30 words without marks.
    """

    name: ClassVar[str] = "shuffle_order"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    provides: ClassVar[tuple[Field, ...]] = (
        Field("shuffle_negatives", kind="json", publish="sample", role="negatives"),
    )
    source: ClassVar[str] = "Yuksekgonul et al. 2023, section 3, arXiv 2210.01936"

    seed: int = 0
    kinds: tuple[str, ...] = ("naming", "rest", "within_trigrams", "trigrams")

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in _ORDERS:
                raise InputError(
                    f"shuffle_order: kind {kind!r} is unknown",
                    allowed=", ".join(_ORDERS),
                    fix=nearest(kind, tuple(_ORDERS)) or "leave it out",
                )

    def process(self, samples: Sequence[Sample]) -> list[dict[str, Any] | Drop]:
        """Shuffle every caption of every sample."""
        return [{"shuffle_negatives": self._one(sample)} for sample in samples]

    def _one(self, sample: Sample) -> list[dict[str, Any]]:
        said = {normalise(caption) for caption in sample.captions}
        found = []
        for index, (caption, parse) in enumerate(zip(sample.captions, sample["parses"], strict=True)):
            taken, tags, spoken = set(said), parse["tags"], _spoken(parse["words"])
            for kind in self.kinds:
                draw = Draw(draw_seed(self.seed, self.name, sample.uid, index, kind))
                for _ in range(_TRIES):
                    text, edits, tokens = _moved_words(caption, parse, _ORDERS[kind](tags, spoken, draw))
                    key = normalise(text)
                    if edits and key not in taken:
                        taken.add(key)
                        found.append(
                            {
                                "text": text,
                                "caption": index,
                                "operation": "shuffle",
                                "span_class": kind,
                                "type": "order",
                                "edits": edits,
                                "tokens": tokens,
                                "rule": f"shuffle {kind.replace('_', ' ')}",
                                "source": self.name,
                            }
                        )
                        break
        return found


def _moved_words(
    caption: str, parse: CaptionParse, order: Sequence[int]
) -> tuple[str, list[list[int]], list[list[int]]]:
    """Return the text in another order, and its edits in characters and in tokens: one for each place that changes."""
    words, starts = parse["words"], parse["starts"]
    text: list[str] = []
    done = length = 0
    edits: list[list[int]] = []
    tokens: list[list[int]] = []
    for place, source in enumerate(order):
        old, new = words[place], words[source]
        if old != new:
            start = starts[place]
            end = start + len(old)
            text += (caption[done:start], new)
            length += start - done
            edits.append([start, end, length, length + len(new)])
            tokens.append([place, place + 1, place, place + 1])
            length += len(new)
            done = end
    text.append(caption[done:])
    return "".join(text), edits, tokens


def _moved(order: list[int], places: Sequence[int], draw: Draw) -> None:
    """Shuffle some places of an order among themselves."""
    for place, source in zip(places, draw.shuffled(places), strict=True):
        order[place] = source


def _spoken(words: Sequence[str]) -> list[int]:
    """Return the tokens that are words: marks and spaces stay in place."""
    return [token for token, word in enumerate(words) if word.isalnum() or any(map(str.isalnum, word))]


def _naming(tags: Sequence[str], spoken: Sequence[int], draw: Draw) -> list[int]:
    order = list(range(len(tags)))
    for first in ("NN", "JJ"):
        _moved(order, [token for token in spoken if tags[token][:2] == first], draw)
    return order


def _rest(tags: Sequence[str], spoken: Sequence[int], draw: Draw) -> list[int]:
    order = list(range(len(tags)))
    _moved(order, [token for token in spoken if tags[token] not in _NAMING], draw)
    return order


def _within_trigrams(tags: Sequence[str], spoken: Sequence[int], draw: Draw) -> list[int]:
    order = list(range(len(tags)))
    for at in range(0, len(spoken), 3):
        _moved(order, spoken[at : at + 3], draw)
    return order


def _trigrams(tags: Sequence[str], spoken: Sequence[int], draw: Draw) -> list[int]:
    order = list(range(len(tags)))
    groups = draw.shuffled([spoken[at : at + 3] for at in range(0, len(spoken), 3)])
    for place, source in zip(spoken, [token for group in groups for token in group], strict=True):
        order[place] = source
    return order


_ORDERS: Mapping[str, Callable[[Sequence[str], Sequence[int], Draw], list[int]]] = {
    "naming": _naming,
    "rest": _rest,
    "within_trigrams": _within_trigrams,
    "trigrams": _trigrams,
}
