"""Objectives: named, weighted loss terms over a batch's features; a file for each family."""

from training.objectives.ce_clip import CrossModalRank, IntraModalContrast
from training.objectives.cutoff import CutoffContrast
from training.objectives.fairness import GroupAlignment, GroupParity
from training.objectives.further_texts import KnowledgeContrast, MultipleInstance, TextAnalogy
from training.objectives.info_nce import InfoNCE
from training.objectives.interface import (
    Features,
    Objective,
    Term,
    TextSlots,
    TokenFeatures,
    Triplets,
    check_weight,
    start_term,
)
from training.objectives.knowledge import Distillation, TripletContrast
from training.objectives.local_contrast import LocalContrast
from training.objectives.memory import MemoryContrast
from training.objectives.negative_contrast import NegativeContrast
from training.objectives.sigmoid import Sigmoid

__all__ = [
    "CrossModalRank",
    "CutoffContrast",
    "Distillation",
    "Features",
    "GroupAlignment",
    "GroupParity",
    "InfoNCE",
    "IntraModalContrast",
    "KnowledgeContrast",
    "LocalContrast",
    "MemoryContrast",
    "MultipleInstance",
    "NegativeContrast",
    "Objective",
    "Sigmoid",
    "Term",
    "TextAnalogy",
    "TextSlots",
    "TokenFeatures",
    "TripletContrast",
    "Triplets",
    "check_weight",
    "start_term",
]
