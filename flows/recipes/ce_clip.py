"""CE-CLIP: four typed negatives of each caption, a mask where there is none of a type."""

from __future__ import annotations

from curation.models.masked_model import MaskedModel
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.bind_attributes import BindAttributes
from curation.stages.negatives.fill_masks import FillMasks
from curation.stages.negatives.replace_words import ReplaceWords
from curation.stages.negatives.swap_words import SwapWords
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.objectives.ce_clip import CrossModalRank, IntraModalContrast
from training.objectives.info_nce import InfoNCE


def ce_clip(masked: MaskedModel | None) -> Recipe:
    """Return the recipe; `masked` fills blanks, and without one our lists of words take its place."""
    replaced = ReplaceWords(lists=("colour", "material", "size", "state", "form", "opposite", "object", "action"))
    return Recipe(
        name="ce_clip",
        paper="Zhang 2024, Contrasting intra-modal and ranking cross-modal hard negatives to enhance visio-linguistic "
        "compositional understanding, CVPR, arXiv 2306.08832",
        differs="relations are swaps of any two nouns, adjectives and so on, not of the first two nouns by plain text; fills pass "
        "checks and a caption without a word to hide has no such negative; without --masked-model words come from lists",
        stages=(ParseCaptions(), SwapWords(), BindAttributes(), replaced if masked is None else FillMasks(masked)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=True), IntraModalContrast(), CrossModalRank()),
        negatives=UniformNegatives(choose=4, operations_in_turn=True),
        train=TrainConfig(),
    )
