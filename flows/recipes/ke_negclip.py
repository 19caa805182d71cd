"""KE-NegCLIP: NegCLIP's negatives and those that contradict a known fact, and the facts themselves as questions and answers."""

from __future__ import annotations

from curation.knowledge.interface import KnowledgeGraph
from curation.stages.captions.expand_knowledge import ExpandKnowledge
from curation.stages.captions.link_concepts import LinkConcepts
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.embedding.cluster_embeddings import ClusterEmbeddings
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.find_neighbours import FindNeighbours
from curation.stages.embedding.order_difficulty import OrderDifficulty
from curation.stages.negatives.contrast_knowledge import ContrastKnowledge
from curation.stages.negatives.swap_words import SwapWords
from flows.recipe import Recipe
from training.batches.similarity import NeighbourPlan
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE
from training.objectives.knowledge import EntityContrast, NeighbourContrast, RelationContrast, TripletContrast


def ke_negclip(model: ModelSpec, graph: KnowledgeGraph) -> Recipe:
    """Return the recipe: who embeds the images that batches are built from; who knows facts about what captions name.

    The seed graph knows little. Build one of ConceptNet's (`clipcurate kg build`, docs/curate.md) and give it as `--graph`. The
    control without knowledge is `negclip`.
    """
    knowledge = (LinkConcepts(graph), ExpandKnowledge(graph))
    alike = (EmbedSamples(model), FindNeighbours(), ClusterEmbeddings(), OrderDifficulty())
    return Recipe(
        name="ke_negclip",
        paper="this project's notes; near NegCLIP (arXiv 2210.01936) and Knowledge-CLIP (Pan 2022, arXiv 2210.08901)",
        differs="facts are texts that CLIP's own text tower reads, without a fusion encoder or a graph network; only facts that "
        "the image's captions support; terms over facts weigh a tenth each",
        stages=(ParseCaptions(), *knowledge, SwapWords(), ContrastKnowledge(graph), *alike),
        planner=NeighbourPlan(),
        objectives=(
            InfoNCE(negatives=True),
            TripletContrast(weight=0.1),
            RelationContrast(),
            EntityContrast(),
            NeighbourContrast(),
        ),
        negatives=UniformNegatives(choose=1, operations_in_turn=True),
        train=TrainConfig(),
    )
