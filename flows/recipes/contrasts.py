"""Contrasts: negatives of words that exclude each other, learned from the corpus's own captions, for any kind of picture."""

from __future__ import annotations

from curation.contrasts.vocabulary import VocabularyFile
from curation.knowledge.interface import KnowledgeGraph
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from curation.stages.negatives.grade_negatives import GradeNegatives
from curation.stages.negatives.mine_contrasts import MineContrasts
from curation.stages.negatives.refine_negatives import RefineNegatives
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.objectives.info_nce import InfoNCE
from training.objectives.negative_contrast import NegativeContrast


def contrasts(graph: KnowledgeGraph, vocabulary: VocabularyFile | None) -> Recipe:
    """Return the recipe; `graph` knows synonyms, `vocabulary` what people have decided about the words."""
    judged = (FindFalseNegatives(("mined_negatives",), graph, "exactly"), RefineNegatives(("true_negatives",)))
    return Recipe(
        name="contrasts",
        paper="this project; near Harris 1954 (distributional structure), NegCLIP (arXiv 2210.01936)",
        differs="what may stand in place of what is learned from the captions to be trained on, not from word lists; "
        "exchanges go as often in one direction as in the other",
        stages=(
            ParseCaptions(),
            MineContrasts(graph=graph, vocabulary=vocabulary),
            *judged,
            GradeNegatives(("refined_negatives",), graph=graph),
        ),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), NegativeContrast(weight=0.5)),
        negatives=UniformNegatives(choose=3),
        train=TrainConfig(),
    )
