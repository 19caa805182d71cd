"""Slots of a caption: what may change there, and the base of the stages that change one slot by rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

from curation.engine.stage import MapStage
from curation.models.parser import CaptionParse
from curation.text.caption_facts import plain_words
from curation.text.edits import Edit, apply_edits, normalise, token_edits
from curation.text.lexicon import NEGATIONS, noun_lemma, verb_lemma
from curation.text.phrases import Caption
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed

T = TypeVar("T")
_ENDS = frozenset({".", "!", "?"})
_TRIES = 6
"""Most options of one slot that are tried: the first is nearly always good."""
_MASK = (1 << 64) - 1


class Change(NamedTuple):
    """What makes one negative.

    Attributes:
        pieces: Replacements of parts of the caption.
        rule: The words and the reason.
        against: The true text that the negative is a minimal edit of; empty for the caption itself.
    """

    pieces: Sequence[Edit]
    rule: str
    against: str = ""


class Slot(NamedTuple):
    """A place in a caption and its possible changes; one of them becomes a negative, of some stages several.

    Attributes:
        span_class: Finer name of what changes.
        type: ``object``, ``attribute``, ``relation``, ``action``, ``number``, ``negation`` or ``order``.
        options: What the draw chooses from.
        make: Returns an option's change, or None when it does not fit after all.
        token: The word that changes, for a slot of one word.
    """

    span_class: str
    type: str
    options: Sequence[Any]
    make: Callable[[Any], Change | None]
    token: int = -1


class Draw:
    """A random generator for one draw: SplitMix64 (Steele et al. 2014), quick to set up.

    Args:
        seed: 64 bits, from `draw_seed`.
    """

    def __init__(self, seed: int) -> None:
        self.state = seed

    def below(self, bound: int) -> int:
        """Return a number in [0, bound); the bias of the remainder is below 2**-50 for what is drawn here."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((self.state ^ (self.state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return (mixed ^ (mixed >> 31)) % bound

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order."""
        order = list(items)
        for first in range(len(order) - 1):
            other = first + self.below(len(order) - first)
            order[first], order[other] = order[other], order[first]
        return order

    def sample(self, items: Sequence[T], most: int) -> Iterator[T]:
        """Yield at most `most` different items, each drawn only when the caller needs it."""
        left = list(items)
        for _ in range(min(most, len(left))):
            yield left.pop(self.below(len(left)) if len(left) > 1 else 0)


@dataclass(frozen=True)
class SlotStage(MapStage):
    """Base of the stages that make negatives by changing one slot of a caption by rule.

    Attributes:
        seed: Seed of the draws; each draw also depends on uid and caption, on nothing else.
        per_caption: Most negatives per caption, 1 or more.

    Raises:
        InputError: `per_caption` is below 1.
    """

    requires: ClassVar[tuple[str, ...]] = ("uid", "captions", "parses")
    operation: ClassVar[str]
    """The ``operation`` of its records."""

    seed: int = field(default=0, kw_only=True)
    per_caption: int = field(default=2, kw_only=True)

    def __post_init__(self) -> None:
        self.check_least(per_caption=1)

    def options_per_slot(self) -> int:
        """Return how many options of one slot may become negatives."""
        return 1

    def negatives(
        self,
        sample: Sample,
        find_slots: Callable[[Caption], Sequence[Slot]],
        may_change: Callable[[CaptionParse], bool] = lambda _parse: True,
    ) -> list[dict[str, Any]]:
        """Return the negatives of a sample's captions, in the captions' order.

        Sentences with a negation are left as they are: what changes under it may well be true.

        Args:
            sample: Captions and parses.
            find_slots: Finds the slots of a caption.
            may_change: Quick test that is false only where there are no slots.
        """
        captions = {normalise(caption) for caption in sample.captions}
        records: list[dict[str, Any]] = []
        for index, (text, parse) in enumerate(zip(sample.captions, sample["parses"], strict=True)):
            denied = () if NEGATIONS.isdisjoint(map(str.lower, parse["words"])) else _denied(parse)
            if not may_change(parse) or any(start == 0 and end >= parse["starts"][-1] for start, end in denied):
                continue
            caption = Caption(text, parse)
            slots = find_slots(caption)
            if slots:
                draw = Draw(draw_seed(self.seed, self.name, sample.uid, index, self.operation))
                records += self._of_caption(index, caption, slots, draw, set(captions), denied)
        return records

    def _of_caption(
        self,
        index: int,
        caption: Caption,
        slots: Sequence[Slot],
        draw: Draw,
        taken: set[str],
        denied: Sequence[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        drawn = [(slot, draw.sample(slot.options, _TRIES)) for slot in _alternate_classes(draw.shuffled(slots))]
        for _ in range(self.options_per_slot()):
            for slot, options in drawn:  # every slot once before any twice
                if len(records) == self.per_caption:
                    return records
                records += self._of_slot(index, caption, slot, options, taken, denied)
        return records

    def _of_slot(
        self,
        index: int,
        caption: Caption,
        slot: Slot,
        options: Iterator[Any],
        taken: set[str],
        denied: Sequence[tuple[int, int]],
    ) -> list[dict[str, Any]]:
        """Return the negative of the first option that fits; none if none does."""
        for option in options:
            change = slot.make(option)
            if change is None or _touches(change.pieces, denied):
                continue
            text, edits = apply_edits(caption.text, change.pieces)
            if normalise(text) in taken:
                continue
            taken.add(normalise(text))
            record = {
                "text": text, "caption": index, "operation": self.operation, "span_class": slot.span_class,
                "type": slot.type, "edits": edits, "tokens": token_edits(caption.parse, change.pieces),
                "rule": change.rule, "source": self.name,
            }  # fmt: skip
            return [record | ({"against": change.against} if change.against else {})]
        return []


def _denied(parse: CaptionParse) -> list[tuple[int, int]]:
    """Return the sentences with a negation, as characters [start, end)."""
    found, start, has_negation = [], 0, False
    for word, at in zip(parse["words"], parse["starts"], strict=True):
        has_negation = has_negation or word.lower() in NEGATIONS
        if word in _ENDS:
            found += [(start, at + len(word))] if has_negation else []
            start, has_negation = at + len(word), False
    last = parse["starts"][-1] + len(parse["words"][-1])
    return [*found, (start, last)] if has_negation else found


def _touches(pieces: Sequence[Edit], spans: Sequence[tuple[int, int]]) -> bool:
    return any(piece.start < end and start <= piece.end for piece in pieces for start, end in spans)


def _alternate_classes(slots: Sequence[Slot]) -> list[Slot]:
    """Return slots so that every class comes once before any comes twice."""
    counts: dict[str, int] = {}
    rounds = []
    for slot in slots:
        rounds.append(counts.get(slot.span_class, 0))
        counts[slot.span_class] = rounds[-1] + 1
    return [slot for _, slot in sorted(zip(rounds, slots, strict=True), key=lambda item: item[0])]


def dictionary_forms(captions: Sequence[str]) -> frozenset[str]:
    """Return the words of captions as written and in dictionary form, as nouns and as verbs."""
    words = {word for caption in captions for word in plain_words(caption)}
    return frozenset(form for word in words for form in (word, noun_lemma(word), verb_lemma(word)))
