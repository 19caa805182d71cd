"""Pairwise sigmoid losses: every image and text is judged by itself, so that an image may have any number of positives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from training.objectives.interface import Objective, Term
from training.settings import check_settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.features import Features, TextSlots


@dataclass(frozen=True)
class Sigmoid(Objective):
    """Softplus of -z (t s + b) over all images and texts, z the label, summed over texts and averaged over images.

    Texts are the captions, with `negatives` the negatives of all samples, and with `further` the further texts, each
    with the label of its sample's caption. Pairs of label 0 and empty slots count nothing. A negative of weight w counts
    w times.

    The bias b is learned. It starts at the value of the first batch at which the mean probability of the pairs that
    are not true is 1 / (number of texts an image sees), as b = -10 does for SigLIP's scale of 10 from scratch. A fixed
    start would, for a tuned CLIP's scale of 100, make the first steps destroy the weights.

    Attributes:
        weight: Factor of this term in the loss.
        negatives: Whether negatives are among the texts.
        further: Whether further texts of each image are positives (batch text augmentation).
        bias: Where the bias starts; None finds it as above.

    Source: Zhai et al. 2023 (SigLIP, arXiv 2303.15343), section 3; several positives: Bulat et al. 2024 (FFF,
        arXiv 2405.10286), equation 4.
    Differs: the start of the bias; labels of 0; normalised by images, as SigLIP does, not by pairs.
    """

    name: ClassVar[str] = "sigmoid"
    source: ClassVar[str] = "Zhai et al. 2023 (SigLIP, arXiv 2303.15343); Bulat et al. 2024 (FFF, arXiv 2405.10286)"

    weight: float = 1.0
    negatives: bool = True
    further: bool = False
    bias: float | None = None

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        check_settings(self, self.bias is None or math.isfinite(self.bias), "bias", "a finite number, or null")

    @property
    def needs(self) -> tuple[str, ...]:
        """Further texts of each image, if they are positives."""
        return ("positives",) if self.further else ()

    def start(self) -> SigmoidTerm:
        """Return the term of a new run, its bias not yet set."""
        return SigmoidTerm(self)

    def pairs(self, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """Return scaled similarities, labels and weights of all images and texts, each [B, number of texts]."""
        import torch

        size = len(features.image)
        labels = features.pair_labels()
        texts, signs, weights = [features.text], [labels[:, :size]], [torch.ones_like(labels[:, :size])]
        if self.negatives and features.negatives is not None and features.negative_mask is not None:
            mask = features.negative_mask.flatten()
            texts.append(features.negatives.flatten(0, 1))
            signs.append(labels[:, size:].masked_fill(~mask, 0))
            weight = features.negative_weight
            weights.append((torch.ones_like(mask) if weight is None else weight.flatten()).expand(size, -1))
        if self.further:
            positives: TextSlots = features.require("positives")
            texts.append(positives.features.flatten(0, 1))
            signs.append(features.further_labels())
            weights.append(torch.ones_like(signs[-1]))
        similarity = features.logit_scale * features.image @ torch.cat(texts).T
        return similarity, torch.cat(signs, 1), torch.cat([item.to(similarity.dtype) for item in weights], 1)


class SigmoidTerm(Term):
    """`Sigmoid` during a run: keeps the bias."""

    def __init__(self, config: Sigmoid) -> None:
        import torch

        self._config = config
        self._is_set = config.bias is not None
        self._bias = torch.nn.Parameter(torch.tensor(config.bias or 0.0))

    def __call__(self, features: Features) -> Tensor:
        """Return the loss; the first call sets the bias."""
        import torch

        similarity, labels, weights = self._config.pairs(features)
        if not self._is_set:
            # mean of what is not true, shifted to log-odds of one in the texts an image sees
            texts = (labels != 0).sum(dim=1).to(similarity.dtype).mean()
            with torch.no_grad():
                self._bias.copy_(-similarity[labels == -1].mean() - (texts - 1).clamp_min(1).log())
            self._is_set = True
        signed = labels * (similarity + self._bias.to(similarity.dtype))
        loss = torch.nn.functional.softplus(-signed) * weights * (labels != 0)
        return loss.sum(dim=1).mean()

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the bias."""
        return [self._bias]

    def state_dict(self) -> dict[str, Any]:
        """Return the bias and whether it is set."""
        return {"bias": self._bias.detach().clone(), "placed": self._is_set}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with a saved bias."""
        import torch

        with torch.no_grad():
            self._bias.copy_(state["bias"])
        self._is_set = bool(state["placed"])
