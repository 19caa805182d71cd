"""Parts that `--set` can name: another chooser of negatives, a further objective, another planner, a gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from training.batches.basic import ClusterPlan, CurriculumPlan, ShuffledPlan
from training.batches.similarity import NeighbourPlan, SimclipPlan, WeightedPlan
from training.batches.text_sampling import CaptionViews, FurtherTexts
from training.false_negative_gate import PositiveGate
from training.hard_negatives import AdaptiveNegatives, UniformNegatives
from training.objectives import all_objectives
from training.train_parts import MADE_FEATURES

NamedParts = Mapping[str, Mapping[str, type[Any]]]
"""Field of a recipe -> name of a part that it may hold -> its class."""


def named_parts() -> NamedParts:
    """Return the parts of a recipe's training half by name; objectives are those whose features training can make."""
    objectives = [kind for kind in all_objectives().values() if MADE_FEATURES.issuperset(_needs(kind))]
    return {
        "objectives": _by_name(objectives),
        "negatives": _by_name((UniformNegatives, AdaptiveNegatives)),
        "planner": _by_name((ShuffledPlan, ClusterPlan, CurriculumPlan, NeighbourPlan, SimclipPlan, WeightedPlan)),
        "views": _by_name((CaptionViews,)),
        "positives": _by_name((FurtherTexts,)),
        "gate": _by_name((PositiveGate,)),
    }


def make_part(kind: type[Any], before: Any) -> Any:
    """Return a part with its default settings; one that wraps another, as a curriculum does a planner, wraps the one before.

    What is of that kind already stays: weights would count twice.
    """
    if isinstance(before, kind) and dataclasses.fields(kind) and dataclasses.fields(kind)[0].name == "inner":
        return kind(before.inner)
    first = next(iter(dataclasses.fields(kind)), None)
    return kind(before) if first is not None and first.name == "inner" else kind()


def _needs(kind: type[Any]) -> tuple[str, ...]:
    found: tuple[str, ...] = kind().needs
    return found


def _by_name(kinds: Iterable[type[Any]]) -> dict[str, type[Any]]:
    return {kind.name: kind for kind in kinds}
