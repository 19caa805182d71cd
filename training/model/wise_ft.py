"""WiSE-FT: weights between a base model and one tuned from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from data_manifests.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from training.model.clip_model import ClipModel


def blend(base: ClipModel, tuned: ClipModel, shares: Iterable[float]) -> Iterator[ClipModel]:
    """Yield `tuned` set to base + share * (tuned - base) for each share in turn, in place; 0 is the base, 1 as it was.

    With adapters merged, as runs are loaded, this is the straight line between the two sets of weights. What lies before the
    first tensor in which they differ becomes the prefix of each of `tuned`'s towers. A base without the context tokens of
    `tuned` counts as one with the context that its tuning began with.

    Args:
        base: What the tuned model started from.
        tuned: Changed in place.
        shares: 0 to 1 each.

    Raises:
        InputError: a share is out of range, or the models are not of one architecture.

    Source: Wortsman et al. 2022 (WiSE-FT, arXiv 2109.01903), equation 1.
    Differs: none.
    """
    import torch

    from training.model.context_tokens import starting_context

    changing = tuned.module.state_dict()
    start = starting_context(tuned) | base.module.state_dict()
    odd = sorted(start.keys() ^ changing.keys()) or [
        name for name in changing if start[name].shape != changing[name].shape
    ]
    if odd:
        raise InputError(
            f"the two models differ in the tensor '{odd[0]}'",
            allowed="a run and the model it was started from",
            fix="give the --model of the run's training as --blend",
        )
    end = {
        name: value.clone()
        for name, value in changing.items()
        if value.is_floating_point() and not torch.equal(value, start[name])
    }
    tuned.cut_at_first_changed(end)
    for share in shares:
        if not 0 <= share <= 1:
            raise InputError(f"share of the tuned model: {share}", allowed="0 to 1")
        with torch.no_grad():
            for name, value in end.items():
                changing[name].copy_(torch.lerp(start[name], value, share))
        yield tuned


def step_back(changing: Mapping[str, Tensor], start: Mapping[str, Tensor], share: float) -> None:
    """Put what training has changed at start + share * (end - start), in place, with adapters as they are.

    An adapter adds B A to a weight and began with B = 0, so that its B takes the share and its A stays.

    Args:
        changing: The tuned tensors by name, adapters not merged; changed in place.
        start: The same before the first step.
        share: 0 to 1.

    Source: as `blend`.
    Differs: none.
    """
    import torch

    with torch.no_grad():
        for name, value in changing.items():
            if ".lora_B." in name:
                value.mul_(share)
            elif ".lora_A." not in name and value.is_floating_point():
                value.copy_(torch.lerp(start[name], value, share))
