"""Adaptive hard negative mining: every part at once, and what training learns flows back into the next version."""

from __future__ import annotations

from curation.contrasts.vocabulary import VocabularyFile
from curation.dedup.evaluation_sets import EvaluationSets
from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import LanguageModel
from curation.models.feedback_file import FeedbackFile
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.embedding.calibrate_positives import CalibratePositives
from curation.stages.embedding.cluster_embeddings import ClusterEmbeddings
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.find_neighbours import FindNeighbours
from curation.stages.embedding.find_positives import FindPositives
from curation.stages.embedding.order_difficulty import OrderDifficulty
from curation.stages.hygiene.check_images import CheckImages
from curation.stages.hygiene.find_duplicates import FindDuplicates
from curation.stages.hygiene.hash_images import HashImages
from curation.stages.hygiene.remove_leaks import RemoveLeaks
from curation.stages.negatives.apply_feedback import ApplyFeedback
from flows.recipe import Recipe
from flows.recipe_blocks import caption_view_stages, checked_negatives
from training.batches.basic import ClusterPlan, CurriculumPlan
from training.batches.text_sampling import CaptionViews
from training.config import TrainConfig
from training.false_negative_gate import PositiveGate
from training.hard_negatives import AdaptiveNegatives
from training.model.spec import ModelSpec
from training.objectives.ce_clip import CrossModalRank, IntraModalContrast
from training.objectives.info_nce import InfoNCE


def ahnm(
    model: ModelSpec,
    graph: KnowledgeGraph,
    writer: LanguageModel | RuleWriter,
    against: EvaluationSets,
    feedback: FeedbackFile | None,
    vocabulary: VocabularyFile | None,
) -> Recipe:
    """Return the recipe: who embeds, knows, rewrites, is kept apart from; what a run has learned and people decided."""
    seen = (CheckImages(), HashImages())  # what compares all samples stands last: new photographs touch it alone
    checked = checked_negatives(graph, vocabulary, many=True)
    texts = (ParseCaptions(), *caption_view_stages(graph, writer), *checked, ApplyFeedback(feedback=feedback))
    alike = (EmbedSamples(model), RemoveLeaks(against.with_stages(*seen)), FindDuplicates(keep="all"))
    placed = (FindNeighbours(), ClusterEmbeddings(), OrderDifficulty(), CalibratePositives(), FindPositives())
    return Recipe(
        name="ahnm",
        paper="this project; near CE-CLIP (arXiv 2306.08832), SimCLIP (FITML 2024), FSC-CLIP (arXiv 2410.05210)",
        differs="no single paper: negatives of many kinds, checked, balanced, chosen by what the model finds hard now",
        stages=(*seen, *texts, *alike, *placed),
        planner=CurriculumPlan(ClusterPlan(), start_fraction=1.0),  # holding hard samples back has cost retrieval
        objectives=(InfoNCE(negatives=True), IntraModalContrast(weight=2.0), CrossModalRank()),  # 0.3: luck decides
        negatives=AdaptiveNegatives(),
        views=CaptionViews(knowledge=0.5),
        gate=PositiveGate(),
        train=TrainConfig(),
    )
