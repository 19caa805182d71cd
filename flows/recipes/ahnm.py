"""Adaptive hard negative mining: every part at once, and what training learns flows back into the next version."""

from __future__ import annotations

from curation.language.rule_rewrites import RuleWriter
from curation.likeness.evaluation_sets import EvaluationSets
from curation.models.feedback_file import FeedbackFile
from curation.models.knowledge_graph import KnowledgeGraph
from curation.models.language_model import LanguageModel
from curation.stages.calibrate_positives import CalibratePositives
from curation.stages.check_images import CheckImages
from curation.stages.cluster_embeddings import ClusterEmbeddings
from curation.stages.embed_samples import EmbedSamples
from curation.stages.find_duplicates import FindDuplicates
from curation.stages.find_neighbours import FindNeighbours
from curation.stages.hash_images import HashImages
from curation.stages.heed_feedback import HeedFeedback
from curation.stages.order_difficulty import OrderDifficulty
from curation.stages.parse_captions import ParseCaptions
from curation.stages.remove_leaks import RemoveLeaks
from flows.parts import checked_negatives, told_views
from flows.recipe import Recipe
from training.config import TrainConfig
from training.mining import AdaptiveNegatives
from training.model import ModelSpec
from training.objectives import MemoryContrast, NegativeContrast
from training.planners import ClusterPlan, CurriculumPlan
from training.positives import PositiveGate
from training.views import CaptionViews


def ahnm(
    model: ModelSpec,
    graph: KnowledgeGraph,
    writer: LanguageModel | RuleWriter,
    against: EvaluationSets,
    feedback: FeedbackFile | None,
) -> Recipe:
    """Return the recipe: who embeds, knows, rewrites, is kept apart from, and what an earlier run has learned."""
    seen = (CheckImages(), HashImages())
    negatives = (*checked_negatives(graph, exchanges=True), HeedFeedback(feedback=feedback))
    texts = (ParseCaptions(), *told_views(graph, writer), *negatives)
    # stages that compare all samples come last, so that new photographs do not put those before them in doubt
    alike = (EmbedSamples(model), RemoveLeaks(against.through(*seen)), FindDuplicates(keep="all"))
    placed = (FindNeighbours(), ClusterEmbeddings(), OrderDifficulty(), CalibratePositives())
    return Recipe(
        name="ahnm",
        paper="this project; near CE-CLIP (arXiv 2306.08832), SimCLIP (FITML 2024), FSC-CLIP (arXiv 2410.05210)",
        differs="no single paper: negatives of many kinds, checked, most balanced, chosen by what the model finds hard now",
        stages=(*seen, *texts, *alike, *placed),
        planner=CurriculumPlan(ClusterPlan()),
        objectives=(MemoryContrast(weight=0.2), NegativeContrast(weight=1.0)),
        negatives=AdaptiveNegatives(),
        views=CaptionViews(knowledge=0.5),
        gate=PositiveGate(),
        train=TrainConfig(wise_ft=0.7),
    )
