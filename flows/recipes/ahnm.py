"""Adaptive hard negative mining: every part at once, and what training learns flows back into the next version."""

from __future__ import annotations

from curation.language.rule_rewrites import RuleWriter
from curation.models.feedback_file import FeedbackFile
from curation.models.knowledge_graph import KnowledgeGraph
from curation.models.language_model import LanguageModel
from curation.stages.calibrate_positives import CalibratePositives
from curation.stages.cluster_embeddings import ClusterEmbeddings
from curation.stages.embed_samples import EmbedSamples
from curation.stages.expand_knowledge import ExpandKnowledge
from curation.stages.find_neighbours import FindNeighbours
from curation.stages.heed_feedback import HeedFeedback
from curation.stages.link_concepts import LinkConcepts
from curation.stages.order_difficulty import OrderDifficulty
from curation.stages.parse_captions import ParseCaptions
from curation.stages.rewrite_captions import RewriteCaptions
from flows.parts import checked_negatives
from flows.recipe import Recipe
from training.config import TrainConfig
from training.mining import AdaptiveNegatives
from training.model import ModelSpec
from training.objectives import InfoNCE, NegativeContrast
from training.planners import ClusterPlan, CurriculumPlan
from training.positives import PositiveGate
from training.views import CaptionViews


def ahnm(
    model: ModelSpec, graph: KnowledgeGraph, writer: LanguageModel | RuleWriter, feedback: FeedbackFile | None
) -> Recipe:
    """Return the recipe: `model` embeds, `graph` knows, `writer` rewrites, `feedback` is what a run has learned."""
    views = (LinkConcepts(graph), ExpandKnowledge(graph), RewriteCaptions(writer, max_captions=2))
    placed = (EmbedSamples(model), FindNeighbours(), ClusterEmbeddings(), OrderDifficulty(), CalibratePositives())
    return Recipe(
        name="ahnm",
        paper="this project; near CE-CLIP (arXiv 2306.08832), SimCLIP (FITML 2024), FSC-CLIP (arXiv 2410.05210)",
        differs="no single paper: negatives of many kinds, checked and balanced, are chosen by what the model finds hard now",
        stages=(ParseCaptions(), *views, *checked_negatives(graph), HeedFeedback(feedback=feedback), *placed),
        planner=CurriculumPlan(ClusterPlan()),
        objectives=(InfoNCE(negatives=False), NegativeContrast(weight=0.5)),
        negatives=AdaptiveNegatives(),
        views=CaptionViews(knowledge=0.5),
        gate=PositiveGate(),
        train=TrainConfig(),
    )
