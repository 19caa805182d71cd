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
    """Return the recipe; neighbours in the plan are joined, so that the plan is the list of partners."""
    return Recipe(
        name="clic",
        paper="CLIC: compositional awareness in CLIP, NeurIPS 2025, arXiv 2505.24424",
        differs="partners are planned, and each of the two pictures is prepared as every other (there, joined ones had other "
        "statistics); InfoNCE on single samples at every step instead of every second; no exchange where the captions share no "
        "word class; LoRA on the text tower instead of its weights",
        stages=(ParseCaptions(), ListWords()),
        planner=ShuffledPlan(),
        objectives=(InfoNCE(negatives=False), JoinedContrast()),
        train=TrainConfig(lora_targets="text"),
    )
