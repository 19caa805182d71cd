"""FSC-CLIP, and more: negatives of many operations, checked, balanced against text alone, and graded."""

from __future__ import annotations

from curation.knowledge.interface import KnowledgeGraph
from curation.stages.captions.parse_captions import ParseCaptions
from flows.recipe import Recipe
from flows.recipe_blocks import checked_negatives
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.objectives.info_nce import InfoNCE
from training.objectives.local_contrast import LocalContrast
from training.objectives.negative_contrast import NegativeContrast


def fsc_clip(graph: KnowledgeGraph) -> Recipe:
    """Return the recipe; `graph` knows siblings and synonyms."""
    return Recipe(
        name="fsc_clip",
        paper="Oh 2024, Preserving multi-modal capabilities of pre-trained VLMs for improving compositionality, EMNLP, "
        "arXiv 2410.05210",
        differs="negatives are made offline, those that stay true are taken out and the rest is balanced until text alone "
        "tells little; no bigram shuffles",
        stages=(ParseCaptions(), *checked_negatives(graph)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), NegativeContrast(weight=0.5), LocalContrast()),
        negatives=UniformNegatives(choose=3),
        train=TrainConfig(),
    )
