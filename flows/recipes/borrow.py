"""Borrowed captions: what people wrote of the most similar photographs, where an image's own captions contradict it."""

from __future__ import annotations

from curation.knowledge.interface import KnowledgeGraph
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.find_neighbours import FindNeighbours
from curation.stages.negatives.borrow_captions import BorrowCaptions
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE


def borrow(model: ModelSpec, graph: KnowledgeGraph) -> Recipe:
    """Return the recipe: who embeds the images, who knows synonyms and kinds. The control is `--set negatives=null`."""
    return Recipe(
        name="borrow",
        paper="this project; near NegCLIP's hard images (arXiv 2210.01936), VSE++ (arXiv 1707.05612)",
        differs="a neighbour's caption comes as a negative text, without its image, and only where it contradicts a caption of "
        "this one; the foils of `--on foils` are such captions, too, so that benchmark is no measure of this recipe",
        stages=(ParseCaptions(), EmbedSamples(model), FindNeighbours(), BorrowCaptions(graph=graph)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=True),),
        negatives=UniformNegatives(choose=2),
        train=TrainConfig(),
    )
