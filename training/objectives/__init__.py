"""Objectives: named, weighted loss terms over a batch's features; a file for each family."""

from training.objectives.contract import (
    Features,
    Objective,
    Term,
    TextSlots,
    TokenFeatures,
    Triplets,
    check_weight,
    start_term,
)
from training.objectives.info_nce import InfoNCE
from training.objectives.negative_contrast import NegativeContrast

__all__ = [
    "Features",
    "InfoNCE",
    "NegativeContrast",
    "Objective",
    "Term",
    "TextSlots",
    "TokenFeatures",
    "Triplets",
    "check_weight",
    "start_term",
]
