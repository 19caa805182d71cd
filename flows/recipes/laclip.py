"""LaCLIP: rewrites of each caption take turns with it as the text of its image."""

from __future__ import annotations

from curation.llm.interface import LanguageModel
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.captions.rewrite_captions import RewriteCaptions
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.batches.text_sampling import CaptionViews
from training.config import TrainConfig
from training.objectives.info_nce import InfoNCE


def laclip(writer: LanguageModel | RuleWriter) -> Recipe:
    """Return the recipe; `writer` is a language model, or the rules that stand in without one."""
    return Recipe(
        name="laclip",
        paper="Fan 2023, Improving CLIP training with language rewrites, NeurIPS, arXiv 2305.20088",
        differs="every rewrite passes a gate; LoRA on a pretrained model instead of training from scratch; "
        "without --llm the rewrites are made by rules",
        stages=(ParseCaptions(), RewriteCaptions(writer)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False),),
        views=CaptionViews(),
        train=TrainConfig(),
    )
