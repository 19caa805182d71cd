"""Knowledge-CLIP with CLIP's two towers alone: facts as texts, and distillation from the untuned model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from training.objectives.info_nce import contrast
from training.objectives.interface import Objective

if TYPE_CHECKING:
    from torch import Tensor

    from training.facts import Triplets
    from training.features import Features


@dataclass(frozen=True)
class TripletContrast(Objective):
    """A question of head and relation must find its tail among those of the batch's facts, and the tail its question.

    With Q the questions and Z the tails' features: the mean of the cross-entropies of t Q Z^T and its transpose, without
    the questions and tails of other facts that are a fact of the batch together.

    Attributes:
        weight: Factor of this term in the loss.

    Source: Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3, the entity-to-entity loss (E2E).
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
        logits = features.logit_scale * facts.query @ facts.entity[facts.tail].T
        known = torch.zeros(
            len(facts.entity), len(facts.relation_text), len(facts.entity), dtype=torch.bool, device=logits.device
        )
        known[facts.head, facts.relation, facts.tail] = True
        true = known[facts.head, facts.relation][:, facts.tail].fill_diagonal_(fill_value=False)
        logits = logits.masked_fill(true, float("-inf"))
        target = torch.arange(len(logits), device=logits.device)
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


@dataclass(frozen=True)
class RelationContrast(Objective):
    """Head and tail must find the relation between them among the relations of the batch.

    The cross-entropy of t P R^T, P the features of "head, tail" and R those of the relations' words, without other
    relations that a fact of the batch has between the same two.

    Attributes:
        weight: Factor of this term in the loss.

    Source: Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3, the entity-to-relation loss (E2R).
    Differs: relations are texts of CLIP's text tower instead of classes with weights of their own, and those of the batch
        instead of all; head and tail are one text.
    """

    name: ClassVar[str] = "relation_contrast"
    source: ClassVar[str] = "Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3"
    needs: ClassVar[tuple[str, ...]] = ("triplets",)

    weight: float = 0.1

    def __call__(self, features: Features) -> Tensor:
        """Return the mean over facts; 0 when the batch has fewer than two relations."""
        import torch

        facts: Triplets = features.require("triplets")
        if len(facts.relation_text) < 2:
            return 0.0 * features.text.sum()
        logits = features.logit_scale * facts.pair @ facts.relation_text.T
        size = len(facts.entity)
        true = torch.zeros(size, size, len(facts.relation_text), dtype=torch.bool, device=logits.device)
        true[facts.head, facts.tail, facts.relation] = True
        others = true[facts.head, facts.tail].scatter(1, facts.relation[:, None], value=False)
        return torch.nn.functional.cross_entropy(logits.masked_fill(others, float("-inf")), facts.relation)


@dataclass(frozen=True)
class EntityContrast(Objective):
    """An entity must find those that a fact joins it with among all entities of the batch (knowledge contrast, KCL).

    With z = t E E^T, E the entities' features: the mean over entities of the mean over their neighbours of -log softmax
    over all other entities.

    Attributes:
        weight: Factor of this term in the loss.

    Source: this project's notes, between the entities of Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901); several
        positives: Khosla et al. 2020, equation 2 (arXiv 2004.11362).
    Differs: entities are words read by CLIP's text tower; a fact's relation plays no part.
    """

    name: ClassVar[str] = "entity_contrast"
    source: ClassVar[str] = "this project's notes; Khosla et al. 2020, equation 2 (arXiv 2004.11362)"
    needs: ClassVar[tuple[str, ...]] = ("triplets",)

    weight: float = 0.1

    def __call__(self, features: Features) -> Tensor:
        """Return the mean; 0 when the batch has fewer than three entities, which leave nothing to be told apart."""
        import torch

        facts: Triplets = features.require("triplets")
        linked = _neighbours(facts)
        rows = linked.any(dim=1)
        if len(linked) < 3 or not bool(rows.any()):
            return 0.0 * features.text.sum()
        labels = (2 * linked.to(torch.int8) - 1).fill_diagonal_(0)
        return contrast(features.logit_scale * facts.entity[rows] @ facts.entity.T, labels[rows]).mean()


@dataclass(frozen=True)
class NeighbourContrast(Objective):
    """The mean of an entity's neighbours must find it among all entities of the batch.

    With g_e the normalised mean of the features of those that a fact joins e with: the mean over entities of the
    cross-entropy of t g_e E^T at e, without the neighbours themselves, which the mean is made of.

    Attributes:
        weight: Factor of this term in the loss.

    Source: Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3, the graph-to-entity loss (G2E).
    Differs: a mean without parameters in place of a graph network, over the facts of the batch.
    """

    name: ClassVar[str] = "neighbour_contrast"
    source: ClassVar[str] = "Pan et al. 2022 (Knowledge-CLIP, arXiv 2210.08901), section 3.3"
    needs: ClassVar[tuple[str, ...]] = ("triplets",)

    weight: float = 0.1

    def __call__(self, features: Features) -> Tensor:
        """Return the mean; 0 when the batch has fewer than three entities."""
        import torch

        facts: Triplets = features.require("triplets")
        linked = _neighbours(facts)
        rows = linked.any(dim=1).nonzero()[:, 0]
        if len(linked) < 3 or not len(rows):
            return 0.0 * features.text.sum()
        mean = torch.nn.functional.normalize(linked[rows].to(facts.entity.dtype) @ facts.entity, dim=1)
        logits = features.logit_scale * mean @ facts.entity.T
        return torch.nn.functional.cross_entropy(logits.masked_fill(linked[rows], float("-inf")), rows)


def _neighbours(facts: Triplets) -> Tensor:
    """Return which entities a fact joins, either way, bool [E, E]; none is its own neighbour."""
    import torch

    size = len(facts.entity)
    linked = torch.zeros(size, size, dtype=torch.bool, device=facts.entity.device)
    linked[facts.head, facts.tail] = linked[facts.tail, facts.head] = True
    return linked.fill_diagonal_(fill_value=False)


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
