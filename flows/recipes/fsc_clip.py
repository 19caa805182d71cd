"""FSC-CLIP's data side, and more: negatives of many operations, checked, balanced against text alone, and graded."""

from __future__ import annotations

from curation.models.knowledge_graph import KnowledgeGraph
from curation.stages.bind_attributes import BindAttributes
from curation.stages.change_numbers import ChangeNumbers
from curation.stages.find_false_negatives import FindFalseNegatives
from curation.stages.grade_negatives import GradeNegatives
from curation.stages.invert_relations import InvertRelations
from curation.stages.parse_captions import ParseCaptions
from curation.stages.refine_negatives import RefineNegatives
from curation.stages.replace_words import ReplaceWords
from curation.stages.swap_roles import SwapRoles
from curation.stages.swap_words import SwapWords
from flows.recipe import Recipe
from training.config import TrainConfig
from training.mining import UniformNegatives
from training.objectives import InfoNCE, NegativeContrast
from training.planners import ShuffledPlan

FIELDS = (
    "swap_negatives",
    "replace_negatives",
    "bind_negatives",
    "role_negatives",
    "space_negatives",
    "number_negatives",
)


def fsc_clip(graph: KnowledgeGraph) -> Recipe:
    """Return the recipe; `graph` knows siblings and synonyms."""
    made = (SwapWords(), ReplaceWords(graph=graph), BindAttributes(), SwapRoles(), InvertRelations(), ChangeNumbers())
    judged = (FindFalseNegatives(FIELDS, graph, "exactly", like_swaps=True), RefineNegatives(("true_negatives",)))
    return Recipe(
        name="fsc_clip",
        paper="Oh 2024, Preserving multi-modal capabilities of pre-trained VLMs for improving compositionality, EMNLP, "
        "arXiv 2410.05210",
        differs="negatives are made offline, those that stay true are taken out and the rest is balanced until text alone "
        "tells little; no bigram shuffles; the local loss is not here yet",
        stages=(ParseCaptions(), *made, *judged, GradeNegatives(("refined_negatives",), graph=graph)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), NegativeContrast(weight=0.5)),
        negatives=UniformNegatives(choose=3),
        train=TrainConfig(),
    )
