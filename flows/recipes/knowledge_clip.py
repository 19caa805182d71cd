"""Knowledge-CLIP with its knowledge kept as data: captions that say what a graph knows, where the image agrees."""

from __future__ import annotations

from curation.knowledge.interface import KnowledgeGraph
from curation.stages.captions.expand_knowledge import ExpandKnowledge
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.captions.parse_captions import ParseCaptions
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.batches.text_sampling import FurtherTexts
from training.config import TrainConfig
from training.model.spec import ModelSpec
from training.objectives.further_texts import KnowledgeContrast
from training.objectives.info_nce import InfoNCE
from training.objectives.knowledge import Distillation


def knowledge_clip(model: ModelSpec, graph: KnowledgeGraph) -> Recipe:
    """Return the recipe; `model` judges whether an image agrees with what `graph` says."""
    return Recipe(
        name="knowledge_clip",
        paper="Pan 2022, Contrastive language-image pre-training with knowledge graphs, NeurIPS, arXiv 2210.08901",
        differs="no fusion encoder: the graph reaches the model as grounded captions, which an image must find among others'; "
        "distilled towards the model before tuning",
        stages=(ParseCaptions(), LinkConcepts(graph), ExpandKnowledge(graph, model=model)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), KnowledgeContrast(), Distillation()),
        positives=FurtherTexts(captions=False, rewrites=False, knowledge=True),
        train=TrainConfig(),
    )
