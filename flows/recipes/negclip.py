"""NegCLIP: captions with two spans swapped are negatives of their image, in batches of similar images."""

from __future__ import annotations

from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.embedding.cluster_embeddings import ClusterEmbeddings
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.find_neighbours import FindNeighbours
from curation.stages.embedding.order_difficulty import OrderDifficulty
from curation.stages.negatives.swap_words import SwapWords
from flows.recipe import Recipe
from training.batches.similarity import NeighbourPlan
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE


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
