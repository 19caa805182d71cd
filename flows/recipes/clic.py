"""CLIC: two pictures as one with the captions of both, against the same captions with a word of each exchanged."""

from __future__ import annotations

from curation.stages.captions.list_words import ListWords
from curation.stages.captions.parse_captions import ParseCaptions
from flows.recipe import Recipe
from training.batches.basic import ShuffledPlan
from training.config import TrainConfig
from training.objectives.info_nce import InfoNCE
from training.objectives.joined_contrast import JoinedContrast


def clic() -> Recipe:
    """Return the recipe; neighbours in the plan are joined, so that the plan is the list of partners.

    Every second step is plain InfoNCE on single samples; `--set in_turn=false` adds both up at every step.
    """
    return Recipe(
        name="clic",
        paper="CLIC: compositional awareness in CLIP, NeurIPS 2025, arXiv 2505.24424",
        differs="partners are planned, and each of the two pictures is prepared as every other (there, joined ones had other "
        "statistics); no exchange where the captions share no word class; LoRA on the text tower instead of its weights",
        stages=(ParseCaptions(), ListWords()),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), JoinedContrast()),
        train=TrainConfig(lora_targets="text"),
        in_turn=True,
    )
