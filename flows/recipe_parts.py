"""Parts that `--set` can name: another chooser of negatives, a further objective, another planner, a gate, a package's stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from curation.engine.stage import Stage
from data_manifests.errors import InputError
from data_manifests.plugins import load_offered, offered, offerer
from training.batches.basic import ClusterPlan, CurriculumPlan, ShuffledPlan
from training.batches.similarity import NeighbourPlan, SimclipPlan, WeightedPlan
from training.batches.text_sampling import CaptionViews, FurtherTexts
from training.false_negative_gate import PositiveGate
from training.hard_negatives import AdaptiveNegatives, UniformNegatives
from training.objectives import all_objectives
from training.objectives.interface import Objective
from training.train_parts import MADE_FEATURES

NamedParts = Mapping[str, Mapping[str, type[Any]]]
"""Field of a recipe -> name of a part that it may hold -> its class."""


def named_parts() -> NamedParts:
    """Return the parts of a recipe by name, ours and those that packages offer.

    Objectives are those whose features training can make; of stages there are those of packages only.
    """
    objectives = [kind for kind in all_objectives().values() if MADE_FEATURES.issuperset(_needs(kind))]
    return {
        "stages": _WithOffered({}, "stages", Stage),
        "objectives": _WithOffered(_by_name(objectives), "objectives", Objective),
        "negatives": _by_name((UniformNegatives, AdaptiveNegatives)),
        "planner": _WithOffered(
            _by_name((ShuffledPlan, ClusterPlan, CurriculumPlan, NeighbourPlan, SimclipPlan, WeightedPlan)),
            "planners",
            object,
        ),
        "views": _by_name((CaptionViews,)),
        "positives": _by_name((FurtherTexts,)),
        "gate": _by_name((PositiveGate,)),
    }


class _WithOffered(Mapping[str, type[Any]]):
    """Our parts, and those that installed packages offer: imported when they are named, ours first.

    Args:
        own: Ours by name.
        group: The packages' entry points.
        kind: What they must be.
    """

    def __init__(self, own: Mapping[str, type[Any]], group: str, kind: type[Any]) -> None:
        self._own, self._group, self._kind = own, group, kind

    def __getitem__(self, name: str) -> type[Any]:
        """Return a part's class.

        Raises:
            InputError: a package's cannot be imported, or is something else.
        """
        if name in self._own:
            return self._own[name]
        found = load_offered(self._group, name) if name in offered(self._group) else None
        if found is None:
            raise KeyError(name)
        if not isinstance(found, type) or not issubclass(found, self._kind) or getattr(found, "name", None) != name:
            raise InputError(
                f"{self._group[:-1]} '{name}' of {offerer(self._group, name)} is {found!r:.80}",
                allowed=f"an entry point that names a class with name = {name!r}"
                + (f", a subclass of {self._kind.__name__}" if self._kind is not object else ""),
                fix="correct that package",
            )
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (name for name in offered(self._group) if name not in self._own)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def make_part(kind: type[Any], before: Any) -> Any:
    """Return a part with its default settings; one that wraps another, as a curriculum does a planner, wraps the one before.

    What is of that kind already stays: weights would count twice.
    """
    if isinstance(before, kind) and dataclasses.fields(kind) and dataclasses.fields(kind)[0].name == "inner":
        return kind(before.inner)
    first = next(iter(dataclasses.fields(kind)), None)
    try:
        return kind(before) if first is not None and first.name == "inner" else kind()
    except TypeError as error:
        raise InputError(
            f"{kind.name} has no default settings: {error}", fix="make it in a recipe of your own: --recipe FILE.py"
        ) from None


def _needs(kind: type[Any]) -> tuple[str, ...]:
    found: tuple[str, ...] = kind().needs
    return found


def _by_name(kinds: Iterable[type[Any]]) -> dict[str, type[Any]]:
    return {kind.name: kind for kind in kinds}
