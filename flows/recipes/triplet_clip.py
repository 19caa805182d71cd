"""TripletCLIP's text side: a language model writes a caption that is wrong in one thing."""

from __future__ import annotations

from curation.llm.interface import LanguageModel
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.ask_negatives import AskNegatives
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.objectives.info_nce import InfoNCE


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
        needs_llm=True,
    )
