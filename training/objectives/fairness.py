"""Fairness terms: the same answers for each group of people, and the same fit of image and text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from training.objectives.interface import Objective, Term
from training.settings import check_settings

if TYPE_CHECKING:
    from torch import Tensor

    from training.features import Features

BY_GENDER = ("gender:female|gender:male",)


@dataclass(frozen=True)
class GroupParity(Objective):
    """The mean answer to a fixed set of prompts must not depend on the group.

    With f(x) = softmax(t image . prompts), prompts without a gradient: the sum over attributes of the L1 distance of
    each group's mean f to the mean of all groups' means. Group means are moving averages over batches; the gradient is
    the current batch's.

    Attributes:
        weight: Factor of this term in the loss, the fair contrastive loss's lambda.
        groups: What samples are grouped by: ``tag|tag|...`` of their ``attribute_tags``, or one tag against its absence.
        prompts: The texts; neutral ones, such as traits and occupations.
        smallest: Groups with fewer samples in a batch are left as they were.
        decay: Share of the moving averages that stays at each step.

    Source: demographic parity (Dwork et al. 2012) over CLIP's zero-shot distribution; group batches as in Luo et al.
        2024 (FairCLIP, arXiv 2403.19949).
    Differs: more than two groups; means over more than a batch. It also erases differences that are true of the
        world: that is what parity means.
    """

    name: ClassVar[str] = "group_parity"
    source: ClassVar[str] = "demographic parity over zero-shot answers; FairCLIP (arXiv 2403.19949)"
    needs: ClassVar[tuple[str, ...]] = ("groups", "prompts")

    weight: float = 0.1
    groups: tuple[str, ...] = BY_GENDER
    prompts: tuple[str, ...] = (
        "a person who leads", "a person who helps", "a person at work", "a person at home", "a strong person",
        "a friendly person", "a clever person", "a person to be afraid of",
    )  # fmt: skip
    smallest: int = 4
    decay: float = 0.9

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        check_settings(self, len(set(self.prompts)) == len(self.prompts) >= 2, "prompts", "two or more different ones")
        _check_groups(self)
        check_settings(self, 0 <= self.decay < 1, "decay", "0 to below 1")

    def start(self) -> ParityTerm:
        """Return the term of a new run, without averages yet."""
        return ParityTerm(self)


class ParityTerm(Term):
    """`GroupParity` during a run: keeps the moving averages, by ``attribute/group``."""

    def __init__(self, config: GroupParity) -> None:
        self._config = config
        self._means: dict[str, Tensor] = {}

    def __call__(self, features: Features) -> Tensor:
        """Return the loss, then move the averages."""
        import torch

        groups, prompts = features.require("groups"), features.require("prompts")
        answer = (features.logit_scale * features.image @ prompts.detach().T).softmax(dim=1)
        loss = 0.0 * features.image.sum()
        for attribute in range(groups.shape[1]):
            label = groups[:, attribute]
            found = [number for number in torch.unique(label).tolist() if number >= 0]
            means = {
                number: self._blend(f"{attribute}/{number}", answer[label == number].mean(dim=0))
                for number in found
                if int((label == number).sum()) >= self._config.smallest
            }
            prefix = f"{attribute}/"
            seen = {int(key.removeprefix(prefix)): mean for key, mean in self._means.items() if key.startswith(prefix)}
            known = seen | means
            if len(known) > 1:
                centre = torch.stack(list(known.values())).mean(dim=0)
                loss = loss + sum(((mean - centre).abs().sum() for mean in known.values()), torch.zeros_like(loss))
            self._means |= {f"{prefix}{number}": mean.detach() for number, mean in means.items()}
        return loss

    def _blend(self, key: str, now: Tensor) -> Tensor:
        """Return the moving average with this batch in it, whose gradient is this batch's in full."""
        if key not in self._means:
            return now
        before = self._means[key].to(now)
        return now + self._config.decay * (before - now.detach())

    def state_dict(self) -> dict[str, Any]:
        """Return the averages."""
        return {key: value.clone() for key, value in self._means.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with saved averages."""
        self._means = {key: value.clone() for key, value in state.items()}


@dataclass(frozen=True)
class GroupAlignment(Objective):
    """Image and text must fit each other equally well in every group: the distribution of their similarities is one.

    With d the similarities of all pairs in the batch and d_g those of a group: the mean over groups and attributes of
    the squared 2-Wasserstein distance of d and d_g.

    Attributes:
        weight: Factor of this term in the loss.
        groups: As of `GroupParity`.
        smallest: Groups with fewer samples in a batch are left out.

    Source: Luo et al. 2024 (FairCLIP, arXiv 2403.19949), equation 4.
    Differs: on the line the distance is exact by sorting, where theirs is a Sinkhorn estimate with a blur of 1e-4; both
        sides are plain similarities, where the released code scales one side only.
    """

    name: ClassVar[str] = "group_alignment"
    source: ClassVar[str] = "Luo et al. 2024 (FairCLIP, arXiv 2403.19949), equation 4"
    needs: ClassVar[tuple[str, ...]] = ("groups",)

    weight: float = 1.0
    groups: tuple[str, ...] = BY_GENDER
    smallest: int = 4

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            InputError: a value is out of range.
        """
        super().__post_init__()
        _check_groups(self)

    def __call__(self, features: Features) -> Tensor:
        """Return the mean over groups; 0 when the batch has no large enough group."""
        import torch

        own = (features.image * features.text).sum(dim=1)
        terms = [
            wasserstein(own[label == number], own)
            for label in features.require("groups").T
            for number in torch.unique(label).tolist()
            if number >= 0 and int((label == number).sum()) >= self.smallest
        ]
        return torch.stack(terms).mean() if terms else 0.0 * own.sum()


def _check_groups(objective: GroupParity | GroupAlignment) -> None:
    names = [attribute.split("|") for attribute in objective.groups]
    fits = bool(names) and all(all(tags) and len(set(tags)) == len(tags) for tags in names)
    check_settings(objective, fits, "groups", "one attribute or more, each of different tags with | between them")
    check_settings(objective, objective.smallest >= 1, "smallest", "1 or more")


def wasserstein(left: Tensor, right: Tensor) -> Tensor:
    """Return the squared 2-Wasserstein distance of two samples on the line, by their quantile functions."""
    import torch

    steps = [
        torch.arange(1, len(side) + 1, device=side.device, dtype=torch.float64) / len(side) for side in (left, right)
    ]
    edges = torch.unique(torch.cat(steps))
    width = torch.diff(edges, prepend=edges.new_zeros(1))
    middle = edges - width / 2
    at = [(middle * len(side)).long().clamp_max(len(side) - 1) for side in (left, right)]
    apart = left.sort().values[at[0]] - right.sort().values[at[1]]
    return (width.to(apart.dtype) * apart.square()).sum()
