"""Knowledge-CLIP with CLIP's two towers alone: facts as texts, and distillation from the untuned model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.interface import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features, Triplets


@dataclass(frozen=True)
class TripletContrast(Objective):
    """A question of head and relation must find its tail among those of the batch's facts, and the tail its question.

    The mean of the cross-entropies of t Q Z^T and its transpose; equal tails of one relation are no negatives.

    Attributes:
        weight: Factor of this term in the loss.

    Source: Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3, the entity-to-entity loss.
    Differs: head and relation are one text, read by CLIP's text tower; the paper fuses token sequences in an encoder of
        its own.
    """

    name: ClassVar[str] = "triplet_contrast"
    source: ClassVar[str] = "Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3"
    needs: ClassVar[tuple[str, ...]] = ("triplets",)

    weight: float = 0.5

    def __call__(self, features: Features) -> Tensor:
        """Return the mean of both directions; 0 when the batch has fewer than two facts."""
        import torch

        facts: Triplets = features.require("triplets")
        if len(facts.query) < 2:
            return 0.0 * features.text.sum()
        logits = features.logit_scale * facts.query @ facts.tail.T
        # equal texts have equal features up to rounding, whatever batch they were encoded in
        doubles = (facts.tail @ facts.tail.T > 1 - 1e-5) & (facts.relation[:, None] == facts.relation)
        doubles &= ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        logits = logits.masked_fill(doubles, float("-inf"))
        target = torch.arange(len(logits), device=logits.device)
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


@dataclass(frozen=True)
class Distillation(Objective):
    """The tuned model's similarities of the batch's pairs stay near those of the untuned one.

    The mean of KL(teacher || student) over images (among texts) and over texts (among images), both with the student's
    scale.

    Attributes:
        weight: Factor of this term in the loss.

    Source: Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3, knowledge distillation against forgetting.
    Differs: the teacher shares the student's scale, so that only directions are compared.
    """

    name: ClassVar[str] = "distillation"
    source: ClassVar[str] = "Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3"
    needs: ClassVar[tuple[str, ...]] = ("teacher_image", "teacher_text")

    weight: float = 1.0

    def __call__(self, features: Features) -> Tensor:
        """Return the mean of both directions."""
        import torch

        scale = features.logit_scale
        student = scale * features.image @ features.text.T
        teacher = scale.detach() * features.require("teacher_image") @ features.require("teacher_text").T
        terms = [
            torch.nn.functional.kl_div(
                own.log_softmax(dim=1), goal.log_softmax(dim=1), reduction="batchmean", log_target=True
            )
            for own, goal in ((student, teacher), (student.T, teacher.T))
        ]
        return (terms[0] + terms[1]) / 2
