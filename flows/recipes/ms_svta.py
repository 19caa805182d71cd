"""MS-SVTA: parts of the image against captions, phrases and words, each beside what a negative has in its place."""

from __future__ import annotations

from curation.contrasts.vocabulary import VocabularyFile
from curation.knowledge.interface import KnowledgeGraph
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.match_phrases import MatchPhrases
from flows.recipe import Recipe
from flows.recipe_blocks import checked_negatives
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.objectives.info_nce import InfoNCE
from training.objectives.local_contrast import MultiScaleContrast
from training.objectives.negative_contrast import NegativeContrast


def ms_svta(graph: KnowledgeGraph, vocabulary: VocabularyFile | None) -> Recipe:
    """Return the recipe: who knows siblings and synonyms; what people decided about words that exclude each other.

    The control without local terms: `--set objectives.multi_scale_contrast=null`; with tokens alone: `fsc_clip`.
    """
    return Recipe(
        name="ms_svta",
        paper="this project's notes; near FSC-CLIP (arXiv 2410.05210)",
        differs="local terms are for training only, pooling has no parameters, and a phrase is compared with its own foil, not "
        "with other images' phrases",
        stages=(ParseCaptions(), *checked_negatives(graph, vocabulary), MatchPhrases(("graded_negatives",))),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), NegativeContrast(weight=0.5), MultiScaleContrast()),
        negatives=UniformNegatives(choose=3, operations_in_turn=True),
        train=TrainConfig(),
    )
