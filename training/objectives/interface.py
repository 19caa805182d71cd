"""What an objective is, and what it may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from data_manifests.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NEGATIVE_TYPES = ("object", "attribute", "relation", "action", "number", "negation", "order")
"""What a negative got wrong, by the number that `Features.negative_type` holds."""

OPTIONAL = (
    "positives", "tokens", "teacher_image", "teacher_text", "cut_text", "groups", "prompts", "triplets", "negative_type",
    "identity",
)  # fmt: skip
"""Fields of `Features` that cost something to make: they are there only if an objective `needs` them."""


@dataclass(frozen=True)
class TextSlots:
    """Some texts of each sample. B samples, P slots each.

    Attributes:
        features: Unit norm [B, P, d]; what stands in an empty slot is never looked at.
        mask: True where a slot is filled, bool [B, P].
    """

    features: Tensor
    mask: Tensor


@dataclass(frozen=True)
class TokenFeatures:
    """The towers' outputs place by place, projected and unit norm. N patches, L token places.

    Attributes:
        image: Patches [B, N, d].
        text: Tokens of the captions [B, L, d].
        text_mask: True where a token of the text stands (no padding, no start or end mark), bool [B, L].
        negatives: Tokens of the negatives [B, K, L, d], or None.
        negatives_mask: The same for them, bool [B, K, L]; all False in an empty slot.
        phrases: True where a token belongs to the phrase, bool [B, S, L]; S phrases of each caption, all False in an
            empty slot. None takes every token for a phrase of its own.
    """

    image: Tensor
    text: Tensor
    text_mask: Tensor
    negatives: Tensor | None = None
    negatives_mask: Tensor | None = None
    phrases: Tensor | None = None


@dataclass(frozen=True)
class Triplets:
    """Facts of a knowledge graph as texts: (head, relation) asks, the tail answers. T facts.

    Attributes:
        query: Unit-norm features of "head relation" [T, d].
        tail: Unit-norm features of the tails [T, d].
        relation: Number of the relation, int64 [T].
    """

    query: Tensor
    tail: Tensor
    relation: Tensor


@dataclass(frozen=True)
class Features:
    """What a batch has become after the towers. B samples, K negative slots each, d dimensions.

    Attributes:
        image: Unit-norm image features [B, d].
        text: Unit-norm features of the captions [B, d].
        logit_scale: exp of the learned scale, a scalar; similarities times it are logits.
        negatives: Unit-norm features of the negatives [B, K, d], or None.
        negative_mask: True where a slot holds a negative, bool [B, K]; what stands in other slots is never looked at.
        negative_weight: How many times each negative counts in a denominator, above 0 [B, K]; None means once.
        labels: +1 positive, -1 negative, 0 left out, for each image (row) and text (column): [B, B] or, with the
            negatives as further columns in the order of `negatives` flattened, [B, B + B*K]. None means that the
            diagonal is positive and all else negative. Every row and every caption's column needs a positive.
        negative_type: Number in `NEGATIVE_TYPES` of each negative, int64 [B, K]; -1 where unknown or empty.
        positives: Further texts that are true of each image: other captions, rewrites, knowledge captions.
        tokens: Outputs by place.
        teacher_image: Unit-norm image features of the model before tuning [B, d].
        teacher_text: The same for the captions [B, d].
        cut_text: Unit-norm features of the captions with a run of their tokens cut off [B, d].
        groups: Which group each sample belongs to, by attribute, int64 [B, A]; -1 where unknown.
        prompts: Unit-norm features of an objective's prompts [C, d].
        triplets: Facts.
        identity: Numbers that stand for each photograph and for each caption's text, int64 [B, 2].
    """

    image: Tensor
    text: Tensor
    logit_scale: Tensor
    negatives: Tensor | None = None
    negative_mask: Tensor | None = None
    negative_weight: Tensor | None = None
    labels: Tensor | None = None
    negative_type: Tensor | None = None
    positives: TextSlots | None = None
    tokens: TokenFeatures | None = None
    teacher_image: Tensor | None = None
    teacher_text: Tensor | None = None
    cut_text: Tensor | None = None
    groups: Tensor | None = None
    prompts: Tensor | None = None
    triplets: Triplets | None = None
    identity: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the shapes belong together.

        Raises:
            ValueError: they do not.
        """
        batch, width = self.image.shape
        slots = 0 if self.negatives is None else self.negatives.shape[1]
        expected: dict[str, list[tuple[int, ...]]] = {
            "text": [(batch, width)],
            "negatives": [(batch, slots, width)],
            "negative_mask": [(batch, slots)],
            "negative_weight": [(batch, slots)],
            "negative_type": [(batch, slots)],
            "labels": [(batch, batch), (batch, batch + batch * slots)],
            "teacher_image": [(batch, self.teacher_image.shape[-1] if self.teacher_image is not None else 0)],
            "teacher_text": [(batch, self.teacher_text.shape[-1] if self.teacher_text is not None else 0)],
            "cut_text": [(batch, width)],
            "identity": [(batch, 2)],
        }
        for name, shapes in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) not in shapes:
                raise ValueError(f"features.{name} has shape {tuple(value.shape)}, expected {shapes}")
        if (self.negatives is None) != (self.negative_mask is None):
            raise ValueError("features.negatives and features.negative_mask come together")
        if self.positives is not None and self.positives.features.shape[:2] != self.positives.mask.shape:
            raise ValueError(f"features.positives: mask {tuple(self.positives.mask.shape)} for other slots")


