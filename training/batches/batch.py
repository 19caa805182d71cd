"""One step's input: the texts drawn for each sample, and images and texts as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from training.batches.text_sampling import CaptionViews, FurtherTexts
    from training.hard_negatives import Negatives
    from training.pairs import JoinedTexts

SampleRecord = dict[str, Any]
"""A negative as the data set holds it: text, caption, operation, span_class, edits, rule, source."""


@dataclass(frozen=True)
class TextSampling:
    """How the texts of each sample of a batch are drawn.

    Attributes:
        negatives: Says how many negatives; None for none.
        views: Draws among a caption, its rewrites and knowledge captions; None shows the caption.
        positives: Draws further texts; None for none.
        pairs: The turns in which samples are joined two by two, see `training.pairs`; empty for never.
        turns: How many turns there are: a step's turn is its number modulo this.
    """

    negatives: Negatives | None = None
    views: CaptionViews | None = None
    positives: FurtherTexts | None = None
    pairs: tuple[int, ...] = ()
    turns: int = 1

    def joins(self, step: int) -> bool:
        """Return whether a step's samples are joined."""
        return step % self.turns in self.pairs


@dataclass(frozen=True)
class StepTexts:
    """The texts of one step.

    Attributes:
        uids: The samples.
        captions: The text shown of each: a caption, or a view of it.
        records: The negatives drawn for each, at most `candidates` each.
        positives: Further texts drawn for each; empty lists without `TextSampling.positives`.
        caption_ids: A name of each caption's tokens: equal where the model reads the same.
        record_ids: The same for the negatives.
        positive_ids: The same for further texts.
        equal_negatives: For each sample, how many negatives were drawn and left out, as their tokens are the caption's.
        equal_views: The same for views and further texts.
        facts: The rules of some of each sample's knowledge captions, in drawn order; see `training.facts`.
        phrases: Parts of each sample's planned caption with their foils: (``phrase`` or ``word``, text, foil), in drawn order.
        pairs: The texts of the first two samples, of the next two, and so on, where samples are joined.
        tags: Each sample's attributes, such as ``gender:female age:child``; empty texts where nobody tagged any.
    """

    uids: tuple[str, ...]
    captions: tuple[str, ...]
    records: list[list[SampleRecord]]
    positives: list[list[str]]
    caption_ids: tuple[str, ...]
    record_ids: list[list[str]]
    positive_ids: list[list[str]]
    equal_negatives: tuple[int, ...]
    equal_views: tuple[int, ...]
    tags: tuple[str, ...] = ()
    facts: list[list[str]] = field(default_factory=list)
    phrases: list[list[tuple[str, str, str]]] = field(default_factory=list)
    pairs: list[JoinedTexts] = field(default_factory=list)


@dataclass(frozen=True)
class Batch:
    """One step's input. B samples, C candidate negatives each.

    Attributes:
        step: Its number, from 0.
        texts: Uids, captions and negative records.
        image: Pixels [B, 3, size, size], or a frozen prefix's activations [B, ...] when `image_cached`.
        text: Token ids [B, L], or a frozen prefix's activations [B, ...] when `text_cached`; see `tower_blocks`.
        negatives: The same for negatives, [B, C, ...]; zeros where `negative_mask` is False.
        negative_mask: True where there is a candidate, bool [B, C].
        image_cached: See `image`.
        text_cached: See `text`.
        positives: Further texts, [B, P, ...], as `negatives`.
        positive_mask: True where there is one, bool [B, P].
        joined: Pixels of the pictures joined two by two [B / 2, 3, size, size], where samples are joined.
    """

    step: int
    texts: StepTexts
    image: Tensor
    text: Tensor
    negatives: Tensor | None
    negative_mask: Tensor | None
    image_cached: bool
    text_cached: bool
    positives: Tensor | None = None
    positive_mask: Tensor | None = None
    joined: Tensor | None = None

    def to(self, device: str) -> Batch:
        """Return the batch on a device; the copy does not wait where the batch is pinned."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Return the batch in memory that a GPU can fetch by itself."""
        return self._each(lambda value: value.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        import torch

        tensors: dict[str, Any] = {k: change(v) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return replace(self, **tensors)
