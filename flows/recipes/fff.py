"""FFF's data side: from which similarity on samples of a batch are no negatives of each other."""

from __future__ import annotations

from curation.stages.calibrate_positives import CalibratePositives
from curation.stages.cluster_embeddings import ClusterEmbeddings
from curation.stages.embed_samples import EmbedSamples
from flows.recipe import Recipe
from training.config import TrainConfig
from training.model import ModelSpec
from training.objectives import InfoNCE
from training.planners import ClusterPlan


def fff(model: ModelSpec) -> Recipe:
    """Return the recipe; `model` embeds what the thresholds are quantiles of."""
    return Recipe(
        name="fff",
        paper="Bulat 2024, FFF: fixing flawed foundations in contrastive pre-training results in very strong "
        "vision-language models, CVPR, arXiv 2405.10286",
        differs="thresholds are quantiles of random pairs instead of absolute numbers; no pseudo-captions; the multi-positive "
        "sigmoid loss is not here yet, so the run trains with InfoNCE on clustered batches",
        stages=(EmbedSamples(model), ClusterEmbeddings(), CalibratePositives()),
        planner=ClusterPlan(),
        objectives=(InfoNCE(negatives=False),),
        train=TrainConfig(),
    )
