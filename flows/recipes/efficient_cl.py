"""EfficientCL carried over to CLIP: captions and their cut versions mean the same, more and more is cut."""

from __future__ import annotations

from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.objectives.cutoff import CutoffContrast
from training.objectives.info_nce import InfoNCE


def efficient_cl() -> Recipe:
    """Return the recipe."""
    return Recipe(
        name="efficient_cl",
        paper="Ye 2021, Efficient contrastive learning via novel data augmentation and curriculum learning, EMNLP, "
        "arXiv 2109.05941",
        differs="a text-only method: here its term stands beside CLIP's; tokens are cut at the input; no PCA jitter, no masked "
        "language modelling",
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), CutoffContrast()),
        train=TrainConfig(),
    )
