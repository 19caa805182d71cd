"""TDA-SP: rewrites that vary one named thing of a caption at a time, so that each says what it varied."""

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


def tda_sp(writer: LanguageModel | RuleWriter) -> Recipe:
    """Return the recipe; `writer` must be a language model by the time it runs. The control of free rewrites is `laclip`."""
    families = () if isinstance(writer, RuleWriter) else ("tda_sp",)
    return Recipe(
        name="tda_sp",
        paper="this project's notes (structured prompts); near LaCLIP (Fan 2023, arXiv 2305.20088)",
        differs="fields are object, attribute, place and viewpoint; prompts are our own, and a rewrite that claims anything else than "
        "its caption is refused; needs --llm",
        stages=(ParseCaptions(), RewriteCaptions(writer, families=families)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False),),
        views=CaptionViews(),
        train=TrainConfig(),
        needs_llm=True,
    )
