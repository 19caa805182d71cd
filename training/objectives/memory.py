"""Contrast against more than the batch: the features of the steps before stay as partners that no longer learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from data_manifests.errors import InputError
from training.objectives.info_nce import contrast
from training.objectives.interface import check_weight, pair_labels

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.objectives.interface import Features


@dataclass(frozen=True)
class MemoryContrast:
    """InfoNCE over the batch and the last `size` pairs before it, whose features are kept as they were.

    With N pairs in batch and memory together and z = logit_scale * image @ text.T [N, N], the term is the sum of
    -log softmax(z) at each image's own text over all N rows, and of the same for texts, divided by 2B: each pair of
    the batch gets the gradient that it would get in a batch of N. So a caption that is close to *every* image is
    pushed from a thousand of them, which a small batch cannot do. Pairs of the same photograph or of equal
    captions, and those with label 0 in the batch, leave the denominators. Costs one product of N by d by N.

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
        check_weight(self.name, self.weight)
        if self.size < 1:
            raise InputError(f"objective {self.name}: size={self.size!r}", allowed="1 or more")

    def start(self) -> MemoryTerm:
        """Return the term at work, nothing remembered."""
        return MemoryTerm(self.size)

    def __call__(self, features: Features) -> Tensor:
        """Return the term without a memory, which is InfoNCE."""
        return self.start()(features)


class MemoryTerm:
    """`MemoryContrast` at work.

    Args:
        size: Most pairs remembered.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[str, Tensor] = {}

    def __call__(self, features: Features) -> Tensor:
        """Return the loss, then remember the batch.

        Raises:
            ValueError: the features lack identities.
        """
        import torch

        if features.identity is None:
            raise ValueError("memory contrast needs identity")
        batch = {"image": features.image, "text": features.text, "identity": features.identity}
        kept = {name: self._kept.get(name, value[:0].detach()) for name, value in batch.items()}
        kept = {name: value.to(batch[name].device) for name, value in kept.items()}
        every = {name: torch.cat([batch[name], kept[name]]) for name in batch}
        self._kept = {name: value.detach()[: self._size] for name, value in every.items()}
        size, scale = len(features.image), features.logit_scale
        scales = torch.cat([scale.expand(size), scale.detach().expand(len(every["image"]) - size)])
        similarity, labels = every["image"] @ every["text"].T, _labels(features, every["identity"])
        both = contrast(scales[:, None] * similarity, labels) + contrast(scales[:, None] * similarity.T, labels.T)
        return both * (len(labels) / (2 * size))

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return nothing."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered."""
        return dict(self._kept)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with a saved memory."""
        self._kept = dict(state)


def _labels(features: Features, identity: Tensor) -> Tensor:
    """Return labels of batch and memory, int8 [N, N]: the batch's own stay, who is the same elsewhere gets 0."""
    import torch

    size = len(features.image)
    same = (identity[:, None] == identity[None, :]).any(dim=2)
    labels = -(~same).to(torch.int8)
    labels[:size, :size] = pair_labels(features)[:, :size]
    return labels.fill_diagonal_(1)
