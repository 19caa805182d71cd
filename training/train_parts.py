"""What a recipe brings to training: planner, objectives, and what is drawn for each sample. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_manifests.errors import InputError
from training.batches.batch import Drawn

if TYPE_CHECKING:
    from training.batches.epoch import Planner
    from training.batches.text_sampling import CaptionViews, FurtherTexts
    from training.false_negative_gate import PositiveGate
    from training.hard_negatives import Negatives
    from training.objectives import Objective


@dataclass(frozen=True)
class TrainParts:
    """What a recipe brings to training.

    Attributes:
        name: The recipe's name.
        planner: Decides which samples meet in a batch.
        objectives: Loss terms; the loss is their weighted sum.
        negatives: Chooses each sample's negatives among those the data set holds; None trains without.
        views: Draws among a caption and its rewrites and knowledge captions; None shows captions only.
        positives: Draws further texts of each image for the objectives that want them.
        gate: Finds pairs of a batch that are no negatives.
    """

    name: str
    planner: Planner
    objectives: tuple[Objective, ...]
    negatives: Negatives | None = None
    views: CaptionViews | None = None
    positives: FurtherTexts | None = None
    gate: PositiveGate | None = None

    @property
    def drawn(self) -> Drawn:
        """What is drawn for each sample of a batch."""
        return Drawn(self.negatives, self.views, self.positives)

    @property
    def needs(self) -> frozenset[str]:
        """What the objectives need besides image, text and negatives; see `objectives.contract.OPTIONAL`."""
        return frozenset(name for objective in self.objectives for name in objective.needs)

    def __post_init__(self) -> None:
        """Check that there is something to minimise, from what there is.

        Raises:
            InputError: no objective, two of one name, or one that needs further texts where none are drawn.
        """
        names = [objective.name for objective in self.objectives]
        if not names or len(set(names)) != len(names):
            raise InputError(
                f"recipe {self.name!r}: objectives are {names}", allowed="one or more, each of its own name"
            )
        if "positives" in self.needs and self.positives is None:
            raise InputError(
                f"recipe {self.name!r}: an objective needs further texts of each image, the recipe draws none",
                fix="give the recipe positives=FurtherTexts(...)",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the recipe's training half as JSON values: each part's name and fields."""
        return {
            "recipe": self.name,
            "planner": describe(self.planner),
            "objectives": [describe(objective) for objective in self.objectives],
            "negatives": None if self.negatives is None else describe(self.negatives),
            "views": None if self.views is None else describe(self.views),
            "positives": None if self.positives is None else describe(self.positives),
            "gate": None if self.gate is None else describe(self.gate),
        }


def describe(part: Any) -> dict[str, Any]:
    """Return the name and fields of a planner, objective or choice of negatives, nested ones included."""
    values = {item.name: getattr(part, item.name) for item in dataclasses.fields(part)}
    shown = {name: describe(value) if dataclasses.is_dataclass(value) else value for name, value in values.items()}
    return {"name": part.name} | {k: list(v) if isinstance(v, tuple) else v for k, v in shown.items()}
