"""TripletCLIP's text side: a language model writes a caption that is wrong in one thing."""

from __future__ import annotations

from curation.language.rule_rewrites import RuleWriter
from curation.models.language_model import LanguageModel
from curation.stages.ask_negatives import AskNegatives
from curation.stages.parse_captions import ParseCaptions
from flows.recipe import Recipe
from training.config import TrainConfig
from training.mining import UniformNegatives
from training.objectives import InfoNCE
from training.planners import ShuffledPlan


def triplet_clip(writer: LanguageModel | RuleWriter) -> Recipe:
    """Return the recipe; `writer` must be a language model by the time it runs."""
    return Recipe(
        name="triplet_clip",
        paper="Patel 2024, TripletCLIP: improving compositional reasoning of CLIP via synthetic vision-language negatives, "
        "NeurIPS, arXiv 2411.02545",
        differs="no pictures are made for the negative captions, so only the half of the loss without them is here; prompts are our "
        "own and answers pass a gate; needs --llm; LoRA on a pretrained model instead of training from scratch",
        stages=(ParseCaptions(), AskNegatives(writer)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=True),),
        negatives=UniformNegatives(choose=1),
        train=TrainConfig(),
    )
