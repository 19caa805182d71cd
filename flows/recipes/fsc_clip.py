"""FSC-CLIP, and more: negatives of many operations, checked, balanced against text alone, and graded."""

from __future__ import annotations

from curation.contrasts.vocabulary import VocabularyFile
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


def fsc_clip(graph: KnowledgeGraph, vocabulary: VocabularyFile | None) -> Recipe:
    """Return the recipe: who knows siblings and synonyms; what people decided about words that exclude each other."""
    return Recipe(
        name="fsc_clip",
        paper="Oh 2024, Preserving multi-modal capabilities of pre-trained VLMs for improving compositionality, EMNLP, "
        "arXiv 2410.05210",
        differs="negatives are made offline, also of words that the captions themselves set against each other; those that "
        "stay true are taken out and the rest is balanced until text alone tells little; no bigram shuffles",
        stages=(ParseCaptions(), *checked_negatives(graph, vocabulary)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), NegativeContrast(weight=0.5), LocalContrast()),
        negatives=UniformNegatives(choose=3, operations_in_turn=True),
        train=TrainConfig(),
    )
