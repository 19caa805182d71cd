"""Softmax cross-entropy between images and texts, both ways, over the batch or also over the batches before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from training.hard_negatives import row_weight
from training.objectives.interface import Objective, Term
from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features


@dataclass(frozen=True)
class InfoNCE(Objective):
    """Softmax cross-entropy both ways; negatives are further columns of the image->text direction only.

    With z = logit_scale * image @ [text; negatives].T, a row's loss is -log softmax(z) at its positive, and the
    result is the mean of the mean over images (all B + B*K columns) and the mean over texts (B columns). Pairs of
    label 0 and empty slots leave the denominators. A row with several positives takes the mean over them. Where the
    chosen negatives have weights, an image's loss counts as often as the mean weight of its columns but the positives,
    each by its share of the softmax over them and captions with weight 1, without a gradient.

    Attributes:
        weight: Factor of this term in the loss.
        negatives: Whether negatives become columns; False for losses that treat them apart.

    Source: Radford et al. 2021, figure 3 (arXiv 2103.00020); negatives as columns: Yuksekgonul et al. 2023,
        section 4 (NegCLIP, arXiv 2210.01936); several positives: Khosla et al. 2020, equation 2
        (arXiv 2004.11362).
    Differs: NegCLIP pads with no mask and knows no label 0, and weighs nothing.
    """

    name: ClassVar[str] = "info_nce"
    source: ClassVar[str] = "Radford et al. 2021, figure 3 (arXiv 2103.00020); NegCLIP (arXiv 2210.01936)"

    weight: float = 1.0
    negatives: bool = True

    def __call__(self, features: Features) -> Tensor:
        """Return the mean of both directions."""
        import torch

        batch = features.image.shape[0]
        labels = features.pair_labels()
        logits = features.logit_scale * features.image @ features.text.T
        square = labels[:, :batch]
        from_text, counts = contrast(logits.T, square.T).mean(), None
        if self.negatives and features.negatives is not None and features.negative_mask is not None:
            columns = features.logit_scale * features.image @ features.negatives.flatten(0, 1).T
            seen = labels[:, batch:].masked_fill(~features.negative_mask.flatten(), 0)
            logits, square = torch.cat([logits, columns], dim=1), torch.cat([square, seen], dim=1)
            if features.negative_weight is not None:
                weight = torch.cat([torch.ones_like(features.text[:, 0]), features.negative_weight.flatten()])
                counts = row_weight(logits, weight.to(logits.dtype).expand_as(logits), square == -1)
        from_image = contrast(logits, square)
        return ((from_image if counts is None else counts * from_image).mean() + from_text) / 2


def contrast(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each row's mean of -log softmax at its positives (label 1), label 0 left out [n]."""
    positive = labels == 1
    left_out = labels == 0
    log_p = logits.masked_fill(left_out, float("-inf")).log_softmax(dim=1).masked_fill(~positive, 0.0)
    return -(log_p.sum(dim=1) / positive.sum(dim=1))


_JUDGED = ("judged_image", "judged_text")
"""What a gate looks at, in the memory."""


@dataclass(frozen=True)
class MemoryContrast(Objective):
    """InfoNCE over the batch and the last `size` pairs before it, whose features are kept as they were.

    With N pairs in batch and memory together and z = logit_scale * image @ text.T [N, N], the term is the sum of
    -log softmax(z) at each image's own text over all N rows, and of the same for texts, divided by 2B: each pair of
    the batch gets the gradient that it would get in a batch of N. So a caption that is close to *every* image is
    pushed from a thousand of them, which a small batch cannot do. Pairs of the same photograph or of equal
    captions, those with label 0 in the batch, and with a gate those that it finds or doubts in the memory, leave the
    denominators. Costs one product of N by d by N, and three more with a gate.

    Attributes:
        weight: Factor of this term in the loss.
        size: Most pairs remembered; the memory fills from the first step on.

    Source: Wang et al. 2020 (XBM, arXiv 1912.06798), section 3.
    Differs: two modalities, softmax in place of their pair losses; remembered rows count as rows too, since only they
        ask a new caption to stay away from an old image; no warm-up without memory, since tuning begins with a
        trained model; the memory lives in checkpoints.
    """

    name: ClassVar[str] = "memory_contrast"
    source: ClassVar[str] = "Wang et al. 2020 (XBM, arXiv 1912.06798), section 3"
    needs: ClassVar[tuple[str, ...]] = ("identity",)

    weight: float = 1.0
    size: int = 1024

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        check_settings(self, self.size >= 1, "size", "1 or more")

    def start(self) -> MemoryTerm:
        """Return the term of a new run, nothing remembered."""
        return MemoryTerm(self.size)


class MemoryTerm(Term):
    """`MemoryContrast` during a run.

    Args:
        size: Most pairs remembered.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[str, Tensor] = {}

    def __call__(self, features: Features) -> Tensor:
        """Return the loss, then remember the batch."""
        import torch

        batch = {"image": features.image, "text": features.text, "identity": features.require("identity")}
        if features.gate is not None:
            batch |= zip(_JUDGED, features.judged(), strict=True)
        kept = {name: self._kept.get(name, value[:0].detach()).to(value.device) for name, value in batch.items()}
        every = {name: torch.cat([batch[name], kept[name]]) for name in batch}
        self._kept = {name: value.detach()[: self._size] for name, value in every.items()}
        size, scale = len(features.image), features.logit_scale
        scales = torch.cat([scale.expand(size), scale.detach().expand(len(every["image"]) - size)])
        similarity, labels = every["image"] @ every["text"].T, _labels(features, every)
        both = contrast(scales[:, None] * similarity, labels) + contrast(scales[:, None] * similarity.T, labels.T)
        return both.sum() / (2 * size)

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered."""
        return dict(self._kept)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with a saved memory."""
        self._kept = dict(state)


def _labels(features: Features, every: Mapping[str, Tensor]) -> Tensor:
    """Return labels of batch and memory, int8 [N, N]: the batch's own stay, equal pairs elsewhere get 0, and so do the gate's."""
    import torch

    size, identity = len(features.image), every["identity"]
    out = (identity[:, None] == identity[None, :]).any(dim=2)
    if features.gate is not None:
        image, text = (every[name] for name in _JUDGED)
        out |= features.gate.found(image, text, size) != -1
    labels = -(~out).to(torch.int8)
    labels[:size, :size] = features.pair_labels()[:, :size]
    return labels.fill_diagonal_(1)
