"""DAC: an image has a bag of texts, of which some must fit it better than their negatives and the bags of others."""

from __future__ import annotations

from curation.knowledge.interface import KnowledgeGraph
from curation.llm.interface import LanguageModel
from curation.models.masked_model import MaskedModel
from curation.rewriting.rules import RuleWriter
from curation.stages.captions.parse_captions import ParseCaptions
from flows.recipe import Recipe
from flows.recipe_blocks import caption_view_stages, svlc_negatives
from training.batches.basic import ShuffledPlan
from training.batches.text_sampling import FurtherTexts
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.objectives.further_texts import MultipleInstance
from training.objectives.info_nce import InfoNCE
from training.objectives.negative_contrast import NegativeContrast


def dac(masked: MaskedModel | None, graph: KnowledgeGraph, writer: LanguageModel | RuleWriter) -> Recipe:
    """Return the recipe: who fills blanks, who knows, who says captions in other words. The control is `svlc`."""
    return Recipe(
        name="dac",
        paper="Doveh 2023, Dense and aligned captions (DAC) promote compositional reasoning in VL models, NeurIPS, "
        "arXiv 2305.19595",
        differs="the bag is the image's other captions, rewrites and knowledge captions that its captions support, where ungrounded "
        "sentences of a language model have cost the paper retrieval; no captioner; negatives are the shown caption's, not each "
        "sentence's; rewrites are made by rules without --llm, negatives by lists without --masked-model",
        stages=(ParseCaptions(), *svlc_negatives(masked), *caption_view_stages(graph, writer)),
        planner=ShuffledPlan(),
        objectives=(
            InfoNCE(negatives=True),
            NegativeContrast(weight=1.0, gamma=0.0, smoothing=0.0),
            MultipleInstance(),
        ),
        negatives=UniformNegatives(choose=1),
        positives=FurtherTexts(count=10, knowledge=True),
        train=TrainConfig(),
    )
