"""SVLC (TSVLC): negatives from lists of words and from a masked model, positives in other words."""

from __future__ import annotations

from curation.llm.interface import LanguageModel
from curation.models.masked_model import MaskedModel
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.captions.rewrite_captions import RewriteCaptions
from flows.recipe import Recipe
from flows.recipe_blocks import svlc_negatives
from training.batches.basic import ShuffledPlan
from training.batches.text_sampling import FurtherTexts
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.objectives.further_texts import TextAnalogy
from training.objectives.info_nce import InfoNCE
from training.objectives.negative_contrast import NegativeContrast


def svlc(masked: MaskedModel | None, writer: LanguageModel | RuleWriter) -> Recipe:
    """Return the recipe; `masked` fills blanks where there is one, `writer` says captions in other words."""
    families = () if isinstance(writer, RuleWriter) else ("svlc",)
    return Recipe(
        name="svlc",
        paper="Doveh 2023, Teaching structured vision and language concepts to vision and language models, CVPR, "
        "arXiv 2211.11733",
        differs="lists are our own and bound to a context; both kinds of negatives are kept, where a coin decides there; without "
        "--masked-model lists alone; paraphrases are made by rules without --llm",
        stages=(ParseCaptions(), *svlc_negatives(masked), RewriteCaptions(writer, families=families)),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=True), NegativeContrast(weight=1.0, gamma=0.0, smoothing=0.0), TextAnalogy()),
        negatives=UniformNegatives(choose=1),
        positives=FurtherTexts(captions=False, of_shown=True),
        train=TrainConfig(),
    )
