"""The control: plain CLIP fine-tuning, no curation beyond checking that images decode."""

from __future__ import annotations

from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.model.spec import ModelSpec
from training.objectives.info_nce import InfoNCE


def clip(model: ModelSpec) -> Recipe:
    """Return the recipe; `model` embeds nothing here."""
    return Recipe(
        name="clip",
        paper="Radford 2021, CLIP, ICML, arXiv 2103.00020",
        differs="fine-tuning with LoRA instead of pre-training",
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False),),
        train=TrainConfig(),
    )
