"""M4: drop samples so that gender is balanced and tells nothing of occupation, activity and age."""

from __future__ import annotations

from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.selection.balance_attributes import BalanceAttributes
from curation.stages.selection.tag_attributes import TagAttributes
from flows.recipe import Recipe
from flows.recipe_blocks import SCENE_TAGS, SCENES_BALANCED
from training.batches.basic import ShuffledPlan
from training.batches.similarity import WeightedPlan
from training.config import TrainConfig
from training.objectives.info_nce import InfoNCE


def m4() -> Recipe:
    """Return the recipe.

    The control of the same size: `--set stages.balance_attributes.choose=random`. Weights without dropping:
    `--set stages.balance_attributes.choose=weights`.
    """
    return Recipe(
        name="m4",
        paper="Alabdulmohsin 2024, CLIP the bias: how useful is balancing data in multimodal learning?, ICLR, "
        "arXiv 2403.04547",
        differs="attributes are those that captions tell, by our own lists; the algorithm is reconstructed from the paper; "
        "the random control of the same size is measured beside it",
        stages=(ParseCaptions(), TagAttributes(), BalanceAttributes(choose="drop")),
        planner=WeightedPlan(ShuffledPlan()),  # all weights are 1 where samples are dropped
        objectives=(InfoNCE(negatives=False),),
        train=TrainConfig(),
        scene_settings=(SCENE_TAGS, SCENES_BALANCED),
    )
