"""Adaptive hard negative mining, first cut: negatives just hard enough for the model as it is now."""

from __future__ import annotations

from curation.language.rule_rewrites import RuleWriter
from curation.likeness.evaluation_sets import EvaluationSets
from curation.models.knowledge_graph import KnowledgeGraph
from curation.models.language_model import LanguageModel
from curation.stages.check_images import CheckImages
from curation.stages.cluster_embeddings import ClusterEmbeddings
from curation.stages.embed_samples import EmbedSamples
from curation.stages.expand_knowledge import ExpandKnowledge
from curation.stages.find_duplicates import FindDuplicates
from curation.stages.find_neighbours import FindNeighbours
from curation.stages.hash_images import HashImages
from curation.stages.link_concepts import LinkConcepts
from curation.stages.order_difficulty import OrderDifficulty
from curation.stages.parse_captions import ParseCaptions
from curation.stages.remove_leaks import RemoveLeaks
from curation.stages.rewrite_captions import RewriteCaptions
from curation.stages.swap_words import SwapWords
from flows.recipe import Recipe
from training.config import TrainConfig
from training.mining import AdaptiveNegatives
from training.model import ModelSpec
from training.objectives import InfoNCE, NegativeContrast
from training.planners import ClusterPlan, CurriculumPlan
from training.views import CaptionViews


def ahnm(
    model: ModelSpec, graph: KnowledgeGraph, writer: LanguageModel | RuleWriter, against: EvaluationSets
) -> Recipe:
    """Return the recipe.

    Args:
        model: Embeds what clusters and difficulty are made from.
        graph: Knows what captions may add.
        writer: Rewrites captions.
        against: Evaluation sets, from ``--against``.
    """
    views = (LinkConcepts(graph), ExpandKnowledge(graph), RewriteCaptions(writer, max_captions=2))
    seen = (CheckImages(), HashImages())
    # stages that compare all samples come last, so that new photographs do not put those before them in doubt
    alike = (RemoveLeaks(against.through(*seen)), FindDuplicates(keep="all"))
    ordered = (EmbedSamples(model), *alike, FindNeighbours(), ClusterEmbeddings(), OrderDifficulty())
    return Recipe(
        name="ahnm",
        paper="this project; near CE-CLIP (arXiv 2306.08832), SimCLIP (FITML 2024), FSC-CLIP (arXiv 2410.05210)",
        differs="candidates are swaps only so far; nothing flows back into the next version yet",
        stages=(*seen, ParseCaptions(), *views, SwapWords(), *ordered),
        planner=CurriculumPlan(ClusterPlan()),
        objectives=(InfoNCE(negatives=False), NegativeContrast(weight=0.5)),
        negatives=AdaptiveNegatives(),
        views=CaptionViews(knowledge=0.5),
        train=TrainConfig(),
    )
