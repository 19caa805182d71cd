"""What an objective is: a frozen dataclass that declares which features it needs and returns a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from training.settings import check_settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.features import Features


class Term(ABC):
    """A loss term during one run. What it learns is optimised with the model, and its state goes into checkpoints."""

    @abstractmethod
    def __call__(self, features: Features) -> Tensor:
        """Return the unweighted loss, a scalar."""

    def parameters(self) -> Sequence[torch.nn.Parameter]:
        """Return parameters to train besides the model's; none by default."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as numbers and tensors; empty by default."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most terms have no state
        """Restore what `state_dict` returned."""


class Objective(Term):
    """A loss term as a recipe names it. A frozen dataclass: its fields are its config, `weight` among them.

    One with state overrides `start` and leaves the loss to the `Term` that it returns.

    Attributes:
        name: Its name in recipes, logs and checkpoints.
        source: The paper it comes from.
        needs: Fields of `training.features.Features` that it cannot do without, besides image, text and logit_scale.
            `train()` refuses, before the first step, an objective whose needs the data set, the recipe or the model
            cannot meet. A single batch may still lack them (no sample with a negative, say): the loss is then 0, with
            a gradient of 0.
        weight: Factor of this term in the loss, above 0.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    weight: float

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of `Features` that it cannot do without; see the class."""
        return ()

    def __post_init__(self) -> None:
        """Check the weight.

        Raises:
            InputError: it is not a number above 0.
        """
        check_settings(self, 0 < self.weight < float("inf"), "weight", "a number above 0")

    def start(self) -> Term:
        """Return the term of a new run: the objective itself unless it has state."""
        return self

    def __call__(self, features: Features) -> Tensor:
        """Return the unweighted loss, a scalar; of a term that has just started if the objective has state."""
        return self.start()(features)
