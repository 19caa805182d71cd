"""A recipe made of the examples: captions counted, batches by difficulty, a hinge next to InfoNCE."""

from __future__ import annotations

from curation.stages.captions.compare_length import CompareLength
from curation.stages.captions.count_words import CountWords
from training.batches.sorted_plan import SortedPlan
from training.objectives.margin import Margin

from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.embedding.cluster_embeddings import ClusterEmbeddings
from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.order_difficulty import OrderDifficulty
from curation.stages.negatives.swap_words import SwapWords
from flows.recipe import Recipe
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE


def hinge_clip(model: ModelSpec) -> Recipe:
    """Return the recipe; `model` embeds the images that difficulty is measured with."""
    return Recipe(
        name="hinge_clip",
        paper="this example",
        differs="it is an example",
        stages=(
            CountWords(at_least=4),
            CompareLength(),
            ParseCaptions(),
            SwapWords(),
            EmbedSamples(model),
            ClusterEmbeddings(),
            OrderDifficulty(),
        ),
        planner=SortedPlan(),
        objectives=(InfoNCE(negatives=True), Margin(weight=0.5)),
        negatives=UniformNegatives(choose=1),
        train=TrainConfig(),
    )
