"""SigLIP: each image and text is judged by itself, true or not, with a learned bias; the data are CLIP's."""

from __future__ import annotations

from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.objectives.sigmoid import Sigmoid


def siglip() -> Recipe:
    """Return the recipe.

    The same loss in any other recipe: `--set objectives.info_nce=null --set objectives.sigmoid=default`; negatives, their
    weights and a gate's labels count in it as in InfoNCE.
    """
    return Recipe(
        name="siglip",
        paper="Zhai 2023, Sigmoid loss for language image pre-training, ICCV, arXiv 2303.15343",
        differs="a CLIP with its own scale is tuned instead of trained from scratch, so the bias starts where the first batch's "
        "false pairs are as likely as one in a batch, not at -10; LoRA",
        planner=ShuffledPlan(),
        objectives=(Sigmoid(negatives=False),),
        train=TrainConfig(),
    )
