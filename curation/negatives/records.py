"""From places that can be changed to records of negatives: drawn, made, compared with what is said already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from curation.models.parser import CaptionParse
from curation.text.edits import Edit, apply_edits, normalise, token_edits
from curation.text.lexicon import NEGATIONS
from curation.text.phrases import Caption
from data_manifests.errors import InputError
from data_manifests.sample import Sample
from data_manifests.seeds import draw_seed

T = TypeVar("T")
_TRIES = 6
"""Most options of one place that are tried: the first is nearly always good."""
_MASK = (1 << 64) - 1


class Change(NamedTuple):
    """What makes one negative.

    Attributes:
        pieces: What stands where in place of the caption's words.
        rule: The words and why.
        against: The true text that the negative is a minimal edit of; empty for the caption itself.
    """

    pieces: Sequence[Edit]
    rule: str
    against: str = ""


class Slot(NamedTuple):
    """A place of a caption and the ways in which it may change; at most one of them becomes a negative.

    Attributes:
        span_class: Finer name of what is changed.
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
    """A small generator of its own for one draw: SplitMix64 (Steele et al. 2014), quick to set up.

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
        """Return items in an order drawn at random."""
        left = list(items)
        for place in range(len(left) - 1):
            other = place + self.below(len(left) - place)
            left[place], left[other] = left[other], left[place]
        return left

    def some(self, items: Sequence[T], most: int) -> Iterator[T]:
        """Yield at most so many different items, each drawn only when it is asked for."""
        left = list(items)
        for _ in range(min(most, len(left))):
            yield left.pop(self.below(len(left)) if len(left) > 1 else 0)


@dataclass(frozen=True, slots=True)
class Maker:
    """How a stage's places become records.

    Attributes:
        stage: Its name.
        operation: What its records call it.
        seed: Its seed.
        per_caption: Most negatives per caption.
    """

    stage: str
    operation: str
    seed: int
    per_caption: int

    def records(
        self,
        sample: Sample,
        slots_of: Callable[[Caption], Sequence[Slot]],
        worth: Callable[[CaptionParse], bool] = lambda _parse: True,
    ) -> list[dict[str, Any]]:
        """Return the negatives of a sample's captions, in the captions' order.

        Captions that deny something are left alone: what changes under a denial may well be true.

        Args:
            sample: Captions and parses.
            slots_of: Finds the places that may change.
            worth: Says quickly where there can be none.
        """
        said = {normalise(caption) for caption in sample.captions}
        found: list[dict[str, Any]] = []
        for index, (text, parse) in enumerate(zip(sample.captions, sample["parses"], strict=True)):
            if not worth(parse) or not NEGATIONS.isdisjoint(map(str.lower, parse["words"])):
                continue
            caption = Caption(text, parse)
            slots = slots_of(caption)
            if slots:
                draw = Draw(draw_seed(self.seed, self.stage, sample.uid, index, self.operation))
                found += self._of_caption(index, caption, slots, draw, set(said))
        return found

    def _of_caption(
        self, index: int, caption: Caption, slots: Sequence[Slot], draw: Draw, taken: set[str]
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for slot in _in_turn(draw.shuffled(slots)):
            if len(found) == self.per_caption:
                break
            for option in draw.some(slot.options, _TRIES):
                change = slot.make(option)
                if change is None:
                    continue
                text, edits = apply_edits(caption.text, change.pieces)
                key = normalise(text)
                if key in taken:
                    continue
                taken.add(key)
                found.append(
                    {
                        "text": text,
                        "caption": index,
                        "operation": self.operation,
                        "span_class": slot.span_class,
                        "type": slot.type,
                        "edits": edits,
                        "tokens": token_edits(caption.parse, change.pieces),
                        "rule": change.rule,
                        "source": self.stage,
                        **({"against": change.against} if change.against else {}),
                    }
                )
                break
        return found


def _in_turn(slots: Sequence[Slot]) -> list[Slot]:
    """Return slots so that every class comes once before any comes twice."""
    if len(slots) < 3:  # nothing to reorder
        return list(slots)
    seen: dict[str, int] = {}
    turns = []
    for slot in slots:
        turns.append(seen.get(slot.span_class, 0))
        seen[slot.span_class] = turns[-1] + 1
    return [slot for _, slot in sorted(zip(turns, slots, strict=True), key=lambda item: item[0])]


def check_per_caption(stage: str, per_caption: int) -> None:
    """Check a stage's setting.

    Raises:
        InputError: `per_caption` is below 1.
    """
    if per_caption < 1:
        raise InputError(f"{stage}: per_caption is {per_caption}", allowed="1 or more", fix="raise it")
