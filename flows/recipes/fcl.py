"""FCL: fair contrastive loss, in which the answers to neutral questions must not depend on a person's group."""

from __future__ import annotations

from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.selection.tag_attributes import TagAttributes
from flows.recipe import Recipe
from flows.recipe_blocks import SCENE_TAGS, SCENES_COMPARED
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.objectives.fairness import GroupParity
from training.objectives.info_nce import InfoNCE


def fcl() -> Recipe:
    """Return the recipe.

    Groups of one's own, from a column of the source: `--set 'stages.tag_attributes.columns=["skin"]'` and `--set
    'objectives.group_parity.groups=["skin:light|skin:dark"]'`. Lambda: `--set objectives.group_parity.weight=VALUE`.
    """
    return Recipe(
        name="fcl",
        paper="this project; near demographic parity (Dwork 2012), FairCLIP (Luo 2024, arXiv 2403.19949)",
        differs="the distribution that must be equal is a softmax over neutral prompts, as contrastive training has no classes; "
        "means of groups are averages over batches; true differences between groups are erased, too",
        stages=(ParseCaptions(), TagAttributes()),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), GroupParity()),
        train=TrainConfig(),
        scene_settings=(SCENE_TAGS, *SCENES_COMPARED),
    )
