"""Adaptive hard negative mining, first cut: negatives just hard enough for the model as it is now."""

from __future__ import annotations

from curation.stages.cluster_embeddings import ClusterEmbeddings
from curation.stages.embed_samples import EmbedSamples
from curation.stages.order_difficulty import OrderDifficulty
from curation.stages.parse_captions import ParseCaptions
from curation.stages.swap_words import SwapWords
from flows.recipe import Recipe
from training.config import TrainConfig
from training.mining import AdaptiveNegatives
from training.model import ModelSpec
from training.objectives import InfoNCE, NegativeContrast
from training.planners import ClusterPlan, CurriculumPlan


def ahnm(model: ModelSpec) -> Recipe:
    """Return the recipe; `model` embeds what clusters and difficulty are made from."""
    return Recipe(
        name="ahnm",
        paper="this project; near CE-CLIP (arXiv 2306.08832), SimCLIP (FITML 2024), FSC-CLIP (arXiv 2410.05210)",
        differs="candidates are swaps only so far; nothing flows back into the next version yet",
        stages=(ParseCaptions(), SwapWords(), EmbedSamples(model), ClusterEmbeddings(), OrderDifficulty()),
        planner=CurriculumPlan(ClusterPlan()),
        objectives=(InfoNCE(negatives=False), NegativeContrast(weight=0.5)),
        negatives=AdaptiveNegatives(),
        train=TrainConfig(),
    )
