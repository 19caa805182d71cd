"""Small knowledge CLIP: knowledge captions, SimCLIP's clusters, adaptive negatives and a fair loss, for small models."""

from __future__ import annotations

from curation.contrasts.vocabulary import VocabularyFile
from curation.knowledge.interface import KnowledgeGraph
from curation.stages.captions.expand_knowledge import ExpandKnowledge
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.embedding.calibrate_positives import CalibratePositives
from curation.stages.embedding.cluster_embeddings import ClusterEmbeddings
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.find_positives import FindPositives
from curation.stages.selection.tag_attributes import TagAttributes
from flows.recipe import Recipe
from flows.recipe_blocks import SCENE_TAGS, SCENES_COMPARED, checked_negatives
from training.batches.similarity import SimclipPlan
from training.batches.text_sampling import CaptionViews
from training.config import TrainConfig
from training.false_negative_gate import PositiveGate
from training.hard_negatives import AdaptiveNegatives
from training.model.spec import ModelSpec
from training.objectives.ce_clip import CrossModalRank, IntraModalContrast
from training.objectives.fairness import GroupParity
from training.objectives.info_nce import InfoNCE


def small_knowledge_clip(model: ModelSpec, graph: KnowledgeGraph, vocabulary: VocabularyFile | None) -> Recipe:
    """Return the recipe: who embeds what batches are clustered by, who knows, what people decided about words.

    Leaving one part out, as rows of `compare` (docs/evaluate.md): knowledge `views=null`, clusters `planner=shuffled`,
    the fair loss `objectives.group_parity=null`, adaptive negatives `negatives=uniform`. The sigmoid in InfoNCE's place:
    `objectives.info_nce=null` and `objectives.sigmoid=default`.
    """
    knowledge = (LinkConcepts(graph), ExpandKnowledge(graph))
    placed = (EmbedSamples(model), ClusterEmbeddings(), CalibratePositives(), FindPositives())
    return Recipe(
        name="small_knowledge_clip",
        paper="this project's notes; near SimCLIP (FITML 2024), Knowledge-CLIP (arXiv 2210.08901), CE-CLIP (arXiv 2306.08832)",
        differs="no single paper: facts are captions of their own; clusters bring false negatives together, so that FFF's gate "
        "takes them out again; the seed graph stands in without --graph",
        stages=(
            ParseCaptions(),
            TagAttributes(),
            *knowledge,
            *checked_negatives(graph, vocabulary, many=True),
            *placed,
        ),
        planner=SimclipPlan(),
        objectives=(InfoNCE(negatives=True), IntraModalContrast(weight=2.0), CrossModalRank(), GroupParity()),
        negatives=AdaptiveNegatives(),
        views=CaptionViews(knowledge=0.5),
        gate=PositiveGate(),
        train=TrainConfig(),
        scene_settings=(SCENE_TAGS, *SCENES_COMPARED),
    )
