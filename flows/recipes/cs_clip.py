"""CS-CLIP: beside the caption its phrases and words, each with a foil of its own, so that what is half true loses."""

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
from training.objectives.unit_contrast import UnitContrast


def cs_clip(graph: KnowledgeGraph, vocabulary: VocabularyFile | None) -> Recipe:
    """Return the recipe: who knows siblings and synonyms; what people decided about words that exclude each other."""
    return Recipe(
        name="cs_clip",
        paper="CS-CLIP 2026 (half-truths), github.com/kargibora/CS-CLIP",
        differs="units are noun phrases and changed words of the parse, and foils come from checked negatives, where a language "
        "model makes both; no relations as units; equal units of two images are no negatives; LoRA",
        stages=(ParseCaptions(), *checked_negatives(graph, vocabulary), MatchPhrases(("graded_negatives",))),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=True), UnitContrast()),
        negatives=UniformNegatives(choose=1, operations_in_turn=True),
        train=TrainConfig(),
    )
