"""READ-CLIP's alignment: NegCLIP's loss with three negatives a caption, and paraphrases that must find their caption."""

from __future__ import annotations

from curation.llm.interface import LanguageModel
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.captions.rewrite_captions import RewriteCaptions
from curation.stages.negatives.swap_words import SwapWords
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.batches.text_sampling import FurtherTexts
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.objectives.further_texts import ParaphraseContrast
from training.objectives.info_nce import InfoNCE


def read_clip(writer: LanguageModel | RuleWriter) -> Recipe:
    """Return the recipe; `writer` says captions in other words. The control is `--set objectives.paraphrase_contrast=null`."""
    return Recipe(
        name="read_clip",
        paper="READ-CLIP 2025, NeurIPS, arXiv 2510.16540",
        differs="no reconstruction of captions by a frozen decoder, the other of its two terms; paraphrases are made by rules "
        "without --llm, and a caption without one takes no part; a caption without a swap has no negative; LoRA",
        stages=(ParseCaptions(), SwapWords(), RewriteCaptions(writer)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=True), ParaphraseContrast()),
        negatives=UniformNegatives(choose=3),
        positives=FurtherTexts(captions=False, of_shown=True),
        train=TrainConfig(),
    )
