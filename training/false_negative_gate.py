"""Finds false negatives in a batch: pairs too similar to be negatives (FFF's label matrix), with a band of doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PositiveThresholds:
    """Similarities (or, for `batch_thresholds`, quantiles) above which a pair is a positive.

    Attributes:
        t2i: p1: an image and a text alone.
        t2i_weak: p1': an image and a text, if the images are alike too.
        i2i: p2: two images.
        t2t: p3: two texts.
    """

    t2i: float
    t2i_weak: float
    i2i: float
    t2t: float

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InputError: one is not a number, or the weaker is not the weaker.
        """
        if any(not math.isfinite(value) for value in astuple(self)) or self.t2i_weak > self.t2i:
            raise InputError(
                f"thresholds of positives: {self}",
                allowed="finite numbers, t2i_weak not above t2i",
                fix="take those that calibrate_positives finds",
            )


def positive_labels(
    image_text: Tensor,
    image_image: Tensor,
    text_text: Tensor,
    sure: PositiveThresholds,
    doubtful: PositiveThresholds | None = None,
) -> Tensor:
    """Return the label of each image (row) and text (column), int8 [B, B].

    +1 on the diagonal and where S_it > p1, or S_ii > p2 and S_it > p1', or S_tt > p3; elsewhere -1, or 0 (left out)
    where the same holds with the `doubtful` thresholds. Nothing here is differentiated: give similarities of frozen
    or detached features.

    Args:
        image_text: S_it, similarity of image i and text j [B, B].
        image_image: S_ii [B, B].
        text_text: S_tt [B, B]; of several captions an image, the mean over pairs of them.
        sure: p1, p1', p2, p3.
        doubtful: Lower ones, or None for FFF's two labels.

    Source: Bulat et al. 2024 (FFF), assignment of positives, arXiv 2405.10286.
    Differs: a band of doubt gets the label 0.
    """
    import torch

    labels = torch.full(image_text.shape, -1, dtype=torch.int8, device=image_text.device)
    for thresholds, label in ((doubtful, 0), (sure, 1)):
        if thresholds is not None:
            alike = (image_image > thresholds.i2i) & (image_text > thresholds.t2i_weak)
            labels[(image_text > thresholds.t2i) | alike | (text_text > thresholds.t2t)] = label
    return labels.fill_diagonal_(1)


def batch_thresholds(
    image_text: Tensor, image_image: Tensor, text_text: Tensor, quantiles: PositiveThresholds
) -> PositiveThresholds:
    """Return the thresholds that are these quantiles of a batch's own pairs, the diagonal left out.

    A quantile q of N numbers is the one at rank ceil(q (N - 1)) from below: a number of the batch, no mean of two.

    Raises:
        InputError: a quantile is not between 0 and 1, or the batch has fewer than two samples.
    """
    if any(not 0 <= value <= 1 for value in astuple(quantiles)) or image_text.shape[0] < 2:
        raise InputError(
            f"quantiles of a batch of {image_text.shape[0]}: {quantiles}",
            allowed="0 to 1, batches of two samples or more",
            fix="0.9999, 0.999, 0.9995 and 0.9999 are the stage's",
        )
    return PositiveThresholds(
        t2i=_quantile(image_text, quantiles.t2i),
        t2i_weak=_quantile(image_text, quantiles.t2i_weak),
        i2i=_quantile(image_image, quantiles.i2i),
        t2t=_quantile(text_text, quantiles.t2t),
    )


def _quantile(square: Tensor, quantile: float) -> float:
    import torch

    size = square.shape[0]
    others = square[~torch.eye(size, dtype=torch.bool, device=square.device)]
    # kthvalue, because torch.quantile refuses batches of more than some 4,000 samples
    rank = math.ceil(quantile * (others.numel() - 1) - 1e-9)
    return float(others.kthvalue(rank + 1).values)


def thresholds_of(statistics: Mapping[str, Any]) -> tuple[PositiveThresholds, PositiveThresholds]:
    """Return the sure and the doubtful thresholds that a manifest's statistics hold.

    Raises:
        InputError: the version was curated without calibrate_positives.
    """
    found = statistics.get("quality", {}).get("calibrate_positives")
    if found is None:
        raise InputError(
            "this data set version has no calibrated thresholds of positives",
            allowed="a version curated with the stage calibrate_positives",
            fix="curate with the recipe fff, or take the batch's own quantiles",
        )
    return PositiveThresholds(**found["sure"]), PositiveThresholds(**found["doubtful"])


@dataclass(frozen=True)
class PositiveGate:
    """Finds which pairs of a batch are no negatives, by the similarities of the model before tuning or of the model as it is.

    Attributes:
        quantiles: Quantiles of each batch's own pairs; None takes the version's calibrated thresholds.
        teacher: Whether similarities are those of the model before tuning.

    Source: Bulat et al. 2024 (FFF), arXiv 2405.10286.
    Differs: see `positive_labels`; with quantiles of a batch there is no band of doubt.
    """

    name: ClassVar[str] = "positive_gate"

    quantiles: tuple[float, float, float, float] | None = None
    teacher: bool = True

    def start(self, statistics: Mapping[str, Any]) -> StartedGate:
        """Return the gate with its thresholds.

        Raises:
            InputError: the version has no calibrated thresholds, or a quantile is out of range.
        """
        if self.quantiles is None:
            return StartedGate(*thresholds_of(statistics), per_batch=False)
        return StartedGate(PositiveThresholds(*self.quantiles), None, per_batch=True)


@dataclass(frozen=True)
class StartedGate:
    """`PositiveGate` with its thresholds.

    Attributes:
        sure: Thresholds, or quantiles.
        doubtful: Lower thresholds, or None.
        per_batch: Whether `sure` are quantiles.
    """

    sure: PositiveThresholds
    doubtful: PositiveThresholds | None
    per_batch: bool

    def labels(self, image: Tensor, text: Tensor, own: Tensor | None) -> Tensor:
        """Return labels, int8 [B, B] or [B, B + B*K] as `own`: found positives and doubts over what `own` says.

        Args:
            image: Unit-norm image features [B, d]; not differentiated.
            text: Unit-norm text features [B, d].
            own: Labels so far, or None.
        """
        import torch

        found = self.found(image, text, len(image))
        if own is None:
            return found
        square = torch.where(found == -1, own[:, : len(image)], found)
        return torch.cat([square, own[:, len(image) :]], dim=1)

    def found(self, image: Tensor, text: Tensor, size: int) -> Tensor:
        """Return the label of each image and text, int8 [N, N]: 1 for found positives, 0 in doubt, -1 elsewhere.

        Args:
            image: Unit-norm image features of the batch, then of whatever stands in a denominator besides [N, d]; not
                differentiated.
            text: The same for texts [N, d].
            size: How many of them are the batch's; quantiles of a batch are taken over these alone.
        """
        image, text = image.detach(), text.detach()
        similarity = image @ text.T, image @ image.T, text @ text.T
        sure = self.sure
        if self.per_batch:
            image_text, image_image, text_text = (square[:size, :size] for square in similarity)
            sure = batch_thresholds(image_text, image_image, text_text, self.sure)
        return positive_labels(*similarity, sure, self.doubtful)