class Objective(Protocol):
    """A loss term. A frozen dataclass: its fields are its config.

    One that adapts has a method `start`, too, that returns the `Term` at work in one run; see `start_term`.

    """

    name: ClassVar[str]
    source: ClassVar[str]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names in `OPTIONAL` that it cannot do without."""

    @property
    def weight(self) -> float:
        """Factor of this term in the loss."""

    def __call__(self, features: Features) -> Tensor:
        """Return the term, unweighted: a scalar."""


class Term(Protocol):
    """An objective at work in one run; what it has learned goes into the checkpoints."""

    def __call__(self, features: Features) -> Tensor:
        """Return the term, unweighted: a scalar."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return what the optimiser shall learn besides the model, such as a bias."""

    def state_dict(self) -> dict[str, Any]:
        """Return numbers and tensors."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""


class _Plain:
    """An objective that learns nothing, at work."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def __call__(self, features: Features) -> Tensor:
        return self._objective(features)

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return nothing."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: nothing is learned."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Accept nothing."""


def start_term(objective: Objective) -> Term:
    """Return the objective at work: its own `start()` if it adapts, else itself without state."""
    start = getattr(objective, "start", None)
    return _Plain(objective) if start is None else start()


def pair_labels(features: Features) -> Tensor:
    """Return the labels of all images and texts, int8 [B, B + B*K]: the default where `labels` says nothing."""
    import torch

    size = len(features.image)
    slots = 0 if features.negatives is None else features.negatives.shape[1]
    labels = features.labels
    if labels is None:
        labels = 2 * torch.eye(size, dtype=torch.int8, device=features.image.device) - 1
    if labels.shape[1] < size + size * slots:
        labels = torch.cat([labels, labels.new_full((size, size * slots), -1)], dim=1)
    return labels


def own_negatives(features: Features) -> Tensor | None:
    """Return which of each sample's own slots hold a negative that labels do not leave out, bool [B, K]; None without."""
    import torch

    if features.negatives is None or features.negative_mask is None:
        return None
    size, slots = features.negative_mask.shape
    at = torch.arange(size, device=features.image.device)
    own = pair_labels(features)[:, size:].reshape(size, size, slots)[at, at]
    return features.negative_mask & (own == -1)


def check_weight(name: str, weight: float) -> None:
    """Check an objective's weight.

    Raises:
        InputError: it is not a number above 0.
    """
    if not 0 < weight < float("inf"):
        raise InputError(f"objective {name}: weight={weight!r}", allowed="a number above 0")
