"""CoN-CLIP: captions that deny what the image shows are negatives, and denials of what it does not show are true of it."""

from __future__ import annotations

from curation.contrasts.vocabulary import VocabularyFile
from curation.knowledge.interface import KnowledgeGraph
from curation.stages.captions.parse_captions import ParseCaptions
from curation.stages.negatives.find_false_negatives import FindFalseNegatives
from curation.stages.negatives.mine_contrasts import MineContrasts
from curation.stages.negatives.negate_captions import NegateCaptions
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.batches.text_sampling import CaptionViews
from training.config import TrainConfig
from training.hard_negatives import UniformNegatives
from training.objectives.info_nce import InfoNCE


def con_clip(graph: KnowledgeGraph, vocabulary: VocabularyFile | None) -> Recipe:
    """Return the recipe: who knows synonyms; what people decided about words that exclude each other.

    Without true denials, which teaches only that "no" is false: `--set views=null`.
    """
    contrasts = MineContrasts(graph=graph, vocabulary=vocabulary)
    return Recipe(
        name="con_clip",
        paper='Singh 2024, Learn "no" to say "yes" better: improving vision-language models via negations, arXiv 2403.20312',
        differs="negations are made by rules instead of a language model, and each has a true counterpart that denies something "
        "absent; words that the corpus sets against each other are denied, too, so that any kind of caption can be; no distractor "
        "images; LoRA on both towers instead of the text tower alone (train.lora_targets=text)",
        stages=(
            ParseCaptions(),
            contrasts,
            FindFalseNegatives(("mined_negatives",), graph, "exactly"),
            NegateCaptions(("true_negatives",)),
        ),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=True),),
        negatives=UniformNegatives(choose=1),
        views=CaptionViews(),
        train=TrainConfig(),
    )
