"""Objectives: named, weighted loss terms, each a pure function of a batch's features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


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
    """

    image: Tensor
    text: Tensor
    logit_scale: Tensor
    negatives: Tensor | None = None
    negative_mask: Tensor | None = None
    negative_weight: Tensor | None = None
    labels: Tensor | None = None

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
            "labels": [(batch, batch), (batch, batch + batch * slots)],
        }
        for name, shapes in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) not in shapes:
                raise ValueError(f"features.{name} has shape {tuple(value.shape)}, expected {shapes}")
        if (self.negatives is None) != (self.negative_mask is None):
            raise ValueError("features.negatives and features.negative_mask come together")


class Objective(Protocol):
    """A loss term. A frozen dataclass: its fields are its config."""

    name: ClassVar[str]
    source: ClassVar[str]

    @property
    def weight(self) -> float:
        """Factor of this term in the loss."""

    def __call__(self, features: Features) -> Tensor:
        """Return the term, unweighted: a scalar."""


@dataclass(frozen=True)
class InfoNCE:
    """Softmax cross-entropy both ways; negatives are further columns of the image->text direction only.

    With z = logit_scale * image @ [text; negatives].T, a row's loss is -log softmax(z) at its positive, and the
    result is the mean of the mean over images (all B + B*K columns) and the mean over texts (B columns). Pairs of
    label 0 and empty slots leave the denominators. A row with several positives takes the mean over them.

    Attributes:
        weight: Factor of this term in the loss.
        negatives: Whether negatives become columns; False for losses that treat them apart.

    Source: Radford et al. 2021, figure 3 (arXiv 2103.00020); negatives as columns: Yuksekgonul et al. 2023,
        section 4 (NegCLIP, arXiv 2210.01936); several positives: Khosla et al. 2020, equation 2
        (arXiv 2004.11362).
    Differs: NegCLIP pads with no mask and knows no label 0; a weight w counts a negative w times.
    """

    name: ClassVar[str] = "info_nce"
    source: ClassVar[str] = "Radford et al. 2021, figure 3 (arXiv 2103.00020); NegCLIP (arXiv 2210.01936)"

    weight: float = 1.0
    negatives: bool = True

    def __post_init__(self) -> None:
        """Check the weight."""
        check_weight(self.name, self.weight)

    def __call__(self, features: Features) -> Tensor:
        """Return the mean of both directions."""
        import torch

        batch = features.image.shape[0]
        labels = features.labels
        if labels is None:
            labels = 2 * torch.eye(batch, dtype=torch.int8, device=features.image.device) - 1
        logits = features.logit_scale * features.image @ features.text.T
        square = labels[:, :batch]
        from_text = _contrast(logits.T, square.T)
        if self.negatives and features.negatives is not None and features.negative_mask is not None:
            columns = features.logit_scale * features.image @ features.negatives.flatten(0, 1).T
            if features.negative_weight is not None:
                columns = columns + features.negative_weight.flatten().log()
            seen = labels[:, batch:] if labels.shape[1] > batch else torch.full_like(columns, -1, dtype=labels.dtype)
            seen = seen.masked_fill(~features.negative_mask.flatten(), 0)
            logits, square = torch.cat([logits, columns], dim=1), torch.cat([square, seen], dim=1)
        return (_contrast(logits, square) + from_text) / 2


@dataclass(frozen=True)
class NegativeContrast:
    """Each image against its caption and its own negatives only: a (1 + K)-way softmax, softened twice.

    With p the softmax over a sample's caption and its valid negatives and y the target smoothed over the same, the
    loss is -sum_k y_k (1 - p_k)^gamma log p_k, averaged over the samples that have a negative. Keeping it apart from
    InfoNCE, with focus and smoothing, is what costs least zero-shot accuracy (table 1 of the source).

    Attributes:
        weight: Factor of this term in the loss.
        gamma: Focus: 0 is plain cross-entropy.
        smoothing: Share of the target spread evenly over the caption and its valid negatives, 0 to below 1.

    Source: Oh et al. 2024 (FSC-CLIP, arXiv 2410.05210), global hard-negative loss with focal weights and smoothing;
        read from the authors' `losses/loss.py`.
    Differs: empty slots leave the softmax; theirs are zero vectors that stay in it with logit 0. No local term.
    """

    name: ClassVar[str] = "negative_contrast"
    source: ClassVar[str] = "Oh et al. 2024 (FSC-CLIP, arXiv 2410.05210), global hard-negative loss"

    weight: float = 0.5
    gamma: float = 2.0
    smoothing: float = 0.02

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        check_weight(self.name, self.weight)
        if self.gamma < 0 or not 0 <= self.smoothing < 1:
            raise InputError(
                f"objective {self.name}: gamma={self.gamma!r}, smoothing={self.smoothing!r}",
                allowed="gamma 0 or more, smoothing 0 to below 1",
            )

    def __call__(self, features: Features) -> Tensor:
        """Return the mean over samples with a valid negative; 0, with a gradient of 0, when there is none."""
        import torch

        if features.negatives is None or features.negative_mask is None:
            return 0.0 * features.image.sum()
        valid = features.negative_mask
        if features.labels is not None and features.labels.shape[1] > features.image.shape[0]:
            batch, slots = valid.shape
            own = features.labels[:, batch:].reshape(batch, batch, slots)
            at = torch.arange(batch, device=valid.device)
            valid = valid & (own[at, at] == -1)
        rows = valid.any(dim=1)
        if not bool(rows.any()):
            return 0.0 * features.image.sum()
        image, text, valid = features.image[rows], features.text[rows], valid[rows]
        logits = torch.einsum("bd,bkd->bk", image, torch.cat([text[:, None], features.negatives[rows]], dim=1))
        logits = features.logit_scale * logits
        if features.negative_weight is not None:
            logits = torch.cat([logits[:, :1], logits[:, 1:] + features.negative_weight[rows].log()], dim=1)
        inside = torch.cat([torch.ones_like(valid[:, :1]), valid], dim=1)
        log_p = torch.log_softmax(logits.masked_fill(~inside, float("-inf")), dim=1).masked_fill(~inside, 0.0)
        target = (self.smoothing / inside.sum(dim=1, keepdim=True, dtype=log_p.dtype)) * inside
        target = torch.cat([target[:, :1] + 1.0 - self.smoothing, target[:, 1:]], dim=1)
        focus = (1.0 - log_p.exp()).clamp_min(0.0) ** self.gamma
        return -(target * focus * log_p).sum(dim=1).mean()


def check_weight(name: str, weight: float) -> None:
    """Check an objective's weight.

    Raises:
        InputError: it is not a number above 0.
    """
    if not 0 < weight < float("inf"):
        raise InputError(f"objective {name}: weight={weight!r}", allowed="a number above 0")


def _contrast(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over rows of -log softmax at the row's positives (label 1), label 0 left out."""
    positive = labels == 1
    left_out = labels == 0
    log_p = logits.masked_fill(left_out, float("-inf")).log_softmax(dim=1).masked_fill(~positive, 0.0)
    return -(log_p.sum(dim=1) / positive.sum(dim=1)).mean()
