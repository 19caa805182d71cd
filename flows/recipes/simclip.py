"""SimCLIP: batches made of clusters around drawn pivots; the data and the loss are CLIP's."""

from __future__ import annotations

from curation.stages.embedding.embed_samples import EmbedSamples
from curation.stages.embedding.find_neighbours import FindNeighbours
from flows.recipe import Recipe
from training.batches.similarity import SimclipPlan
from training.config import TrainConfig
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE


def simclip(model: ModelSpec) -> Recipe:
    """Return the recipe; `model` embeds what batches are clustered by.

    The authors' warm-up: `--set planner.doubling_epochs=[4,6,8,10,12,14,16,18]`.
    """
    return Recipe(
        name="simclip",
        paper="SimCLIP, FITML workshop at NeurIPS 2024",
        differs="clusters by image; half of each batch comes in clusters, where the authors' own command takes all of it "
        "(planner.fraction=1); a sample comes at most once an epoch; no warm-up of the share unless asked for, as runs are "
        "short; LoRA",
        stages=(EmbedSamples(model), FindNeighbours()),
        planner=SimclipPlan(),
        objectives=(InfoNCE(negatives=False),),
        train=TrainConfig(),
    )
