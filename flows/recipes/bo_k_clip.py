"""Bias-aware knowledge CLIP: M4's weights, knowledge captions, adaptive negatives, FFF's gate and a fair loss together."""

from __future__ import annotations

from curation.contrasts.vocabulary import VocabularyFile
from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import LanguageModel
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.embedding.calibrate_positives import CalibratePositives
from curation.stages.embedding.cluster_embeddings import ClusterEmbeddings
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.find_positives import FindPositives
from curation.stages.selection.balance_attributes import BalanceAttributes
from curation.stages.selection.tag_attributes import TagAttributes
from flows.recipe import Recipe
from flows.recipe_blocks import SCENE_TAGS, SCENES_BALANCED, SCENES_COMPARED, caption_view_stages, checked_negatives
from training.batches.basic import ClusterPlan
from training.batches.similarity import WeightedPlan
from training.batches.text_sampling import CaptionViews
from training.config import TrainConfig
from training.false_negative_gate import PositiveGate
from training.hard_negatives import AdaptiveNegatives
from training.model.spec import ModelSpec
from training.objectives.ce_clip import CrossModalRank, IntraModalContrast
from training.objectives.fairness import GroupParity
from training.objectives.info_nce import InfoNCE


def bo_k_clip(
    model: ModelSpec, graph: KnowledgeGraph, writer: LanguageModel | RuleWriter, vocabulary: VocabularyFile | None
) -> Recipe:
    """Return the recipe: who embeds, who knows, who rewrites, and what people decided about words.

    With the sigmoid: `--set objectives.info_nce=null --set objectives.sigmoid=default`. Controls: `m4`, `ahnm`, `fcl`.
    """
    texts = (*caption_view_stages(graph, writer), *checked_negatives(graph, vocabulary, many=True))
    placed = (EmbedSamples(model), ClusterEmbeddings(), CalibratePositives(), FindPositives())
    return Recipe(
        name="bo_k_clip",
        paper="this project's notes; near M4 (arXiv 2403.04547), Knowledge-CLIP (arXiv 2210.08901), FFF (arXiv 2405.10286)",
        differs="no single paper: samples come as often as M4 weighs them instead of being dropped; without --llm rewrites are "
        "made by rules; the seed graph stands in without --graph",
        stages=(ParseCaptions(), TagAttributes(), BalanceAttributes(choose="weights"), *texts, *placed),
        planner=WeightedPlan(ClusterPlan()),
        objectives=(InfoNCE(negatives=True), IntraModalContrast(weight=2.0), CrossModalRank(), GroupParity()),
        negatives=AdaptiveNegatives(),
        views=CaptionViews(knowledge=0.5),
        gate=PositiveGate(),
        train=TrainConfig(),
        scene_settings=(SCENE_TAGS, SCENES_BALANCED, *SCENES_COMPARED),
    )
