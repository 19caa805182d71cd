"""Cutoff: a caption and the same caption without a run of its tokens mean the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.interface import Objective
from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features


@dataclass(frozen=True)
class CutoffContrast(Objective):
    """A caption must find its own cut version among all captions and cut versions of the batch.

    NT-Xent over the 2B texts. What is cut grows over the run from `ratio_start` to `ratio_end` of the tokens.

    Attributes:
        weight: Factor of this term in the loss.
        temperature: Divides similarities.
        ratio_start: Share of tokens cut at the first step.
        ratio_end: Share at the last.

    Source: Ye et al. 2021 (EfficientCL, arXiv 2109.05941), section 3: cutoff with a curriculum; NT-Xent of Chen et al.
        2020 (arXiv 2002.05709).
    Differs: tokens are cut at the input, not in a hidden layer, so that any text tower can do it; no PCA jitter, which
        the released code reduces to adding one number.
    """

    name: ClassVar[str] = "cutoff_contrast"
    source: ClassVar[str] = "Ye et al. 2021 (EfficientCL, arXiv 2109.05941), section 3"
    needs: ClassVar[tuple[str, ...]] = ("cut_text",)

    weight: float = 0.1
    temperature: float = 0.05
    ratio_start: float = 0.01
    ratio_end: float = 0.11

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        check_settings(self, self.temperature > 0, "temperature", "above 0")
        check_settings(self, 0 <= self.ratio_start <= 1, "ratio_start", "0 to 1")
        check_settings(self, 0 <= self.ratio_end <= 1, "ratio_end", "0 to 1")

    def cut_ratio(self, progress: float) -> float:
        """Return the share of tokens to cut at a share of the run."""
        return self.ratio_start + (self.ratio_end - self.ratio_start) * progress

    def __call__(self, features: Features) -> Tensor:
        """Return the mean over all 2B texts."""
        import torch

        size = len(features.text)
        both = torch.cat([features.text, features.require("cut_text")])
        logits = both @ both.T / self.temperature
        logits = logits.masked_fill(torch.eye(2 * size, dtype=torch.bool, device=logits.device), float("-inf"))
        target = torch.arange(2 * size, device=logits.device).roll(size)
        return torch.nn.functional.cross_entropy(logits, target)
