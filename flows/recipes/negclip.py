"""NegCLIP: captions with two spans swapped are negatives of their image, in batches of similar images."""

from __future__ import annotations

from curation.stages.cluster_embeddings import ClusterEmbeddings
from curation.stages.embed_samples import EmbedSamples
from curation.stages.find_neighbours import FindNeighbours
from curation.stages.order_difficulty import OrderDifficulty
from curation.stages.parse_captions import ParseCaptions
from curation.stages.swap_words import SwapWords
from flows.recipe import Recipe
from training.config import TrainConfig
from training.mining import UniformNegatives
from training.model import ModelSpec
from training.neighbour_planners import NeighbourPlan
from training.objectives import InfoNCE


def negclip(model: ModelSpec) -> Recipe:
    """Return the recipe; `model` embeds the images that batches are built from."""
    return Recipe(
        name="negclip",
        paper="Yuksekgonul 2023, When and why vision-language models behave like bags-of-words, ICLR, arXiv 2210.01936",
        differs="a neighbour takes its place in the epoch instead of coming in addition; LoRA instead of full fine-tuning",
        stages=(
            ParseCaptions(),
            SwapWords(),
            EmbedSamples(model),
            FindNeighbours(),
            ClusterEmbeddings(),
            OrderDifficulty(),
        ),
        planner=NeighbourPlan(),
        objectives=(InfoNCE(negatives=True),),
        negatives=UniformNegatives(choose=1),
        train=TrainConfig(),
    )
